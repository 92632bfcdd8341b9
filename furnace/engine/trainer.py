"""The training loop: batches, steps, learning rate, logs and checkpoints."""

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tensorboardX import SummaryWriter
from torch import Tensor
from tqdm import tqdm

from furnace.base_model import DualNetwork, load_network
from furnace.datasets.normalize import Normalize
from furnace.datasets.train_set import Batch, TrainSet, batches
from furnace.engine import checkpoint
from furnace.engine.config import Config, plain
from furnace.engine.lr import param_groups, poly_lr
from furnace.engine.step import Step
from furnace.seg_opr.cutmix import draw_boxes, paint_masks
from furnace.utils.errors import UserError


class Trainer:
    """Trains the two branches as the configuration says.

    Args:
        config: the experiment's configuration.
        network: on ``device``.
        criterion: supervised loss of logits and labels.
        data: the streams of samples.
        device: where the steps run.
    """

    def __init__(
        self,
        config: Config,
        network: DualNetwork,
        criterion: Callable[[Tensor, Tensor], Tensor],
        data: TrainSet,
        device: torch.device,
    ):
        self.config, self.network, self.data, self.device = config, network, data, device
        self.iteration = 0
        self.total = config.nepochs * config.niters_per_epoch
        self.step = Step(network, config.num_classes, criterion, config.method, config.unsup_weight, config.reweight)
        self.normalize = Normalize(config.image_mean, config.image_std).to(device)
        self.optimizers = [
            torch.optim.SGD(param_groups(branch, config.lr, config.weight_decay), momentum=config.momentum)
            for branch in network.branches
        ]

    def run(self, logger: logging.Logger) -> None:
        """Train from the present iteration to the end, saving after every epoch.

        Args:
            logger: for the lines that a person reads.
        """
        C = self.config
        self.network.train()
        writer = SummaryWriter(str(Path(C.log_dir, 'tb')))
        bar = tqdm(
            total=self.total, initial=self.iteration, unit='it', mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True,
        )  # fmt: skip
        with bar, writer:
            while self.iteration < self.total:
                epoch, first = divmod(self.iteration, C.niters_per_epoch)
                bar.set_description(f'epoch {epoch + 1}/{C.nepochs}', refresh=False)
                self.data.set_epoch(epoch)
                started = time.monotonic()
                for batch in batches(self.data, C.batch_size, first, C.num_workers, self.device.type == 'cuda'):
                    losses = self.iterate(batch)
                    if self.iteration % C.log_every == 0 or self.iteration % C.niters_per_epoch == 0:
                        figures = self._read(losses)
                        bar.set_postfix_str(' '.join(f'{name} {value:.4g}' for name, value in figures.items()))
                        logger.debug('iteration %d: %s', self.iteration, figures)
                        for name, value in figures.items():
                            writer.add_scalar(f'train/{name}', value, self.iteration)
                    bar.update()
                line = ', '.join(f'{name} {value:.4g}' for name, value in figures.items())
                logger.info('epoch %d/%d, %.0f s: %s', epoch + 1, C.nepochs, time.monotonic() - started, line)
                self._save(epoch)

    def iterate(self, batch: Batch) -> dict[str, Tensor]:
        """One iteration: gradients of the step, then a step of each branch's SGD. Losses stay on the device."""
        C = self.config
        warmup = C.warm_up_epoch * C.niters_per_epoch
        self.rate = poly_lr(C.lr, C.lr_power, self.iteration, self.total, warmup)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group['lr'] = self.rate
        losses = self.step(*self._inputs(batch))
        for optimizer in self.optimizers:
            optimizer.step()
        self.iteration += 1
        return losses

    def _inputs(self, batch: Batch) -> list[Tensor]:
        """x, y and, as the method needs them, u0, u1 and the CutMix mask, on the device and normalised."""
        C = self.config

        def image(pixels: Tensor, inside: Tensor) -> Tensor:
            pixels, inside = (t.to(self.device, non_blocking=True) for t in (pixels, inside))
            return self.normalize(pixels, inside)

        inputs = [image(batch.x, batch.x_inside), batch.y.to(self.device, non_blocking=True)]
        if batch.u0 is not None:
            inputs.append(image(batch.u0, batch.u0_inside))
        if batch.u1 is not None:
            size = (C.image_height, C.image_width)
            rng = np.random.RandomState(np.random.SeedSequence([C.seed, self.iteration]).generate_state(4))
            boxes = draw_boxes(
                len(batch.x),
                size,
                rng,
                C.cutmix_mask_prop_range,
                C.cutmix_boxmask_n_boxes,
                C.cutmix_boxmask_fixed_aspect_ratio,
                C.cutmix_boxmask_by_size,
                C.cutmix_boxmask_outside_bounds,
            )
            mask = paint_masks(boxes.to(self.device), size, invert=not C.cutmix_boxmask_no_invert)
            inputs += [image(batch.u1, batch.u1_inside), mask]
        return inputs

    def _read(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Losses and rate as numbers, fetched from the device at once."""
        values = torch.stack([value.double() for value in losses.values()]).tolist()
        return {**dict(zip(losses, values, strict=True)), 'lr': self.rate}

    def _save(self, epoch: int) -> None:
        C = self.config
        folder = Path(C.snapshot_dir)
        optimizer_1, optimizer_2 = (optimizer.state_dict() for optimizer in self.optimizers)
        content = {
            'model': self.network.state_dict(),
            'optimizer_1': optimizer_1,
            'optimizer_2': optimizer_2,
            'epoch': epoch,
            'iteration': self.iteration,
            'config': plain(C),
        }
        last = epoch == C.nepochs - 1
        if last or (epoch > C.nepochs // 6 and epoch % C.snapshot_iter == 0):
            checkpoint.save(content, folder / f'epoch-{epoch}.pth')
            checkpoint.save_also_as(folder / f'epoch-{epoch}.pth', checkpoint.LAST)
        else:
            checkpoint.save(content, folder / checkpoint.LAST)

    def resume(self, content: dict, source: Path) -> None:
        """Take up a checkpoint of an earlier run.

        Raises:
            UserError: it does not fit this network, or is one that only evaluation can use.
        """
        load_network(self.network, content, source)
        try:
            for number, optimizer in enumerate(self.optimizers, 1):
                optimizer.load_state_dict(content[f'optimizer_{number}'])
            self.iteration = int(content['iteration'])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f'{source}: holds no optimiser state to go on from ({error})') from None
