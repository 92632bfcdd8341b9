"""Images and videos without labels: which files are meant, and their pixels, decoded ahead."""

import glob
import itertools
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np

from furnace.datasets.find import IMAGE_SUFFIXES
from furnace.datasets.images import read_image
from furnace.utils.errors import UserError
from furnace.utils.files import files_below

VIDEOS = frozenset({'.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'})
AHEAD = 4  # pictures that wait for the network


class Source(NamedTuple):
    """An image or a video, and the name for what is made of it: relative, without suffix, no other source's."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """As its suffix says."""
        return self.path.suffix.lower() in VIDEOS


class Picture(NamedTuple):
    """An image, or a frame of a video, to be segmented."""

    name: str
    image: np.ndarray
    """uint8 (H, W, 3) RGB"""


def find_sources(inputs: Iterable[str]) -> tuple[list[Source], list[str]]:
    """The images and videos that ``inputs`` mean, images first, and notes on names that had to differ from the file's.

    An input is a file of any suffix, a folder (images and videos at any depth; hidden ones are left out), or a pattern
    such as ``**/*.png``. A file that several of them mean counts once. What lies in ``photos/a/x.jpg`` of the folder
    ``photos`` is named ``photos/a/x``, a file that is named itself ``x``; a name that is taken already gets a number.

    Raises:
        UserError: an input is nothing, or holds no image.
    """
    found = {}
    for text in inputs:
        matches = [text] if os.path.exists(text) else sorted(glob.glob(text, recursive=True))
        if not matches:
            raise UserError(f'{text}: no such file or folder')
        files = [pair for match in matches for pair in _files(Path(match))]
        if not files:
            raise UserError(f'{text}: holds no image or video ({", ".join(sorted(IMAGE_SUFFIXES | VIDEOS))})')
        for path, name in files:
            found.setdefault(os.path.abspath(path), Source(path, name))
    sources, notes, names, folders = [], [], set(), set()
    for source in sorted(found.values(), key=lambda source: source.is_video):
        stem = source.name
        candidates = itertools.chain([stem], (f'{stem}_{number}' for number in itertools.count(2)))
        # Some disks do not tell a from A. The frames of a video fill a folder, which must not be one of the images'.
        taken = folders | names if source.is_video else names
        name = next(name for name in candidates if name.casefold() not in taken)
        if name != stem:
            notes.append(f'{source.path}: saved as {name}, because {stem} is taken')
        names.add(name.casefold())
        folders.update(str(parent).casefold() for parent in PurePosixPath(name).parents)
        sources.append(Source(source.path, name))
    return sources, notes


def _files(path: Path) -> list[tuple[Path, str]]:
    """The file itself, or the images and videos below the folder, sorted; each with its name."""
    if not path.is_dir():
        return [(path, path.stem)]
    files = [file for file in files_below(path) if file.suffix.lower() in IMAGE_SUFFIXES | VIDEOS]
    top = Path(os.path.basename(os.path.abspath(path)))
    return [(file, (top / file.relative_to(path).with_suffix('')).as_posix()) for file in files]


def count(sources: Iterable[Source], every: int = 1) -> int:
    """How many pictures ``read`` will give, as far as the videos announce it."""
    return sum(math.ceil(_announced(source.path) / every) if source.is_video else 1 for source in sources)


def _announced(path: Path) -> int:
    return max(0, int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)))


def read(sources: Iterable[Source], every: int = 1) -> Iterator[Picture | UserError]:
    """The images, and every ``every``-th frame of the videos, ``NAME/000000`` and so on; an error for a broken one."""
    for source in sources:
        try:
            if source.is_video:
                yield from _frames(source, every)
            else:
                yield Picture(source.name, read_image(source.path))
        except UserError as error:
            yield error


def _frames(source: Source, every: int) -> Iterator[Picture]:
    video = cv2.VideoCapture(str(source.path))
    number = 0
    while video.grab():
        if number % every == 0:
            good, frame = video.retrieve()
            if not good:
                break
            yield Picture(f'{source.name}/{number:06d}', cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        number += 1
    announced, second = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    video.release()
    if number == 0:
        raise UserError(f'{source.path}: is not a video that can be decoded')
    if number + second < announced:  # some formats only estimate the number from the duration
        raise UserError(f'{source.path}: the video breaks off after {number} of {announced:.0f} frames')


def ahead(pictures: Iterator[Picture | UserError]) -> Iterator[Picture | UserError]:
    """The same, up to ``AHEAD`` of them made by a thread while the last is worked on."""
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, pictures, end) for _ in range(AHEAD))
        while (picture := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, pictures, end))
            yield picture
