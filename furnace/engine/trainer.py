"""The training loop: batches, steps, learning rate, logs and checkpoints."""

import logging
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from furnace.base_model import DualNetwork
from furnace.datasets.classes import Classes
from furnace.datasets.train_set import Batch, TrainSet
from furnace.engine import checkpoint
from furnace.engine.config import Config
from furnace.engine.curves import Curves
from furnace.engine.distributed import ALONE, World, replicate
from furnace.engine.feed import Feed
from furnace.engine.guard import Guard, Record
from furnace.engine.lr import poly_lr
from furnace.engine.monitor import Monitor
from furnace.engine.optimizer import Optimizers
from furnace.engine.precision import autocast, choose_amp
from furnace.engine.resume import gather
from furnace.engine.signals import Stop, Stopped
from furnace.engine.step import Step
from furnace.engine.validation import Validation
from furnace.seg_opr.loss import CrossEntropy
from furnace.utils.errors import RunError, UserError

GRADIENTS = ('the gradient of branch 1', 'the gradient of branch 2')
BAR = ('loss', 'overlap', 'lr')  # beside the progress bar; the rest is in the line of an epoch


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
        validation: scores the network as it is trained; None for no scores.

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
        validation: Validation | None = None,
    ):
        self.config, self.network, self.data, self.device, self.world = config, network, data, device, world
        self.feed = Feed(config, data, device, world)
        self.classes, self.validation = classes, validation
        self.iteration = 0
        self.bad_steps = 0
        self.rate = config.lr
        self.stop = Stop()
        self.guard = Guard()
        self.latest: Record | None = None
        self.failed: Record | None = None
        self.unused_scores: dict | None = None  # of a run that was scored, while this one is not
        self.scored = 0  # the last iteration whose score the checkpoint knows that the run goes on from
        self.total = config.nepochs * config.niters_per_epoch
        self._require_shares()
        criterion.share(world.size)
        self.amp = choose_amp(config.amp, device)
        self.optimizers = Optimizers(network, config.lr, config.momentum, config.weight_decay, self.amp == 'fp16')
        image_every = 0 if world.rank else config.image_every
        self.monitor = Monitor(config.batch_size, image_every, classes, device, self.feed.normalize)
        forward, accumulate = replicate(network, world)
        self.step = Step(
            autocast(forward, self.amp, device),
            config.num_classes,
            criterion,
            config.method,
            config.unsup_weight,
            config.reweight,
            world,
            accumulate,
            self.optimizers.backward,
            self.monitor.see,
        )

    def _require_shares(self) -> None:
        batch_size, size = self.config.batch_size, self.world.size
        if batch_size % size:
            fewer, more = (batch_size // size + extra for extra in (0, 1))
            sizes = [str(count * size) for count in (fewer, more, more + 1) if count][:2]
            raise UserError(
                f'batch_size = {batch_size}: does not divide by the {size} processes; {" and ".join(sizes)} do'
            )
        if self.device.type == 'cpu' and batch_size < 2 * size:
            raise UserError(
                f'batch_size = {batch_size}: is less than 2 images for each of {size} processes, '
                f'which BatchNorm needs on the CPU; {2 * size} does'
            )

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
        with bar, self.stop, Curves(Path(C.log_dir), self.iteration, self.world.rank == 0, self.scored) as curves:
            saved_at = time.monotonic()
            self._validate(curves, logger)
            for batch in self.monitor.timed(self.feed.batches(self.iteration, self.total), self.iteration):
                epoch = self.iteration // C.niters_per_epoch
                bar.set_description(f'epoch {epoch + 1}/{C.nepochs}', refresh=False)
                signal_number = self.iterate(batch)
                self.monitor.draw(curves)
                ends = self.iteration % C.niters_per_epoch == 0
                figures = self._figures() if ends or self.iteration % C.log_every == 0 else None
                if figures:
                    bar.set_postfix_str(_line({name: figures[name] for name in BAR if name in figures}), refresh=False)
                    curves.add(self.iteration, figures)
                    curves.add_watched(self.iteration, self.monitor.scalars())
                bar.update()
                if ends:
                    text = _line(figures) if figures else 'the last iteration was skipped, it was not finite'
                    logger.info('epoch %d/%d, %s: %s', epoch + 1, C.nepochs, self.monitor.summary(), text)
                if ends or signal_number or time.monotonic() - saved_at >= 60 * C.checkpoint_minutes:
                    if self._failure(wait=True):
                        continue  # the next iteration tells it, in every process
                    self.monitor.pause()
                    curves.flush()
                    self.save()
                    saved_at = time.monotonic()
                    if signal_number and self.iteration < self.total:
                        self.world.most(0)  # none leaves while rank 0 still saves
                        raise Stopped(signal_number)
                    self._validate(curves, logger)
                    self.monitor.resume()
            self._agree(self._failure(wait=True))

    def _validate(self, curves: Curves, logger: logging.Logger) -> None:
        """Score the network where that is due, and save it once more with its score.

        Raises:
            Stopped: by a signal; the epoch was saved before, and is scored when the run goes on.
        """
        validation = self.validation
        if not validation or not validation.due(self.iteration):
            return
        # On the CPU each process has statistics of its own; rank 0's are saved, and those of a batch train.
        self.world.same(self.network.buffers())
        better = validation.score(self.iteration, lambda: self.stop.number is not None, curves, logger)
        if better is None:
            raise Stopped(self.world.most(self.stop.number or 0)[0])
        self.network.train()
        curves.flush()
        self.save(better)
        if self.iteration == self.total:
            logger.info('%s', validation.summary())

    def iterate(self, batch: Batch) -> int:
        """One iteration: gradients of the step, then a step of each branch's SGD, unless something is not finite.

        With a single device nothing in it waits for that, so that the next iteration can be prepared meanwhile.

        Returns:
            The number of a signal to stop, or 0; the same in every process.

        Raises:
            RunError: more than ``C.max_bad_steps`` iterations in a row were not finite.
        """
        C = self.config
        warmup = C.warm_up_epoch * C.niters_per_epoch
        self.rate = poly_lr(C.lr, C.lr_power, self.iteration, self.total, warmup)
        self.optimizers.begin(self.rate)
        # A forward pass moves BatchNorm's statistics: without a copy a bad one could not be left out.
        kept = [buffer.clone() for buffer in self.network.buffers()] if C.max_bad_steps else []
        losses = self.step(*self.feed.inputs(batch))
        norms = dict(zip(GRADIENTS, self.optimizers.norms(), strict=True))
        bad, skip = self._judge(losses, norms)
        self.optimizers.step(skip)
        with torch.no_grad():
            for buffer, value in zip(self.network.buffers(), kept, strict=False):
                buffer.copy_(torch.where(bad, value, buffer))
        self.guard.note(self.iteration, bad, {**losses, **norms})
        self.iteration += 1
        return self._agree(self._failure())

    def _judge(self, losses: dict[str, Tensor], norms: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Whether the iteration counts as bad, and whether its step is skipped: 0-d bools, equal in all processes."""
        not_finite = [~torch.stack(list(v.values())).isfinite().all() for v in (losses, norms)]
        found = self.world.sum(torch.stack(not_finite).int()) > 0
        skip = found.any()
        # Scaled gradients overflow now and then: the scaler looks for the greatest scale at which they do not.
        return found[0] if self.amp == 'fp16' else skip, skip

    def _failure(self, wait: bool = False) -> bool:
        """Whether too many iterations in a row were bad, as far as this process knows; with ``wait`` for certain."""
        for record in self.guard.arrived(wait):
            self.latest = record
            self.bad_steps = self.bad_steps + 1 if record.bad else 0
            if self.bad_steps > self.config.max_bad_steps and self.failed is None:
                self.failed = record
        return self.failed is not None

    def _agree(self, failed: bool) -> int:
        """The number of a signal that any process got, or 0; raises RunError in all where one knows of a failure."""
        any_failed, signal_number = self.world.most(int(failed), self.stop.number or 0)
        if any_failed and self._failure(wait=True):
            raise self._error(self.failed)
        return signal_number

    def _error(self, record: Record) -> RunError:
        """What was not finite; with the images where it began, in this process or where that is the only one."""
        C, world = self.config, self.world
        what = f'iteration {record.iteration + 1}: {", ".join(record.not_finite) or "a loss is not finite"}'
        hint = 'The last checkpoint is good; a lower C.lr may help, or C.max_bad_steps'
        # Gradients are averaged: those of one process are soon those of all.
        began_here = world.size == 1 or any(not text.startswith(GRADIENTS) for text in record.not_finite)
        if began_here:
            share = C.batch_size // world.size
            first = record.iteration * C.batch_size + world.rank * share
            names = self.data.names(range(first, first + share))
            what += '; the images are ' + '; '.join(f'{stream}: {", ".join(items)}' for stream, items in names.items())
        error = RunError(f'{what}. {hint}')
        error.alone = began_here
        return error

    def _figures(self) -> dict[str, float] | None:
        """Losses of the whole batch and rate, None where the iteration was bad; waits for the device."""
        self._failure(wait=True)
        self.optimizers.require_scale()
        if self.latest is None or self.latest.bad:
            return None
        losses = {name: value for name, value in self.latest.values.items() if name not in GRADIENTS}
        values = (self.world.sum(torch.tensor(list(losses.values()), dtype=torch.float64)) / self.world.size).tolist()
        return {**dict(zip(losses, values, strict=True)), 'lr': self.rate}

    def save(self, best: bool = False) -> None:
        """Write ``epoch-last.pth``, and a snapshot at the end of an epoch that the recipe keeps; rank 0 alone does.

        Args:
            best: as ``epoch-best.pth`` too.

        Raises:
            UserError: they cannot be written.
        """
        if self.world.rank:
            return
        C = self.config
        folder = Path(C.snapshot_dir)
        epoch = (self.iteration - 1) // C.niters_per_epoch
        kept = epoch == C.nepochs - 1 or (epoch > C.nepochs // 6 and epoch % C.snapshot_iter == 0)
        kept = kept and self.iteration % C.niters_per_epoch == 0
        # The last one is renamed last: where a save is cut off, the run goes on from before it and repeats it.
        first, *others = [checkpoint.BEST] * best + [f'epoch-{epoch}.pth'] * kept + [checkpoint.LAST]
        checkpoint.save(gather(self), folder / first)
        for name in others:
            checkpoint.save_also_as(folder / first, name)
        if kept:
            checkpoint.prune(folder, C.keep_snapshots)


def _line(figures: dict[str, float]) -> str:
    return ' '.join(f'{name} {value:.4g}' for name, value in figures.items())
