"""Titled panels in rows, and a legend."""

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from furnace.utils.errors import UserError
from furnace.utils.files import drawing

VOID = 255
GAP, TEXT = 20, 28
INK, GROUND = (31, 35, 40), (255, 255, 255)
SUBSCRIPT = re.compile(r'_(\w)')


def enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    """Each pixel as scale x scale of them; (H, W) or (H, W, 3)."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def hatched(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of uint8 (H, W, 3), striped where the mask (H, W) is true."""
    y, x = np.indices(mask.shape)
    stripes = np.where((x + y) % 12 < 4, 90, 245)[..., None]
    return np.where(mask[..., None], stripes, picture).astype(np.uint8)


def shown(label: np.ndarray, palette: np.ndarray, scale: int) -> np.ndarray:
    """A label map (H, W) enlarged, in its colours, void striped, with the class ids on the larger regions.

    Args:
        palette: uint8 (256, 3), see ``Classes.palette``.
    """
    picture = enlarged(palette[label], scale)
    image = Image.fromarray(hatched(picture, enlarged(label == VOID, scale)))
    draw = ImageDraw.Draw(image)
    for i in np.setdiff1d(label, VOID):
        _, regions, stats, _ = cv2.connectedComponentsWithStats((label == i).astype(np.uint8), connectivity=4)
        wide = stats[1:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].min(axis=1) * scale >= 15
        for region in 1 + np.flatnonzero(wide):  # noise has thousands of others
            inside = cv2.copyMakeBorder((regions == region).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            distance = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
            if distance.max() * scale >= 15:  # else the id would stand on its neighbours
                y, x = np.unravel_index(distance.argmax(), distance.shape)
                draw.text(((x - 0.5) * scale, (y - 0.5) * scale), str(i), _readable_on(palette[i]), _font(24), 'mm')
    return np.array(image)


def compose(rows: list[list[tuple[str, np.ndarray]]], legend: list[tuple[np.ndarray, str]]) -> Image.Image:
    """Rows of (title, picture), the pictures of one size, above a legend of (sample, meaning).

    In titles and meanings ``_`` makes the next character a subscript. A row without titles takes no room for them.
    """
    height, width = rows[0][0][1].shape[:2]
    most = GAP + len(rows) * (TEXT + 12 + height + GAP) + len(legend) * (TEXT + GAP)
    sheet = Image.new('RGB', (GAP + max(map(len, rows)) * (width + GAP), most), GROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row in rows:
        head = TEXT + 12 if any(title for title, _ in row) else 0
        for i, (title, picture) in enumerate(row):
            left = GAP + i * (width + GAP)
            _write(draw, left, top, title)
            sheet.paste(Image.fromarray(picture), (left, top + head))
        top += head + height + GAP
    left = GAP
    for sample, meaning in legend:
        wide = sample.shape[1] + 10 + _length(meaning)
        if left + wide + GAP > sheet.width:
            left, top = GAP, top + TEXT + GAP
        sheet.paste(Image.fromarray(sample), (left, top + 2))
        _write(draw, left + sample.shape[1] + 10, top, meaning)
        left += wide + 30
    return sheet.crop((0, 0, sheet.width, top + TEXT + GAP))


def save(sheet: Image.Image, path: Path) -> None:
    """Write the picture, the whole of it or nothing, and print where.

    Raises:
        UserError, RunError: it cannot be written.
    """
    try:
        with drawing(path) as temporary:
            sheet.save(temporary, optimize=True)
    except ValueError as error:  # a suffix of no known format
        raise UserError(f'{path}: cannot be written: {error}') from None
    print(path)


def class_legend(names: Sequence[str], palette: np.ndarray, void: str = 'void') -> list[tuple[np.ndarray, str]]:
    """A sample of each class with its id, and of void, for ``compose``."""
    meanings = [*enumerate(names), (VOID, void)]
    return [(shown(np.full((3, 3), i), palette, 10), meaning) for i, meaning in meanings]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # comes with Pillow: the same on every machine


def _readable_on(color: np.ndarray) -> tuple[int, int, int]:
    return INK if np.dot(color, (0.299, 0.587, 0.114)) > 105 else GROUND


def _parts(text: str) -> list[tuple[str, ImageFont.FreeTypeFont, int]]:
    """What of a text is written in which font, and how far it is lowered."""
    return [(part, _font(TEXT - 8 * (i % 2)), 14 * (i % 2)) for i, part in enumerate(SUBSCRIPT.split(text))]


def _length(text: str) -> int:
    return round(sum(font.getlength(part) for part, font, _ in _parts(text)))


def _write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str) -> None:
    for part, font, lowered in _parts(text):
        draw.text((x, y + lowered), part, INK, font)
        x += font.getlength(part)
