"""Measuring in turns, and what a measurement was made on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import torch

MIB = 2**20


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> 'Spread':
        values = list(values)
        return cls(statistics.median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        if self.count == 1:
            return f'{self.median:.4g}'
        return f'{self.median:.4g} ({self.least:.3g}–{self.most:.3g})'


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    part: str
    what: str
    unit: str
    ours: Spread | None
    """None: did not fit in the device's memory, or was not measured, as ``note`` says"""
    plain: Spread | None = None
    beside: dict[str, Spread] = field(default_factory=dict)
    """Yardsticks in the same unit."""
    note: str = ''

    @property
    def ratio(self) -> float | None:
        """plain / ours of the medians."""
        return self.plain.median / self.ours.median if self.ours and self.plain and self.ours.median else None


def synchronize(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def in_turns(
    calls: dict[str, Callable[[], object]], rounds: int, device: torch.device, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each call, ``rounds`` times A B A B …, after one of each that is not counted with ``warm_up``."""
    for call in calls.values() if warm_up else ():
        call()
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def machine(device: torch.device) -> dict[str, object]:
    """What the figures depend on."""
    described = {
        'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU',
        'cpu': _cpu_model(),
        'cpu_cores': os.cpu_count(),
        'torch_threads': torch.get_num_threads(),
        'system': platform.platform(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'opencv': cv2.__version__,
        'numpy': np.__version__,
        'date': datetime.now(timezone.utc).isoformat(timespec='seconds'),
    }
    if device.type == 'cuda':
        described |= {
            'device_memory_mib': round(torch.cuda.get_device_properties(device).total_memory / MIB),
            'cuda': torch.version.cuda,
            'cudnn': torch.backends.cudnn.version(),
        }
    return described


def _cpu_model() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()


def table(rows: Iterable[Row]) -> str:
    """The rows as lines of text, columns aligned."""
    lines = [('part', 'what', 'unit', 'ours', 'plain', 'plain/ours', 'beside, notes')]
    for row in rows:
        ratio = '' if row.ratio is None else f'{row.ratio:.2f}'
        beside = [f'{name} {value}' for name, value in row.beside.items()]
        cells = ('–' if value is None else str(value) for value in (row.ours, row.plain))
        lines.append((row.part, row.what, row.unit, *cells, ratio, '; '.join(filter(None, [*beside, row.note]))))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return '\n'.join('  '.join(line).rstrip() for line in aligned)
