"""What a run logs by iteration: ``losses.jsonl``, ``scores.jsonl``, every digit of it, and TensorBoard's files."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TextIO

import numpy as np

from furnace.engine.events import EventFile
from furnace.seg_opr.metric import Scores
from furnace.utils.errors import file_error
from furnace.utils.files import replacing

LOSSES = 'losses.jsonl'
SCORES = 'scores.jsonl'
TENSORBOARD = 'tb'


class Curves:
    """Writes them; a run that goes on leaves neither a gap nor a double.

    Args:
        folder: the log folder.
        iteration: where the run begins; what was logged after it by a run that was killed is dropped.
        active: False in the processes beside rank 0, which write nothing.
        scored: the last iteration whose score the run knows; later ones will be scored again, and are dropped.

    Raises:
        UserError: here and in every method: the folder cannot be written to.
        RunError: in the same way: the disk is full.
    """

    def __init__(self, folder: Path, iteration: int, active: bool = True, scored: int = 0):
        self.active = active
        if not active:
            return
        self.folder = folder
        with self._telling():
            losses, _ = _cut(folder / LOSSES, iteration)
            _, scores = _cut(folder / SCORES, scored)
            # TensorBoard forgets all of an iteration or nothing: one whose score must go gets its losses once more.
            again = any(line['iteration'] == iteration for line in scores)
            purge_step = iteration + (not again) if iteration else None
            self.events = EventFile(folder / TENSORBOARD, purge_step)
            self.file = open(folder / LOSSES, 'a', buffering=1, encoding='utf-8')  # noqa: SIM115 (closed in __exit__)
            if again and losses and losses[-1].pop('iteration') == iteration:
                self._scalars(iteration, 'train/', losses[-1])

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise file_error(error, self.folder) from None

    def _scalars(self, iteration: int, prefix: str, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.events.scalar(f'{prefix}{name}', value, iteration)

    def add(self, iteration: int, figures: dict[str, float]) -> None:
        """Losses and rate of an iteration, to both."""
        if self.active:
            with self._telling():
                self.file.write(json.dumps({'iteration': iteration, **figures}) + '\n')
                self._scalars(iteration, 'train/', figures)

    def add_watched(self, iteration: int, scalars: dict[str, float]) -> None:
        """By tag, to TensorBoard alone: what differs between two equal runs must not make their losses.jsonl differ."""
        if self.active:
            with self._telling():
                self._scalars(iteration, '', scalars)

    def add_image(self, iteration: int, tag: str, picture: np.ndarray) -> None:
        """uint8 (H, W, 3) RGB."""
        if self.active:
            with self._telling():
                self.events.image(tag, picture, iteration)

    def add_scores(self, iteration: int, scores: Scores, names: Sequence[str]) -> None:
        """Of the validation list, in 0 … 1; classes that are neither labelled nor predicted are null."""
        if not self.active:
            return
        means = {'mean_iou': scores.mean_iou, 'pixel_accuracy': scores.pixel_accuracy}
        iou = {name: None if math.isnan(value) else value for name, value in zip(names, scores.iou, strict=True)}
        with self._telling():
            with open(self.folder / SCORES, 'a', encoding='utf-8') as file:
                file.write(json.dumps({'iteration': iteration, **means, 'iou': iou}) + '\n')
                _to_disk(file)
            self._scalars(iteration, 'val/', means)

    def flush(self) -> None:
        """To the disk, before a checkpoint claims these iterations."""
        if self.active:
            with self._telling():
                _to_disk(self.file)
                self.events.flush()

    def __enter__(self) -> 'Curves':
        return self

    def __exit__(self, failed: type | None, *_) -> None:
        if self.active:
            # What could not be written before cannot now, and was told.
            with suppress(OSError) if failed else self._telling(), closing(self.events), self.file:
                pass


def _to_disk(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _cut(path: Path, iteration: int) -> tuple[list[dict], list[dict]]:
    """Drop the lines after ``iteration``, and a last one that a killed run left unfinished.

    Returns what is kept, and what was dropped as far as it can be read.
    """
    kept, dropped, text = [], [], ''
    for line in path.read_text(encoding='utf-8').splitlines(keepends=True) if path.is_file() else ():
        try:
            row = json.loads(line) if line.endswith('\n') else None
            if row['iteration'] <= iteration and not dropped:
                kept.append(row)
                text += line
            else:
                dropped.append(row)
        except (ValueError, KeyError, TypeError):
            break
    if path.is_file():
        with replacing(path) as file:
            file.write(text.encode())
    return kept, dropped
