"""Notices losses and gradients that are not finite, without making the host wait for the device."""

import math
from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor


class Record(NamedTuple):
    """What one iteration gave, on the host."""

    iteration: int
    """the number of iterations before it"""
    bad: bool
    """it counts towards ``C.max_bad_steps``"""
    values: dict[str, float]

    @property
    def not_finite(self) -> list[str]:
        """Each in words, such as 'sup_1 is nan'."""
        return [f'{name} is {value}' for name, value in self.values.items() if not math.isfinite(value)]


class Guard:
    """Fetches each iteration's values behind its back: they arrive some iterations later on a GPU, at once on a CPU."""

    def __init__(self):
        self._pending: deque = deque()

    def note(self, iteration: int, bad: Tensor, values: dict[str, Tensor]) -> None:
        """Ask for 0-d tensors of a device."""
        numbers = torch.stack([bad.double(), *(value.detach().double() for value in values.values())])
        arrived = None
        if numbers.is_cuda:
            numbers = torch.empty_like(numbers, device='cpu', pin_memory=True).copy_(numbers, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._pending.append((iteration, list(values), numbers, arrived))

    def arrived(self, wait: bool = False) -> list[Record]:
        """The records that have arrived since the last call, in order; with ``wait`` all that were asked for."""
        records = []
        while self._pending:
            iteration, names, numbers, event = self._pending[0]
            if event is not None:
                if not wait and not event.query():
                    break
                event.synchronize()
            self._pending.popleft()
            bad, *values = numbers.tolist()
            records.append(Record(iteration, bool(bad), dict(zip(names, values, strict=True))))
        return records
