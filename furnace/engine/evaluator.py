"""Scores of checkpoints on a list of labelled images, their log, and pictures of the predictions."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from furnace.base_model import DualNetwork
from furnace.datasets.classes import Classes
from furnace.datasets.eval_set import EvalSet, samples
from furnace.datasets.normalize import Normalize
from furnace.engine.config import Config
from furnace.engine.distributed import ALONE, World
from furnace.engine.inference import Inference
from furnace.engine.precision import autocast, choose_amp
from furnace.seg_opr.metric import confusion_matrix, labelled_iou, scores
from furnace.utils.pictures import save_prediction


@dataclass(frozen=True)
class Tally:
    """What one pass over the images gives, by branch where it differs, on the CPU.

    Attributes:
        confusion: int64 (C, C).
        image_iou: float64 (images), in the order of the list; see ``labelled_iou``.
        agreement: share of all pixels, void ones too, to which both branches give one class; None for one branch.
    """

    confusion: dict[int, Tensor]
    image_iou: dict[int, Tensor]
    agreement: float | None


class Evaluator:
    """Evaluates branches on a list of images.

    Args:
        config: the experiment's configuration.
        network: on ``device``; its weights may be changed between calls.
        data: images with labels.
        classes: names and colours.
        device: where the work is done.
        verbose: show the running mean IoU.
        world: the processes that evaluate together; process r of n holds the images r, r + n, … of the list.
    """

    def __init__(
        self,
        config: Config,
        network: DualNetwork,
        data: EvalSet,
        classes: Classes,
        device: torch.device,
        verbose: bool = False,
        world: World = ALONE,
    ):
        self.config, self.network, self.data, self.classes = config, network, data, classes
        self.device, self.verbose, self.world = device, verbose, world
        self.normalize = Normalize(config.image_mean, config.image_std).to(device)

    def confusion(self, branch: int, title: str = '', stopped: Callable[[], bool] = lambda: False) -> Tensor | None:
        """Confusion matrix of a branch over all images, int64 (C, C) on the CPU; None where it was stopped."""
        tally = self.tally([branch], title, stopped=stopped)
        return tally and tally.confusion[branch]

    def tally(
        self,
        branches: Sequence[int],
        title: str = '',
        pictures: Mapping[int, Path] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tally | None:
        """One pass over all images, which are read once for both branches; None where it was stopped.

        Args:
            branches: [1], [2] or [1, 2].
            title: for the progress bar.
            pictures: by branch, a folder for pictures of every prediction.
            stopped: asked before each image, in any process.
        """
        classes, palette = self.config.num_classes, self.classes.palette()
        infer = {branch: self.inference(branch) for branch in branches}
        zeros = torch.zeros(classes, classes, dtype=torch.int64, device=self.device)
        confusion = {branch: zeros.clone() for branch in branches}
        image_iou = {branch: [] for branch in branches}
        agreed = torch.zeros(2, dtype=torch.int64, device=self.device)  # pixels that agree, and all
        images = samples(self.data, self.config.num_workers, self.device.type == 'cuda')
        bar = tqdm(images, title, len(self.data), unit='image', leave=False, disable=self.world.rank > 0)
        for sample in bar:
            if stopped():
                break
            image = sample.image.numpy()
            label = sample.label.to(self.device, non_blocking=True)
            predictions = {branch: infer[branch].labels(image) for branch in branches}
            for branch, prediction in predictions.items():
                counts = confusion_matrix(prediction, label, classes)
                confusion[branch] += counts
                image_iou[branch].append(labelled_iou(counts))
                if pictures:
                    save_prediction(
                        pictures[branch], sample.name, image, prediction.cpu().numpy(), sample.label.numpy(), palette
                    )
            if len(predictions) == 2:
                agreed[0] += torch.eq(*predictions.values()).sum()
                agreed[1] += label.numel()
            if self.verbose:
                means = (f'{100 * scores(counts).mean_iou:.2f}' for counts in confusion.values())
                bar.set_postfix_str(f'mean IoU {" | ".join(means)}')
        if self.world.most(int(stopped()))[0]:
            return None
        same, pixels = self.world.sum(agreed).tolist()
        return Tally(
            {branch: self.world.sum(counts).cpu() for branch, counts in confusion.items()},
            {branch: self._whole_list(values) for branch, values in image_iou.items()},
            same / pixels if pixels else None,
        )

    def inference(self, branch: int) -> Inference:
        """A branch, in eval mode, with the windows, scales and flip of the configuration."""
        C = self.config
        self.network.eval()
        return Inference(
            autocast(lambda images: self.network(images, step=branch), choose_amp(C.amp, self.device), self.device),
            self.normalize,
            C.eval_crop_size,
            C.eval_stride_rate,
            C.eval_scale_array,
            C.eval_flip,
            C.eval_whole,
            C.eval_batch_size,
        )

    def _whole_list(self, values: list[Tensor]) -> Tensor:
        """A value for each image of the list, from those of this process's images."""
        length = self.world.sum(torch.tensor(len(self.data))).item()
        whole = torch.zeros(length, dtype=torch.float64)
        whole[self.world.rank :: self.world.size] = torch.stack(values).cpu() if values else whole[:0]
        return self.world.sum(whole)


def table(confusion: Tensor, classes: Classes) -> str:
    """The per-class IoU and the means, in percent, as lines of text."""
    result = scores(confusion)
    rows = [
        (f'{number:3d} {name}', iou) for number, (name, iou) in enumerate(zip(classes.names, result.iou, strict=True))
    ]
    rows += [
        ('mean IoU', result.mean_iou),
        ('mean IoU without class 0', result.mean_iou_no_background),
        ('pixel accuracy', result.pixel_accuracy),
    ]
    width = max(len(name) for name, _ in rows)
    return '\n'.join(f'{name:<{width}}  {_percent(value):>6}' for name, value in rows)


def _percent(value: float) -> str:
    return '–' if math.isnan(value) else f'{100 * value:.2f}'


def record(
    checkpoint: str,
    content: dict,
    branch: int,
    confusion: Tensor,
    classes: Classes,
    images: int,
    agreement: float | None = None,
) -> dict:
    """One model's result as plain values for ``val_*.json``: scores in 0 … 1, None for nan.

    Args:
        checkpoint: its path.
        content: what is in it.
        images: how many were evaluated.
        agreement: with the other branch, see ``Tally``; None where that was not evaluated.
    """
    result = asdict(scores(confusion))
    trained = content.get('config') or {}  # released checkpoints have none
    iou = {name: _plain(value) for name, value in zip(classes.names, result.pop('iou'), strict=True)}
    return {
        'checkpoint': checkpoint,
        'epoch': content.get('epoch'),
        'iteration': content.get('iteration'),
        'trained': {name: trained.get(name) for name in ('method', 'backbone', 'labeled_ratio', 'seed')},
        'branch': branch,
        'images': images,
        **{name: _plain(value) for name, value in result.items()},
        'agreement': agreement,
        'iou': iou,
        'confusion': confusion.tolist(),
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def best(results: list[dict]) -> dict:
    """The result with the greatest mean IoU."""
    return max(results, key=lambda result: -1 if result['mean_iou'] is None else result['mean_iou'])


def link_last(path: Path, logger: logging.Logger) -> None:
    """``val_last.log`` (or .json) beside ``path``: a link to it."""
    link = path.with_name(f'val_last{path.suffix}')
    try:
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
    except OSError as error:
        logger.warning('%s: cannot be linked: %s', link, error.strerror)
