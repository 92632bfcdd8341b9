"""The folder that a command makes: as a whole or not at all, with a record that tells whether it is there already."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from furnace.utils.errors import RunError, UserError, file_error, some
from furnace.utils.files import replacing

RECORD = 'prepared.json'
PARTIAL = '.partial'
LOCK = '.lock'
# In PARTIAL: what is written, and what it replaces, which has the first name until all of it has left its place.
NEW, LEAVING, OLD = 'new', 'leaving', 'old'


def require_outside(dst: Path, sources: Sequence[Path]) -> None:
    """Raises UserError where ``dst`` is one of the sources or inside of one: sources are only read."""
    for source in sources:
        if source == dst or source in dst.parents:
            raise UserError(f'{dst} is inside {source}: the source is not written to, give another folder')


def require_folder(src: Path) -> None:
    """Raises UserError where there is no folder ``src``."""
    if not src.is_dir():
        raise UserError(f'{src}: {"is a file, give a folder" if src.exists() else "no such folder"}')


def already_there(dst: Path, entries: Sequence[str], parameters: Mapping, force: bool) -> bool:
    """Whether ``dst`` is the result of these parameters, which is then told.

    A result that a command which was killed had finished, but for the last renames, is put in its place first.

    Args:
        entries: what the command writes in ``dst``, with the record, which is the last.
        parameters: of the command, 'source' among them; plain values as they come back from JSON.
        force: an earlier result is to be replaced.

    Raises:
        UserError: ``dst`` must not be written to.
    """
    if not dst.parent.is_dir():
        raise UserError(f'{dst.parent}: no such folder; create it first')
    if dst.exists() and not dst.is_dir():
        raise UserError(f'{dst} is a file; give a folder')
    if not (dst / PARTIAL).exists():
        return _is_result(dst, entries, parameters, force)
    with _only_writer(dst):
        _finish_moving(dst)
        return _is_result(dst, entries, parameters, force)


def _is_result(dst: Path, entries: Sequence[str], parameters: Mapping, force: bool) -> bool:
    if not (dst / RECORD).is_file():
        others = sorted(path.name for path in dst.glob('[!.]*') if path.name not in ('README.md', 'lost+found'))
        if others:
            raise UserError(f'{dst} already holds {some(others)}: give another folder')
        return False
    try:
        earlier = json.loads((dst / RECORD).read_text(encoding='utf-8'))
        written, source = set(earlier['files']), earlier['source']
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{dst / RECORD} is not a record of this command: give another folder') from None
    if not force:
        same = all(earlier.get(key) == value for key, value in parameters.items())
        if same and all((dst / name).exists() for name in written):
            shutil.rmtree(dst / PARTIAL, ignore_errors=True)  # of a call that was interrupted while clearing up
            print(f'{dst} was made from {source} with these parameters before: nothing to do (--force makes it again)')
            return True
        what = 'is incomplete' if same else f'was made from {source} with other parameters'
        raise UserError(f'{dst} {what}: give another folder, or --force to replace it')
    if any(name.split('/')[0] not in entries for name in written):
        raise UserError(f'{dst} was made from {source} in another layout: give another folder')
    foreign = sorted(_tree(dst, entries) - written)
    if foreign:
        raise UserError(f'{dst}: {some(foreign)} is not of this command; move it away before --force')
    return False


def build(
    dst: Path,
    entries: Sequence[str],
    parameters: Mapping,
    write: Callable[[Path], Mapping],
    *,
    force: bool,
    resume: bool = False,
) -> None:
    """Have all written to ``dst/.partial``, and move it to its place.

    Args:
        entries, parameters, force: as in ``already_there``, which is asked once more.
        write: writes below the folder it is given, and returns what the record tells besides.
        resume: for large data: what was written before an interruption stays, and ``write`` finds it again unless the
            parameters are others. It leaves out files that exist, so it must write each as a whole (``write_whole``).

    Raises:
        UserError: another command writes to ``dst``, or that of ``write``, and where the work done is kept.
    """
    partial = dst / PARTIAL
    begun = partial / 'parameters.json'
    with _only_writer(dst):
        if _is_result(dst, entries, parameters, force):
            return
        if not (resume and begun.is_file() and begun.read_bytes() == _as_json(parameters)):
            shutil.rmtree(partial, ignore_errors=True)
        (partial / NEW).mkdir(parents=True, exist_ok=True)
        write_whole(begun, _as_json(parameters))
        try:
            told = write(partial / NEW)
            record = {**parameters, **told, 'files': sorted(_tree(partial / NEW, entries))}
            write_whole(partial / NEW / RECORD, _as_json(record))
            _move_in(dst, entries)
        except BaseException as error:
            if not resume:
                if not any((partial / name).exists() for name in (LEAVING, OLD)):  # else what was there is in them
                    shutil.rmtree(partial)
                raise
            kept = f'what is done is kept in {partial}; the same command goes on there'
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(kept) from None
            if isinstance(error, OSError):
                error = file_error(error, partial)
            if isinstance(error, UserError | RunError):
                raise type(error)(f'{error} ({kept})') from None
            raise
        shutil.rmtree(partial)


@contextmanager
def _only_writer(dst: Path) -> Iterator[None]:
    """Keeps other commands from ``dst``, which is made where it is missing, and removed again if it stays empty."""
    created = not dst.exists()
    dst.mkdir(exist_ok=True)
    lock = FileLock(dst / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f'another command writes to {dst}: wait for its end, or end it') from None
    try:
        yield
    finally:
        (dst / LOCK).unlink(missing_ok=True)  # before the release: nobody may lock a file that is not there any more
        lock.release()
        if created and not any(dst.iterdir()):
            dst.rmdir()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is always whole under this name. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(data)


def write_json(path: Path, content: Mapping) -> None:
    path.write_bytes(_as_json(content))


def _as_json(content: Mapping) -> bytes:
    return (json.dumps(content, indent=1) + '\n').encode()


def _tree(folder: Path, entries: Sequence[str]) -> set[str]:
    """The files of a result, relative to ``folder``, but for the record itself."""
    paths = [path for entry in entries for path in (folder / entry, *(folder / entry).rglob('*'))]
    return {
        path.relative_to(folder).as_posix()
        for path in paths
        if (path.is_symlink() or path.is_file()) and path.name != RECORD
    }


def _move_in(dst: Path, entries: Sequence[str]) -> None:
    """Replace the entries in ``dst`` by the new ones; on any failure put everything back.

    Entries are renamed, not ``dst`` itself: its README.md stays as it is. A process may be killed between two renames:
    ``_finish_moving`` knows by the name OLD that all that was there is out of the way.
    """
    new, leaving, old = (dst / PARTIAL / name for name in (NEW, LEAVING, OLD))
    leaving.mkdir(exist_ok=True)
    moves = [(dst / entry, leaving / entry) for entry in entries if (dst / entry).exists()]
    moves.append((leaving, old))
    moves += [(new / entry, dst / entry) for entry in entries if (new / entry).exists()]
    try:
        for source, target in moves:
            os.rename(source, target)
    except BaseException:
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                os.rename(target, source)
        leaving.rmdir()
        raise


def _finish_moving(dst: Path) -> None:
    """What ``_move_in`` would have done, had its process not been killed: the rest, or all back."""
    new, leaving, old = (dst / PARTIAL / name for name in (NEW, LEAVING, OLD))
    if old.exists():
        for path in sorted(new.glob('*'), key=lambda path: path.name == RECORD):
            os.rename(path, dst / path.name)
        shutil.rmtree(old)
    elif leaving.exists():
        for path in leaving.iterdir():
            os.rename(path, dst / path.name)
        leaving.rmdir()
