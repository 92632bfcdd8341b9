"""Training augmentation: flip, scale, random crop, padding. Pixels stay uint8; the device normalises them."""

from collections.abc import Sequence
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


def resize(image: np.ndarray, scale: float, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The image at ``scale`` (linear for images; pass ``cv2.INTER_NEAREST`` for label maps)."""
    if scale == 1:
        return image
    small = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    size = small if 1 in small else None  # OpenCV makes no side of 0 pixels
    return cv2.resize(image, size, fx=scale, fy=scale, interpolation=interpolation)


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
    """Flip with probability 0.5, scale by one of ``scales``, crop at random, pad evenly what is too small."""
    flip, scale, place = rng.random() < 0.5, scales[rng.integers(len(scales))], rng.random(2)
    image = resize(image, scale)
    top, left = (
        int(p * (max(0, have - wanted) + 1)) for p, have, wanted in zip(place, image.shape, size, strict=False)
    )
    window = slice(top, top + size[0]), slice(left, left + size[1])
    image = image[window]
    height, width = image.shape[:2]
    image, (top, left) = pad_center(image[:, ::-1] if flip else image, size)
    if label is not None:
        label = resize(label, scale, cv2.INTER_NEAREST)[window]
        label, _ = pad_center(label[:, ::-1] if flip else label, size, VOID)
    return Crop(image, label, (top, left, top + height, left + width))
