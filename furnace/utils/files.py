"""Folders that are walked without losing a file; files that are written as a whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from furnace.utils.errors import UserError, write_error

TEMPORARY = '.tmp-'  # how the names of unfinished files begin


@contextmanager
def beside(path: str | os.PathLike) -> Iterator[Path]:
    """The name of a new file beside ``path``, which takes its place after the block, and is gone after an exception.

    The name ends as that of ``path`` does; no other process of this machine has it.
    """
    path = Path(path)
    # Not tempfile: its files are private (0600), and data and weights are often shared.
    temporary = path.with_name(f'{TEMPORARY}{os.getpid()}-{path.name}')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # on a disk that cannot be written to: what went wrong before is to be told
            temporary.unlink(missing_ok=True)


@contextmanager
def drawing(path: str | os.PathLike) -> Iterator[Path]:
    """As ``beside``, for what writes a file by its name; a link is followed.

    Raises:
        UserError, RunError: it cannot be written.
    """
    try:
        with beside(Path(path).resolve()) as temporary:
            yield temporary
    except OSError as error:
        raise write_error(error, path) from None


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new file beside ``path``, in an existing folder, which takes its place when all is written and on the disk.

    Until then, and after an exception, ``path`` is as it was. The name ends as that of ``path`` does.
    """
    with beside(path) as temporary, open(temporary, 'wb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """``text`` and the end of its last line; the whole of it or nothing. A link is followed.

    Raises:
        UserError, RunError: it cannot be written.
    """
    content = f'{text}\n'.encode()
    try:
        if path.exists() and not path.is_file():  # /dev/stdout: nothing may take its place
            path.write_bytes(content)
            return
        with replacing(path.resolve()) as file:
            file.write(content)
    except OSError as error:
        raise write_error(error, path) from None


def write_json(path: Path, content: dict) -> None:
    """As ``write_text``; what JSON does not know becomes text."""
    write_text(path, json.dumps(content, indent=1, default=str))


def files_below(folder: Path, but: Path | None = None) -> list[Path]:
    """The files below ``folder`` at any depth, sorted; hidden files and folders, and those below ``but``, are left out.

    Links are followed, but no folder is entered twice: a link may lead to a folder that it lies in.

    Raises:
        UserError: a folder cannot be read.
    """
    files, folders, linked, seen = [], [folder], [], set()
    while folders or linked:
        current = folders.pop() if folders else linked.pop(0)  # links last: a folder counts under its own name
        try:
            status = os.stat(current)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(current) as found:
                entries = sorted((entry for entry in found if entry.name[0] != '.'), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f'{current}: the folder cannot be read: {error.strerror}') from None
        for entry in entries:
            path = current / entry.name
            if not entry.is_dir():
                files.append(path)
            elif path != but:
                (linked if entry.is_symlink() else folders).append(path)
    return sorted(files)
