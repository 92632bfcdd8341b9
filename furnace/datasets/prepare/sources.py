"""The files of a download, in folders and in archives alike; archives are read member by member, never unpacked."""

import contextlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from furnace.utils.errors import UserError
from furnace.utils.files import files_below

ZIP, TAR = ('.zip',), ('.tar', '.tar.gz', '.tgz')
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A file of a download."""

    where: str
    """for messages: its path, or the archive's and the member's name"""
    order: tuple[int, int]
    """source and place in it: a compressed tar is read quickly in this order only"""
    read: Callable[[], bytes]
    path: Path | None
    """None in an archive"""


@contextlib.contextmanager
def open_sources(paths: Sequence[Path], archives: Collection[str]) -> Iterator[dict[str, Entry]]:
    """The files of several folders, .zip, .tar and .tar.gz archives by name, sources in the order given.

    A name begins with the source's own, without the ending of an archive: ``/data/leftImg8bit`` has
    ``leftImg8bit/train/…``, ``/data/gtFine.zip`` has ``gtFine/gtFine/train/…``. Hidden files and ``__MACOSX`` are left
    out. Of two files of one name the first counts.

    Args:
        paths: existing folders and archives.
        archives: file names of archives that count as sources too where they lie in a given folder.

    Raises:
        UserError: no such file, no archive, a damaged one, or one with a member that is a link or lies outside of it.
    """
    inside = [path / name for path in paths if path.is_dir() for name in archives if (path / name).is_file()]
    with contextlib.ExitStack() as stack:
        entries: dict[str, Entry] = {}
        for number, path in enumerate([*paths, *inside]):
            ending = next((ending for ending in (*ZIP, *TAR) if path.name.lower().endswith(ending)), '')
            if path.is_dir():
                found = _folder(path, number)
            elif not path.is_file():
                raise UserError(f'{path}: no such file or folder')
            elif ending:
                found = (_zip if ending in ZIP else _tar)(path, number, stack)
            else:
                raise UserError(f'{path}: give a folder or an archive ({", ".join((*ZIP, *TAR))})')
            root = path.name[: len(path.name) - len(ending)]
            for name, entry in found:
                if not any(part.startswith('.') or part == '__MACOSX' for part in name.split('/')):
                    entries.setdefault(f'{root}/{name}', entry)
        yield entries


def _folder(folder: Path, number: int) -> Iterator[tuple[str, Entry]]:
    for place, path in enumerate(files_below(folder)):
        yield path.relative_to(folder).as_posix(), Entry(str(path), (number, place), path.read_bytes, path)


def _zip(path: Path, number: int, stack: contextlib.ExitStack) -> Iterator[tuple[str, Entry]]:
    with _whole(path):
        archive = stack.enter_context(zipfile.ZipFile(path))
    for place, member in enumerate(archive.infolist()):
        _check_name(path, member.filename, is_link=member.external_attr >> 16 & 0o170000 == 0o120000)
        if not member.is_dir():
            yield member.filename, _member(path, member.filename, (number, place), lambda m=member: archive.read(m))


def _tar(path: Path, number: int, stack: contextlib.ExitStack) -> Iterator[tuple[str, Entry]]:
    with _whole(path):
        archive = stack.enter_context(tarfile.TarFile.open(path))
        members = archive.getmembers()
        # tarfile takes an archive that was cut off between two members for whole: its end mark must be there.
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise EOFError('no end mark')
        while archive.fileobj.read(1 << 20):  # to the checksum of a compressed one
            pass
    for place, member in enumerate(members):
        _check_name(path, member.name, is_link=not (member.isfile() or member.isdir()))
        if member.isfile():
            name = str(PurePosixPath(member.name))  # without the ./ of some archives
            yield name, _member(path, name, (number, place), lambda m=member: archive.extractfile(m).read())


def _check_name(path: Path, name: str, is_link: bool) -> None:
    parts = name.replace('\\', '/').split('/')
    if is_link or '..' in parts or parts[0] == '' or parts[0].endswith(':'):
        what = 'a link or device' if is_link else 'outside of the archive'
        raise UserError(f'{path}: the member {name!r} is {what}: refused; is this the original archive?')


def _member(path: Path, name: str, order: tuple[int, int], read: Callable[[], bytes]) -> Entry:
    def read_whole() -> bytes:
        with _whole(path, f' (at {name})'):
            return read()

    return Entry(f'{path}: {name}', order, read_whole, None)


@contextlib.contextmanager
def _whole(path: Path, where: str = '') -> Iterator[None]:
    """Says in one line that an archive is damaged."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    except RuntimeError as error:  # NotImplementedError, where the compression is unknown, among them
        raise UserError(f'{path}: is encrypted or compressed in an unknown way{where}; unpack it ({error})') from None
    except _DAMAGE as error:
        reason = ' '.join(str(error).split()) or type(error).__name__
        raise UserError(f'{path}: is truncated or damaged{where}; fetch it again ({reason})') from None
