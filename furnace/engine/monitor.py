"""What a person watches beside the losses: speed, memory, the classes' disagreement, pictures of what is taught."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import monotonic

import torch
from torch import Tensor

from furnace.datasets.classes import Classes
from furnace.datasets.normalize import Normalize
from furnace.datasets.train_set import Batch
from furnace.engine.curves import Curves
from furnace.engine.panel import panel
from furnace.engine.step import Taught
from furnace.utils.memory import process_memory


@dataclass
class Lap:
    """Some iterations, and the seconds they took."""

    iterations: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    """for data, of those seconds"""

    @property
    def rate(self) -> float:
        """iterations a second"""
        return self.iterations / max(self.seconds, 1e-9)

    @property
    def data_wait(self) -> float:
        """share of the time, 0 … 1"""
        return self.waited / max(self.seconds, 1e-9)


class Monitor:
    """Looks on: no result depends on it, and its figures go to TensorBoard and the terminal, not to losses.jsonl.

    Args:
        batch_size: of all processes.
        image_every: iterations between two panels; 0: none.
        classes: names and colours.
        device: where the steps run.
        normalize: what made the images that the networks see.
    """

    def __init__(self, batch_size: int, image_every: int, classes: Classes, device: torch.device, normalize: Normalize):
        self.batch_size, self.image_every, self.classes = batch_size, image_every, classes
        self.device, self.normalize = device, normalize
        self.w: Tensor | None = None
        self.taught: Taught | None = None
        self.iteration = 0
        self.line, self.epoch = Lap(), Lap()
        self.since = 0.0

    def timed(self, batches: Iterable[Batch], start: int) -> Iterator[Batch]:
        """The same batches, those after iteration ``start``; until each is there, time counts as waiting."""
        self.resume()
        for self.iteration, batch in enumerate(batches, start + 1):
            self._count(waiting=True)
            for lap in (self.line, self.epoch):
                lap.iterations += 1
            yield batch
            self._count()

    def _count(self, waiting: bool = False) -> None:
        now = monotonic()
        for lap in (self.line, self.epoch):
            lap.seconds += now - self.since
            lap.waited += waiting * (now - self.since)
        self.since = now

    def pause(self) -> None:
        """What comes now, until ``resume``, is no training."""
        self._count()

    def resume(self) -> None:
        """Training goes on."""
        self.since = monotonic()

    def see(self, taught: Taught) -> None:
        """Called in a step, so it must not wait for the device. Holds w, and where a panel is due the rest."""
        self.w = taught.w
        if self.image_every and self.iteration % self.image_every == 0:
            self.taught = taught

    def draw(self, curves: Curves) -> None:
        """The panel, where one is due."""
        if self.taught is not None:
            curves.add_image(self.iteration, 'panel', panel(self.taught, self.classes, self.normalize))
            self.taught = None

    def scalars(self) -> dict[str, float]:
        """By tag, of the time since the last call; waits for the device."""
        self._count()
        found = {
            'speed/images_per_second': self.batch_size * self.line.rate,
            'speed/data_wait': self.line.data_wait,
        }
        if (memory := self._memory()) is not None:
            found['speed/memory_gib'] = memory
        if self.w is not None:
            names = (f'disagreement/{name}' for name in self.classes.names)
            found |= zip(names, self.w.tolist(), strict=True)
        self.line = Lap()
        return found

    def _memory(self) -> float | None:
        """GiB: on a GPU the most that was allocated since the last call, else what this process has."""
        if self.device.type == 'cuda':
            most = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return most / 2**30
        resident = process_memory('VmRSS')
        return None if resident is None else resident / 2**10

    def summary(self) -> str:
        """The epoch's time and speed, in words; the next call tells of the next epoch."""
        self._count()
        lap, self.epoch = self.epoch, Lap()
        return f'{lap.seconds:.0f} s, {self.batch_size * lap.rate:.3g} images/s, data wait {lap.data_wait:.0%}'
