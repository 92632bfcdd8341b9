"""Label maps whose pixels are the colours of the classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from furnace.datasets.images import read_image, read_label
from furnace.utils.errors import UserError

Color = tuple[int, int, int]


def read_ids(path: Path, table: Mapping[Color, int] | None, unknown: int | None) -> np.ndarray:
    """The ids of a label map, uint8 (H, W), by colour where its mode is RGB.

    Args:
        table: the id of each (R, G, B); None where no colours are known.
        unknown: the id of every other colour; None: they are an error.

    Raises:
        UserError: as ``read_label``, or a colour without an id.
    """
    if not _is_rgb(path):
        return read_label(path, 256)
    if table is None:
        raise UserError(
            f'{path}: a label map has one 8-bit channel of class ids, this has mode RGB; '
            '--classes FILE with the colours of the classes reads it'
        )
    pixels = read_image(path).astype(np.int32) @ (1 << 16, 1 << 8, 1)
    codes = sorted(((r << 16) + (g << 8) + b, id_) for (r, g, b), id_ in table.items())
    keys, ids = np.array([*codes, (1 << 24, 0)]).T  # the last is no colour: every pixel finds a place
    place = np.searchsorted(keys, pixels)
    known = keys[place] == pixels
    if unknown is None and not known.all():
        code = int(pixels[~known][0])
        color = code >> 16, code >> 8 & 255, code & 255
        raise UserError(
            f'{path}: {(~known).sum()} pixels of an RGB label map have colours of no class (or of two), such as '
            f'{color}; name them in classes.json, use --unknown-void, or maps of one 8-bit channel of ids'
        )
    return np.where(known, ids[place], unknown or 0).astype(np.uint8)


def _is_rgb(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode == 'RGB'
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False  # read_label tells what is wrong
