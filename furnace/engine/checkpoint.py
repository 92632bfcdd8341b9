"""Checkpoints: ``epoch-{n}.pth``, ``epoch-last.pth``, ``epoch-best.pth`` with tensors and plain values only."""

import itertools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from furnace.base_model import load_file
from furnace.engine.claim import LOCK
from furnace.engine.logger import make_folder
from furnace.utils.errors import UserError, write_error
from furnace.utils.files import TEMPORARY, beside, replacing

LAST = 'epoch-last.pth'
BEST = 'epoch-best.pth'
UNWRITTEN = 'the checkpoint cannot be written'


def save(content: dict, path: Path) -> None:
    """Write beside ``path``, then rename: a file of this name is always whole.

    Raises:
        UserError: the folder cannot be written to.
        RunError: the disk is full.
    """
    make_folder(path.parent)
    try:
        with replacing(path) as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        # PyTorch's writer puts a RuntimeError in the place of what happened: a full disk, Ctrl-C.
        cause = error.__context__ or error if isinstance(error, RuntimeError) else error
        if not isinstance(cause, OSError):
            raise cause from None
        raise write_error(cause, path, UNWRITTEN) from None


def save_also_as(path: Path, name: str) -> None:
    """Give the checkpoint a second name in its folder, without writing it twice where the disk allows."""
    try:
        with beside(path.with_name(name)) as temporary:
            temporary.unlink(missing_ok=True)  # a copy into a link that was left would go into what that names
            try:
                os.link(path, temporary)
            except OSError:  # no hard links on this disk
                shutil.copyfile(path, temporary)
    except OSError as error:
        raise write_error(error, path.with_name(name), UNWRITTEN) from None


def newest_good(folder: Path, report: Callable[[str], None]) -> tuple[Path, dict] | None:
    """The newest checkpoint in ``folder`` that can be read, and its content; None where there is none at all.

    Args:
        report: gets a line for each newer one that is damaged.

    Raises:
        UserError: there are some, and none can be read.
    """
    paths = [path for path in (folder / LAST, *reversed(numbered(folder).values())) if os.path.isfile(path)]
    for path in paths:
        try:
            return path, load_file(path)
        except UserError as error:
            report(str(error))
    if paths:
        raise UserError(f'{folder}: none of its {len(paths)} checkpoints can be read; move them away to start anew')
    return None


def prune(folder: Path, keep: int | None) -> None:
    """Delete the oldest snapshots beyond the newest ``keep``; None keeps all."""
    if keep is not None:
        for path in list(numbered(folder).values())[:-keep]:
            path.unlink()


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of runs that were killed while they saved."""
    for path in folder.glob(f'{TEMPORARY}*.pth'):
        path.unlink(missing_ok=True)


def set_aside(folder: Path) -> Path | None:
    """Rename a folder (or file) of an earlier run, so that a new one overwrites nothing.

    A link stays: the disk that it leads to keeps the earlier run, and gets the new one.

    Returns the new name, or None where there was nothing to keep.
    """
    if not os.path.exists(folder) or (folder.is_dir() and not _used(folder)):
        return None
    real = folder.resolve() if folder.is_symlink() else folder
    moved = next(path for number in itertools.count(1) if not (path := Path(f'{real}_{number}')).exists())
    try:
        real.rename(moved)
        if folder.is_symlink() and moved.is_dir():
            real.mkdir()
    except OSError as error:
        raise UserError(f'{folder}: cannot be renamed to {moved}: {error.strerror}') from None
    return moved


def require_own(folder: Path, log: Path) -> None:
    """Raises UserError where ``folder`` holds others than checkpoints, or ``log`` would: no run may set those aside."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UserError(f'{folder}: is not a folder; choose another C.snapshot_dir')
    if folder.resolve() in (log.resolve(), *log.resolve().parents):
        raise UserError(f'{folder}: is or holds C.log_dir ({log}); choose another C.snapshot_dir')
    if os.path.isdir(folder) and _used(folder) and not any(folder.glob('*epoch-*.pth*')):
        raise UserError(f'{folder}: holds other files than checkpoints; choose another C.snapshot_dir')


def _used(folder: Path) -> bool:
    return any(path.name != LOCK for path in folder.iterdir())


def numbered(folder: Path) -> dict[int, Path]:
    """The snapshots in ``folder`` by epoch, ascending."""
    found = {}
    for path in folder.glob('epoch-*.pth'):
        if match := re.fullmatch(r'epoch-([0-9]{1,18})\.pth', path.name):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def select(text: str, folder: Path) -> list[Path]:
    """The checkpoints that ``-e`` names: ``last``, ``best``, a file, an epoch, a range ``20-34``, or ``20-`` on.

    Returns them in epoch order.

    Raises:
        UserError: it names nothing.
    """
    if text in ('last', 'best'):
        chosen = [folder / (LAST if text == 'last' else BEST)]
    elif text.endswith('.pth'):
        chosen = [Path(text)]
    elif match := re.fullmatch(r'([0-9]{1,18})(-([0-9]{0,18}))?', text):
        first = int(match[1])
        snapshots = numbered(folder)
        if match[2] is None:
            chosen = [folder / f'epoch-{first}.pth']
        else:
            last = int(match[3]) if match[3] else max(snapshots, default=first)
            if match[3] and last < first:
                raise UserError(f'-e {text}: the range ends before it begins; write -e {last}-{first}')
            chosen = [path for epoch, path in snapshots.items() if first <= epoch <= last]
            if not chosen:
                raise UserError(f'-e {text}: {folder} has no epoch in this range{_present(snapshots)}')
    else:
        raise UserError(f'-e {text}: expected last, best, a file.pth, an epoch (30), or a range (20-34, 20-)')
    missing = next((path for path in chosen if not os.path.isfile(path)), None)
    if missing:
        if text == 'best':
            raise UserError(f'{missing}: no such checkpoint; training with C.eval_every keeps the best')
        raise UserError(f'{missing}: no such checkpoint{_present(numbered(folder))}')
    return chosen


def _present(snapshots: dict[int, Path]) -> str:
    return f'; there are epochs {", ".join(map(str, snapshots))}' if snapshots else '; train.py writes them'
