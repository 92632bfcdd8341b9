"""The folder that a command makes: as a whole or not at all, with a record that tells whether it is there already."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from furnace.utils.errors import UserError

RECORD = 'prepared.json'
PARTIAL = '.partial'


def require_outside(dst: Path, sources: Sequence[Path]) -> None:
    """Raises UserError where ``dst`` is one of the sources or inside of one: sources are only read."""
    for source in sources:
        if source == dst or source in dst.parents:
            raise UserError(f'{dst} is inside {source}: the source is not written to, give another folder')


def already_there(dst: Path, entries: Sequence[str], parameters: Mapping, force: bool) -> bool:
    """Whether ``dst`` is the result of these parameters, which is then told.

    Args:
        entries: what the command writes in ``dst``, with the record.
        parameters: of the command, 'source' among them; plain values as they come back from JSON.
        force: an earlier result is to be replaced.

    Raises:
        UserError: ``dst`` must not be written to.
    """
    if not dst.parent.is_dir():
        raise UserError(f'{dst.parent}: no such folder; create it first')
    if dst.exists() and not dst.is_dir():
        raise UserError(f'{dst} is a file; give a folder')
    if not (dst / RECORD).is_file():
        others = sorted({path.name for path in dst.glob('*')} - {'README.md', '.gitkeep', PARTIAL})
        if others:
            raise UserError(f'{dst} already holds {", ".join(others[:3])}: give another folder')
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
        raise UserError(f'{dst}: {", ".join(foreign[:3])} is not of this command; move it away before --force')
    return False


def build(dst: Path, entries: Sequence[str], parameters: Mapping, write: Callable[[Path], Mapping]) -> None:
    """Have all written to a temporary folder beside ``dst``, and move it in.

    Args:
        entries, parameters: as in ``already_there``.
        write: writes below the folder it is given, and returns what the record tells besides.
    """
    # Renaming works on one disk only, so inside of a mount point.
    temporary = Path(tempfile.mkdtemp(prefix=f'.{dst.name}.', dir=dst if os.path.ismount(dst) else dst.parent))
    try:
        _write_and_move_in(temporary, dst, entries, parameters, write)
    finally:
        shutil.rmtree(temporary)


def build_in_steps(dst: Path, entries: Sequence[str], parameters: Mapping, write: Callable[[Path], Mapping]) -> None:
    """As ``build``, for large data: what was written before an interruption stays, and ``write`` finds it again.

    It stays in ``dst/.partial`` until all is there. ``write`` leaves out files that exist, and so must write each as
    a whole (``write_whole``). What other parameters left there is deleted.

    Raises:
        UserError: that of ``write``, and where the work done is kept.
    """
    temporary = dst / PARTIAL
    begun = temporary / 'parameters.json'
    if temporary.exists() and not (begun.is_file() and begun.read_bytes() == _as_json(parameters)):
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True, exist_ok=True)
    write_whole(begun, _as_json(parameters))
    try:
        _write_and_move_in(temporary, dst, entries, parameters, write)
    except (UserError, OSError) as error:
        raise UserError(f'{error} (what is done is kept in {temporary}; the same command goes on there)') from None
    shutil.rmtree(temporary)


def write_whole(path: Path, data: bytes) -> None:
    """Write to another name, then rename: a file of this name is always whole. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.tmp')
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping) -> None:
    path.write_bytes(_as_json(content))


def _as_json(content: Mapping) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + '\n').encode()


def _write_and_move_in(
    temporary: Path, dst: Path, entries: Sequence[str], parameters: Mapping, write: Callable[[Path], Mapping]
) -> None:
    new = temporary / 'new'
    new.mkdir(exist_ok=True)
    told = write(new)
    write_json(new / RECORD, {**parameters, **told, 'files': sorted(_tree(new, entries))})
    _move_in(new, dst, temporary / 'old', entries)


def _tree(folder: Path, entries: Sequence[str]) -> set[str]:
    """The files of a result, relative to ``folder``, but for the record itself."""
    paths = [path for entry in entries for path in (folder / entry, *(folder / entry).rglob('*'))]
    return {
        path.relative_to(folder).as_posix()
        for path in paths
        if (path.is_symlink() or path.is_file()) and path.name != RECORD
    }


def _move_in(new: Path, dst: Path, old: Path, entries: Sequence[str]) -> None:
    """Replace the entries in ``dst`` by those of ``new``; on any failure put everything back.

    Entries are renamed, not ``dst`` itself: its README.md stays as it is.
    """
    created = not dst.exists()
    moves = [(dst / entry, old / entry) for entry in entries if (dst / entry).exists()]
    moves += [(new / entry, dst / entry) for entry in entries if (new / entry).exists()]
    try:
        dst.mkdir(exist_ok=True)
        old.mkdir(exist_ok=True)
        for source, target in moves:
            os.rename(source, target)
    except BaseException:
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                os.rename(target, source)
        if created and dst.exists():
            dst.rmdir()
        raise
