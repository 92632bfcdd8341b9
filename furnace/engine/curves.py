"""What a run logs by iteration: ``losses.jsonl``, every digit of it, and TensorBoard scalars."""

import json
import os
from pathlib import Path

from tensorboardX import SummaryWriter

from furnace.utils.errors import RunError

LOSSES = 'losses.jsonl'
TENSORBOARD = 'tb'


class Curves:
    """Writes both; a run that goes on leaves neither a gap nor a double.

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
        path = folder / LOSSES
        if path.is_file():
            _cut(path, iteration)
        self.file = open(path, 'a', buffering=1, encoding='utf-8')  # noqa: SIM115 (closed in __exit__)
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
