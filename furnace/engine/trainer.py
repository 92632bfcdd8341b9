"""The training loop: batches, steps, learning rate, logs and checkpoints."""

import logging
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from furnace.base_model import DualNetwork, load_network
from furnace.datasets.classes import Classes
from furnace.datasets.normalize import Normalize
from furnace.datasets.train_set import Batch, TrainSet, batches
from furnace.engine import checkpoint
from furnace.engine.config import Config, plain
from furnace.engine.curves import Curves
from furnace.engine.distributed import ALONE, World, replicate, run_id
from furnace.engine.lr import param_groups, poly_lr
from furnace.engine.resume import changed_settings, list_digest
from furnace.engine.signals import Stop, Stopped
from furnace.engine.step import Step
from furnace.seg_opr.cutmix import draw_boxes, paint_masks
from furnace.seg_opr.loss import CrossEntropy
from furnace.utils.errors import RunError, UserError


class Trainer:
    """Trains the two branches as the configuration says.

    Args:
        config: the experiment's configuration.
        network: on ``device``.
        criterion: supervised loss of the whole batch.
        data: the streams of samples.
        classes: names and colours, for those who use a checkpoint.
        device: where the steps run.
        world: the processes that train together; each has its part of every batch.

    Raises:
        UserError: the batch cannot be shared out.
    """

    def __init__(
        self,
        config: Config,
        network: DualNetwork,
        criterion: CrossEntropy,
        data: TrainSet,
        classes: Classes,
        device: torch.device,
        world: World = ALONE,
    ):
        self.config, self.network, self.data, self.device, self.world = config, network, data, device, world
        self.classes = classes
        self.iteration = 0
        self.bad_steps = 0
        self.rate = config.lr
        self.stop = Stop()
        self.total = config.nepochs * config.niters_per_epoch
        if config.batch_size % world.size:
            fewer, more = (config.batch_size // world.size + extra for extra in (0, 1))
            sizes = [str(count * world.size) for count in (fewer, more, more + 1) if count][:2]
            hint = f'{" and ".join(sizes)} do'
            raise UserError(f'batch_size = {config.batch_size}: does not divide by the {world.size} processes; {hint}')
        if device.type == 'cpu' and config.batch_size < 2 * world.size:
            raise UserError(
                f'batch_size = {config.batch_size}: is less than 2 images for each of {world.size} processes, '
                f'which BatchNorm needs on the CPU; {2 * world.size} does'
            )
        criterion.share(world.size)
        forward, accumulate = replicate(network, world)
        self.step = Step(
            forward,
            config.num_classes,
            criterion,
            config.method,
            config.unsup_weight,
            config.reweight,
            world,
            accumulate,
        )
        self.normalize = Normalize(config.image_mean, config.image_std).to(device)
        self.optimizers = [
            torch.optim.SGD(param_groups(branch, config.lr, config.weight_decay), momentum=config.momentum)
            for branch in network.branches
        ]

    def run(self, logger: logging.Logger) -> None:
        """Train from the present iteration to the end, saving after every epoch and every ``C.checkpoint_minutes``.

        Args:
            logger: for the lines that a person reads.

        Raises:
            Stopped: by a signal; the step was finished and saved.
            RunError: a loss was not finite; nothing of its step was kept.
        """
        C = self.config
        self.network.train()
        bar = tqdm(
            total=self.total, initial=self.iteration, unit='it', mininterval=0.5 if sys.stderr.isatty() else 30,
            dynamic_ncols=True, disable=self.world.rank > 0,
        )  # fmt: skip
        with bar, self.stop, Curves(Path(C.log_dir), self.iteration, self.world.rank == 0) as curves:
            saved_at = time.monotonic()
            while self.iteration < self.total:
                epoch, first = divmod(self.iteration, C.niters_per_epoch)
                bar.set_description(f'epoch {epoch + 1}/{C.nepochs}', refresh=False)
                self.data.set_epoch(epoch)
                started, figures = time.monotonic(), {}
                pin = self.device.type == 'cuda'
                for batch in batches(
                    self.data, C.batch_size, first, C.num_workers, pin, self.world.rank, self.world.size
                ):
                    losses, signal_number = self.iterate(batch)
                    ends = self.iteration % C.niters_per_epoch == 0
                    if losses and (ends or self.iteration % C.log_every == 0):
                        figures = self._read(losses)
                        bar.set_postfix_str(_line(figures), refresh=False)
                        curves.add(self.iteration, figures)
                    bar.update()
                    if ends or signal_number or time.monotonic() - saved_at >= 60 * C.checkpoint_minutes:
                        if ends:
                            seconds = time.monotonic() - started
                            logger.info('epoch %d/%d, %.0f s: %s', epoch + 1, C.nepochs, seconds, _line(figures))
                        curves.flush()
                        self.save()
                        saved_at = time.monotonic()
                        if signal_number and self.iteration < self.total:
                            self.world.most(0)  # none leaves while rank 0 still saves
                            raise Stopped(signal_number)

    def iterate(self, batch: Batch) -> tuple[dict[str, Tensor] | None, int]:
        """One iteration: gradients of the step, then a step of each branch's SGD.

        Returns:
            The losses, on the device (None where they were not finite and the iteration was left out), and the number
            of a signal to stop, or 0; the same in every process.
        """
        C = self.config
        warmup = C.warm_up_epoch * C.niters_per_epoch
        self.rate = poly_lr(C.lr, C.lr_power, self.iteration, self.total, warmup)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group['lr'] = self.rate
        # A forward pass moves BatchNorm's statistics: without a copy a bad one could not be left out.
        kept = [buffer.clone() for buffer in self.network.buffers()] if C.max_bad_steps else []
        losses = self.step(*self._inputs(batch))
        checked = losses | {f'the gradient of branch {k}': norm for k, norm in enumerate(self._norms(), 1)}
        bad = [f'{name} is {value.item()}' for name, value in checked.items() if not math.isfinite(value)]
        any_bad, signal_number = self.world.most(len(bad), self.stop.number or 0)
        if any_bad:
            self._leave_out(bad, kept)
            return None, signal_number
        for optimizer in self.optimizers:
            optimizer.step()
        self.iteration += 1
        self.bad_steps = 0
        return losses, signal_number

    def _inputs(self, batch: Batch) -> list[Tensor]:
        """x, y and, as the method needs them, u0, u1 and the CutMix mask, on the device and normalised."""
        C = self.config

        def image(pixels: Tensor, inside: Tensor) -> Tensor:
            pixels, inside = (t.to(self.device, non_blocking=True) for t in (pixels, inside))
            return self.normalize(pixels, inside)

        inputs = [image(batch.x, batch.x_inside), batch.y.to(self.device, non_blocking=True).long()]
        if batch.u0 is not None:
            inputs.append(image(batch.u0, batch.u0_inside))
        if batch.u1 is not None:
            size = (C.image_height, C.image_width)
            rng = np.random.RandomState(np.random.SeedSequence([C.seed, self.iteration]).generate_state(4))
            boxes = draw_boxes(
                C.batch_size,
                size,
                rng,
                C.cutmix_mask_prop_range,
                C.cutmix_boxmask_n_boxes,
                C.cutmix_boxmask_fixed_aspect_ratio,
                C.cutmix_boxmask_by_size,
                C.cutmix_boxmask_outside_bounds,
            )
            boxes = boxes.chunk(self.world.size)[self.world.rank].to(self.device)
            mask = paint_masks(boxes, size, invert=not C.cutmix_boxmask_no_invert)
            inputs += [image(batch.u1, batch.u1_inside), mask]
        return inputs

    def _norms(self) -> list[Tensor]:
        """Of the gradient of each branch."""
        parameters = ([p.grad for p in branch.parameters()] for branch in self.network.branches)
        return [torch.nn.utils.get_total_norm(gradients) for gradients in parameters]

    def _leave_out(self, bad: list[str], kept: list[Tensor]) -> None:
        """Pass over an iteration that is not finite, or stop after more than ``C.max_bad_steps`` in a row."""
        C = self.config
        self.bad_steps += 1
        if self.bad_steps > C.max_bad_steps:
            if not bad:
                raise RunError(f'iteration {self.iteration + 1}: a loss of another process is not finite')
            share = C.batch_size // self.world.size
            first = self.iteration % C.niters_per_epoch * C.batch_size + self.world.rank * share
            names = self.data.names(range(first, first + share))
            images = '; '.join(f'{stream}: {", ".join(items)}' for stream, items in names.items())
            raise RunError(
                f'iteration {self.iteration + 1}: {", ".join(bad)}; the images are {images}. '
                'The last checkpoint is good; a lower C.lr may help, or C.max_bad_steps'
            )
        with torch.no_grad():
            for buffer, value in zip(self.network.buffers(), kept, strict=True):
                buffer.copy_(value)
        self.iteration += 1

    def _read(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """Losses of the whole batch and rate as numbers, fetched from the device at once."""
        values = torch.stack([value.double() for value in losses.values()])
        values = (self.world.sum(values) / self.world.size).tolist()
        return {**dict(zip(losses, values, strict=True)), 'lr': self.rate}

    def save(self) -> None:
        """Write ``epoch-last.pth``, and a snapshot at the end of an epoch that the recipe keeps; rank 0 alone does.

        Raises:
            UserError: they cannot be written.
        """
        if self.world.rank:
            return
        C = self.config
        folder = Path(C.snapshot_dir)
        optimizer_1, optimizer_2 = (optimizer.state_dict() for optimizer in self.optimizers)
        epoch = (self.iteration - 1) // C.niters_per_epoch
        content = {
            'model': self.network.state_dict(),
            'optimizer_1': optimizer_1,
            'optimizer_2': optimizer_2,
            'epoch': epoch,
            'iteration': self.iteration,
            'bad_steps': self.bad_steps,
            'config': plain(C),
            'classes': self.classes.plain(),
            'lists': self._lists(),
            'processes': self.world.size,
            'run': run_id(),
        }
        last = epoch == C.nepochs - 1
        keep = last or (epoch > C.nepochs // 6 and epoch % C.snapshot_iter == 0)
        if keep and self.iteration % C.niters_per_epoch == 0:
            checkpoint.save(content, folder / f'epoch-{epoch}.pth')
            checkpoint.save_also_as(folder / f'epoch-{epoch}.pth', checkpoint.LAST)
            checkpoint.prune(folder, C.keep_snapshots)
        else:
            checkpoint.save(content, folder / checkpoint.LAST)

    def resume(self, content: dict, source: Path, force: bool = False) -> list[str]:
        """Take up a checkpoint of an earlier run.

        Args:
            content: of the file ``source``.
            force: also where the settings have changed.

        Returns:
            What the user should know of.

        Raises:
            UserError: it does not fit this network, only evaluation can use it, or the settings have changed.
        """
        load_network(self.network, content, source)
        try:
            for number, optimizer in enumerate(self.optimizers, 1):
                # The configuration's, which --force lets differ, not those of the checkpoint.
                own = [
                    {name: value for name, value in group.items() if name != 'params'}
                    for group in optimizer.param_groups
                ]
                optimizer.load_state_dict(content[f'optimizer_{number}'])
                for group, settings in zip(optimizer.param_groups, own, strict=True):
                    group.update(settings)
                # What could not take part in a step (another shape, no data) shows here, before anything is written.
                for parameter, state in optimizer.state.items():
                    if (buffer := state.get('momentum_buffer')) is not None:
                        torch.empty_like(parameter).copy_(buffer.view_as(parameter))
            self.iteration, self.bad_steps = int(content['iteration']), int(content['bad_steps'])
            if not 0 <= self.iteration < 2**63:
                raise ValueError(f'iteration {self.iteration}')
            changed = changed_settings(content['config'], plain(self.config))
            lists = self._lists()
            changed += [f'the {name} list' for name, value in content['lists'].items() if value != lists[name]]
            processes = int(content['processes'])
        except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f'{source}: holds no state that training can go on from ({error!r})') from None
        if changed and not force:
            raise UserError(f'{source}: comes from a run with other settings ({"; ".join(changed)}); --force goes on')
        if processes == self.world.size:
            return []
        return [f'the run began with {processes} processes and goes on with {self.world.size}: not to the same bytes']

    def _lists(self) -> dict[str, str | None]:
        return {'labelled': list_digest(self.data.labeled), 'unlabelled': list_digest(self.data.unlabeled)}


def _line(figures: dict[str, float]) -> str:
    return ' '.join(f'{name} {value:.4g}' for name, value in figures.items())
