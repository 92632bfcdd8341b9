"""Scores of checkpoints on a list of labelled images, their log, and pictures of the predictions."""

import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
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
from furnace.engine.inference import Inference, label_map
from furnace.engine.precision import autocast, choose_amp
from furnace.seg_opr.metric import confusion_matrix, scores
from furnace.utils.pictures import save_prediction


class Evaluator:
    """Evaluates one branch at a time.

    Args:
        config: the experiment's configuration.
        network: on ``device``; its weights may be changed between calls.
        data: images with labels.
        classes: names and colours.
        device: where the work is done.
        verbose: show the running mean IoU.
        world: the processes that evaluate together, each with its own part of the images.
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

    def confusion(
        self,
        branch: int,
        title: str = '',
        pictures: Path | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tensor | None:
        """Confusion matrix of a branch over all images, int64 (C, C) on the CPU; None where it was stopped.

        Args:
            branch: 1 or 2.
            title: for the progress bar.
            pictures: folder for pictures of every prediction.
            stopped: asked before each image, in any process.
        """
        C = self.config
        self.network.eval()
        infer = Inference(
            autocast(lambda images: self.network(images, step=branch), choose_amp(C.amp, self.device), self.device),
            self.normalize,
            C.eval_crop_size,
            C.eval_stride_rate,
            C.eval_scale_array,
            C.eval_flip,
            C.eval_whole,
            C.eval_batch_size,
        )
        palette = self.classes.palette()
        total = torch.zeros(C.num_classes, C.num_classes, dtype=torch.int64, device=self.device)
        images = samples(self.data, C.num_workers, self.device.type == 'cuda')
        bar = tqdm(images, title, len(self.data), unit='image', leave=False, disable=self.world.rank > 0)
        for sample in bar:
            if stopped():
                break
            image = sample.image.numpy()
            prediction = label_map(infer(image))
            label = sample.label.to(self.device, non_blocking=True)
            total += confusion_matrix(prediction, label, C.num_classes)
            if self.verbose:
                bar.set_postfix_str(f'mean IoU {100 * scores(total).mean_iou:.2f}')
            if pictures is not None:
                save_prediction(pictures, sample.name, image, prediction.cpu().numpy(), sample.label.numpy(), palette)
        if self.world.most(int(stopped()))[0]:
            return None
        return self.world.sum(total).cpu()


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


def record(checkpoint: str, content: dict, branch: int, confusion: Tensor, classes: Classes, images: int) -> dict:
    """One model's result as plain values for ``val_*.json``: scores in 0 … 1, None for nan."""
    result = asdict(scores(confusion))
    trained = content.get('config') or {}  # released checkpoints have none
    iou = {name: _plain(value) for name, value in zip(classes.names, result.pop('iou'), strict=True)}
    return {
        'checkpoint': checkpoint,
        'epoch': content.get('epoch'),
        'trained': {name: trained.get(name) for name in ('method', 'backbone', 'labeled_ratio', 'seed')},
        'branch': branch,
        'images': images,
        **{name: _plain(value) for name, value in result.items()},
        'iou': iou,
        'confusion': confusion.tolist(),
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1, default=str) + '\n', encoding='utf-8')


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
