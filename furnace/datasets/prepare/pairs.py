"""Images and label maps of a download, written one by one; what is there already is left as it is."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from furnace.datasets.images import image_size
from furnace.datasets.prepare.result import write_whole
from furnace.datasets.prepare.sources import Entry
from furnace.utils.errors import UserError

CHECK = 'then: python -m furnace.datasets.prepare check {} reads every file'


class Pair(NamedTuple):
    """An image, perhaps its label map, and where they go, relative to the data root."""

    image: Entry
    label: Entry | None
    to_image: str
    to_label: str | None


def write_pairs(
    root: Path,
    pairs: Sequence[Pair],
    read: Callable[[Entry], np.ndarray],
    link: bool,
    palette: np.ndarray | None = None,
) -> None:
    """Write images as they are and label maps as 8-bit PNGs of ids below ``root``, each file as a whole.

    Those that are there already stay as they are, and whatever else is there goes: the source may have changed since.

    Args:
        read: the ids of a label map, uint8 (H, W).
        link: symbolic links to the images; they are files of folders then.
        palette: uint8 (256, 3): colours of the ids; None: grey PNGs.

    Raises:
        UserError: a file cannot be read, or an image and its label map differ in size.
    """
    _remove_others(root, pairs)
    labeled = [pair for pair in pairs if pair.label]
    with tqdm(total=len(pairs) + len(labeled), desc='writing', unit='file') as bar:
        for pair in sorted(pairs, key=lambda pair: pair.image.order):
            to = root / pair.to_image
            if not to.exists():
                if link:
                    to.parent.mkdir(parents=True, exist_ok=True)
                    to.symlink_to(pair.image.path.resolve())
                else:
                    write_whole(to, pair.image.read())
            bar.update()
        for pair in sorted(labeled, key=lambda pair: pair.label.order):
            to = root / pair.to_label
            if not to.exists():
                write_whole(to, _label_png(read(pair.label), root / pair.to_image, pair, palette))
            bar.update()


def _remove_others(root: Path, pairs: Sequence[Pair]) -> None:
    wanted = {root / name for pair in pairs for name in (pair.to_image, pair.to_label) if name}
    for path in list(root.rglob('*')):
        if path not in wanted and (path.is_symlink() or not path.is_dir()):
            path.unlink()


def _label_png(ids: np.ndarray, image: Path, pair: Pair, palette: np.ndarray | None) -> bytes:
    size = image_size(image)
    if ids.shape[::-1] != size:
        raise UserError(
            f'{pair.label.where} is {ids.shape[1]}x{ids.shape[0]} pixels, '
            f'its image {pair.image.where} is {size[0]}x{size[1]}'
        )
    label = Image.fromarray(ids)
    if palette is not None:
        label.putpalette(palette.tobytes())
    file = io.BytesIO()
    label.save(file, 'PNG')
    return file.getvalue()


def require_folders(pairs: Sequence[Pair]) -> None:
    """Raises UserError where an image to be linked to lies in an archive."""
    for pair in pairs:
        if pair.image.path is None:
            raise UserError(f'{pair.image.where} is in an archive: --link needs it unpacked, or leave --link out')


def compare_counts(counts: dict[str, int], full: dict[str, int]) -> list[str]:
    """Lines that tell the number of images of each split beside that of the whole data set."""
    return [
        f'{name}: {counts[name]} images'
        + (', all of the full set' if counts[name] == number else f'; note: the full set has {number}')
        for name, number in full.items()
    ]
