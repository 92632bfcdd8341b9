"""Decoded images and label maps on disk, so that a sample costs no decoding."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from furnace.datasets.images import image_size, read_image, read_label, require_one_size
from furnace.datasets.lists import Item
from furnace.utils.errors import UserError, write_error

_TEMPORARY = '.part-'
_HOUR = 3600


class Cache:
    """One memory-mapped ``.npy`` file for each image and label map, shared by all processes that read it.

    An entry's name tells path, size and time of the file it was made from: one that changed is decoded anew, in
    ``build`` for good and elsewhere for the moment. Entries appear whole, under their name, or not at all.

    Args:
        folder: made by ``build`` where it is missing.
        num_classes: ids in the label maps, void aside.
    """

    def __init__(self, folder: str | os.PathLike, num_classes: int):
        self.folder, self.num_classes = Path(folder), num_classes

    def image(self, path: str) -> np.ndarray:
        """As ``read_image``, read-only."""
        entry = self._load(path, '')
        return read_image(path) if entry is None else entry

    def pair(self, image_path: str, label_path: str) -> tuple[np.ndarray, np.ndarray]:
        """As ``read_pair``, read-only."""
        label = self._load(label_path, str(self.num_classes))
        label = read_label(label_path, self.num_classes) if label is None else label
        image = self.image(image_path)
        require_one_size(image, label, image_path, label_path)
        return image, label

    def missing(self, labeled: Iterable[Item], unlabeled: Iterable[Item] | None) -> list[tuple[str, str]]:
        """Path and kind ('' for images) of the files that have no entry, each once."""
        files = [(item.image, '') for item in [*labeled, *(unlabeled or ())]]
        files += [(item.label, str(self.num_classes)) for item in labeled]
        names = set(os.listdir(self.folder)) if self.folder.is_dir() else set()
        return [file for file in dict.fromkeys(files) if self._name(*file) not in names]

    def bytes_for(self, files: Iterable[tuple[str, str]]) -> int:
        """What ``build`` will write, from the headers of the files."""
        return sum(np.prod(image_size(path), dtype=int).item() * (1 if kind else 3) for path, kind in files)

    def build(self, files: Sequence[tuple[str, str]], threads: int = 1, show: bool = True) -> None:
        """Decode ``files`` into their entries.

        Args:
            files: of ``missing``; processes on one machine may each build a part of them.
            threads: that decode at a time.
            show: a progress bar.

        Raises:
            UserError: a file cannot be decoded, or the folder has no room.
            UserError, RunError: the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            room = shutil.disk_usage(self.folder).free
            needed = self.bytes_for(files)
            if needed > room:
                raise UserError(
                    f'cache_dir = {self.folder}: {len(files)} decoded files take {needed / 1e9:.1f} GB, '
                    f'{room / 1e9:.1f} GB are free there; name another disk, or None to do without'
                )
            former = self._former()
            with ThreadPoolExecutor(threads) as pool:
                tasks = [pool.submit(self._build, path, kind, former) for path, kind in files]
                try:
                    for task in tqdm(tasks, 'decoding into the cache', unit='file', disable=not show, leave=False):
                        task.result()
                finally:
                    pool.shutdown(cancel_futures=True)
        except OSError as error:
            raise write_error(error, f'cache_dir = {self.folder}') from None

    def _former(self) -> dict[str, list[Path]]:
        """The entries by their file's key; what a killed process left is removed."""
        entries: dict[str, list[Path]] = {}
        for path in self.folder.iterdir():
            if path.name.startswith(_TEMPORARY):
                with suppress(FileNotFoundError):  # another process has just renamed it
                    if time.time() - path.stat().st_mtime > _HOUR:  # else one may be at it
                        path.unlink()
            else:
                entries.setdefault(path.name.split('-')[0], []).append(path)
        return entries

    def _build(self, path: str, kind: str, former: dict[str, list[Path]]) -> None:
        name = self._name(path, kind)
        array = read_label(path, self.num_classes) if kind else read_image(path)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=_TEMPORARY)
        try:
            with open(handle, 'wb') as file:
                np.save(file, array)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / name)
        except BaseException:
            os.unlink(temporary)
            raise
        for old in former.get(name.split('-')[0], ()):
            if old.name != name:
                old.unlink(missing_ok=True)

    def _name(self, path: str, kind: str) -> str:
        try:
            status = os.stat(path)
        except OSError as error:
            raise UserError(f'{path}: cannot be read: {error.strerror}') from None
        key = hashlib.sha256(f'{os.path.abspath(path)}\n{kind}'.encode(errors='surrogateescape')).hexdigest()[:32]
        return f'{key}-{status.st_size}-{status.st_mtime_ns}.npy'

    def _load(self, path: str, kind: str) -> np.ndarray | None:
        entry = self.folder / self._name(path, kind)
        try:
            return np.load(entry, mmap_mode='r', allow_pickle=False)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError):
            raise UserError(f'{entry}: is damaged; delete it, and it is made anew from {path}') from None
