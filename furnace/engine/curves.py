"""What a run logs by iteration: ``losses.jsonl``, ``scores.jsonl``, every digit of it, and TensorBoard's files."""

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from furnace.seg_opr.metric import Scores
from furnace.utils.errors import RunError

LOSSES = 'losses.jsonl'
SCORES = 'scores.jsonl'
TENSORBOARD = 'tb'


class Curves:
    """Writes them; a run that goes on leaves neither a gap nor a double.

    Args:
        folder: the log folder.
        iteration: where the run begins; what was logged after it by a run that was killed is dropped.
        active: False in the processes beside rank 0, which write nothing.

    Raises:
        RunError: the disk or /dev/shm is full.
    """

    def __init__(self, folder: Path, iteration: int, active: bool = True):
        self.active = active
        if not active:
            return
        self.folder = folder
        for name in (LOSSES, SCORES):
            if (folder / name).is_file():
                _cut(folder / name, iteration)
        self.file = open(folder / LOSSES, 'a', buffering=1, encoding='utf-8')  # noqa: SIM115 (closed in __exit__)
        try:
            self.writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=iteration + 1 if iteration else None)
        except OSError as error:  # its queue has a part in shared memory
            self.file.close()
            raise RunError(
                f'{folder / TENSORBOARD}: cannot be written: {error.strerror}. '
                'Is the disk or /dev/shm full (df -h . /dev/shm)?'
            ) from None

    def add(self, iteration: int, figures: dict[str, float]) -> None:
        if not self.active:
            return
        self.file.write(json.dumps({'iteration': iteration, **figures}) + '\n')
        for name, value in figures.items():
            self.writer.add_scalar(f'train/{name}', value, iteration)

    def add_watched(self, iteration: int, scalars: dict[str, float]) -> None:
        """By tag, to TensorBoard alone: what differs between two equal runs must not make their losses.jsonl differ."""
        if self.active:
            for tag, value in scalars.items():
                self.writer.add_scalar(tag, value, iteration)

    def add_image(self, iteration: int, tag: str, picture: np.ndarray) -> None:
        """uint8 (H, W, 3) RGB."""
        if self.active:
            self.writer.add_image(tag, picture, iteration, dataformats='HWC')

    def add_scores(self, iteration: int, scores: Scores, names: Sequence[str]) -> None:
        """Of the validation list, in 0 … 1; classes that are neither labelled nor predicted are null."""
        if not self.active:
            return
        means = {'mean_iou': scores.mean_iou, 'pixel_accuracy': scores.pixel_accuracy}
        iou = {name: None if math.isnan(value) else value for name, value in zip(names, scores.iou, strict=True)}
        with open(self.folder / SCORES, 'a', encoding='utf-8') as file:
            file.write(json.dumps({'iteration': iteration, **means, 'iou': iou}) + '\n')
        for name, value in means.items():
            self.writer.add_scalar(f'val/{name}', value, iteration)

    def flush(self) -> None:
        """To the disk, before a checkpoint claims these iterations."""
        if self.active:
            self.file.flush()
            self.writer.flush()

    def __enter__(self) -> 'Curves':
        return self

    def __exit__(self, *_) -> None:
        if self.active:
            self.file.close()
            self.writer.close()


def _cut(path: Path, iteration: int) -> None:
    """Drop the lines after ``iteration``, and a last one that a killed run left unfinished."""
    kept = []
    for line in path.read_text(encoding='utf-8').splitlines(keepends=True):
        try:
            if not line.endswith('\n') or json.loads(line)['iteration'] > iteration:
                break
        except (ValueError, KeyError, TypeError):
            break
        kept.append(line)
    temporary = path.with_name(f'.{path.name}.tmp')
    temporary.write_text(''.join(kept), encoding='utf-8')
    os.replace(temporary, path)
