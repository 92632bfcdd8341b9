"""Training augmentation: flip, scale, random crop, padding. Pixels stay uint8; the device normalises them."""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, lcm
from typing import NamedTuple

import cv2
import numpy as np

from furnace.datasets.images import VOID


class Crop(NamedTuple):
    """A crop of the wanted size."""

    image: np.ndarray
    """uint8 (h, w, 3), 0 in the padding"""
    label: np.ndarray | None
    """uint8 (h, w), void in the padding"""
    inside: tuple[int, int, int, int]
    """top, left, bottom, right of the pixels that come from the image"""


def resized_shape(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Height and width that ``resize`` gives an array of ``shape``."""
    height, width = (max(1, round(side * scale)) for side in shape[:2])
    return height, width


def resize(image: np.ndarray, scale: float, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The image at ``scale`` (linear for images; pass ``cv2.INTER_NEAREST`` for label maps)."""
    if scale == 1:
        return image
    nothing = any(round(side * scale) == 0 for side in image.shape[:2])
    size = resized_shape(image.shape, scale)[::-1] if nothing else None  # OpenCV makes no side of 0 pixels
    return cv2.resize(image, size, fx=scale, fy=scale, interpolation=interpolation)


def resized_window(
    image: np.ndarray, scale: float, window: tuple[slice, slice], interpolation: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """``resize(image, scale)[window]``, from the pixels that it needs alone.

    Labels (nearest) are the same, images (linear) to within one grey level.
    """
    shape = resized_shape(image.shape, scale)
    parts = [_source(side, scale, part) for side, part in zip(image.shape, window, strict=False)]
    part = resize(image[tuple(source for source, _ in parts)], scale, interpolation)
    found = part[tuple(place for _, place in parts)]
    # A side of … .5 pixels may have been rounded in another direction than that of the whole, one of 0 made 1.
    as_whole = all(
        min(side, cut.stop) - cut.start == have for side, cut, have in zip(shape, window, found.shape, strict=False)
    )
    return found if as_whole and min(part.shape[:2]) > 1 else resize(image, scale, interpolation)[window]


def _source(length: int, scale: float, window: slice) -> tuple[slice, slice]:
    """What of a side of ``length`` the window needs, and where the window lies in what that becomes at ``scale``.

    A part gives the same pixels as the whole where its first pixel keeps its phase: where it becomes a whole number
    of pixels, an even one so that OpenCV rounds the size as before.
    """
    ratio = Fraction(scale).limit_denominator(1000)
    first = 0
    if float(ratio) == scale:
        step = lcm(ratio.numerator, 2)
        # An enlarged pixel is mixed from its own and a neighbouring one, which must be there too.
        first = max(0, (window.start - ceil(scale / 2)) // step * step)
    start = int(first / ratio)
    stop = min(length, ceil(window.stop / ratio) + 2)
    return slice(start, stop), slice(window.start - first, window.stop - first)


def pad_center(image: np.ndarray, size: tuple[int, int], value: int = 0) -> tuple[np.ndarray, tuple[int, int]]:
    """``image`` with a border of ``value`` up to at least ``size``, and how many rows and columns lie before it."""
    spare = [max(0, wanted - have) for wanted, have in zip(size, image.shape, strict=False)]
    top, left = spare[0] // 2, spare[1] // 2
    if any(spare):
        image = cv2.copyMakeBorder(
            image, top, spare[0] - top, left, spare[1] - left, cv2.BORDER_CONSTANT, value=[value] * 3
        )
    return image, (top, left)


def train_crop(
    image: np.ndarray,
    label: np.ndarray | None,
    size: tuple[int, int],
    scales: Sequence[float],
    rng: np.random.Generator,
) -> Crop:
    """Flip with probability 0.5, scale by one of ``scales``, crop at random, pad evenly what is too small.

    The crop is flipped, not the whole image before: where a factor is no whole number, mirrored labels may differ from
    those of the published order by a pixel.

    Args:
        image: uint8 (H, W, 3).
        label: uint8 (H, W), or None.
        size: height and width of the crop.
        scales: factors.
        rng: advanced alike for every image.
    """
    flip, scale, place = rng.random() < 0.5, scales[rng.integers(len(scales))], rng.random(2)
    top, left = (
        int(p * (max(0, have - wanted) + 1))
        for p, have, wanted in zip(place, resized_shape(image.shape, scale), size, strict=True)
    )
    window = slice(top, top + size[0]), slice(left, left + size[1])

    def cut(array: np.ndarray, interpolation: int) -> np.ndarray:
        part = resized_window(array, scale, window, interpolation)
        return cv2.flip(part, 1) if flip else part

    image = cut(image, cv2.INTER_LINEAR)
    height, width = image.shape[:2]
    image, (top, left) = pad_center(image, size)
    if label is not None:
        label, _ = pad_center(cut(label, cv2.INTER_NEAREST), size, VOID)
    return Crop(image, label, (top, left, top + height, left + width))
