"""Class names and the colours in which label maps are shown."""

import json
import os
from dataclasses import dataclass
from operator import index
from typing import Any

import numpy as np

from furnace.utils.errors import UserError


@dataclass(frozen=True)
class Classes:
    """Names in the order of the ids, and a colour (R, G, B) for each."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def palette(self) -> np.ndarray:
        """uint8 (256, 3): the classes' colours, white for void (255), black for any other id."""
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(self.colors)] = self.colors
        palette[255] = 255
        return palette

    def plain(self) -> dict[str, list]:
        """Lists alone, as a checkpoint may hold them; ``parse_classes`` reads them."""
        return {'names': list(self.names), 'colors': [list(color) for color in self.colors]}

    def require(self, num_classes: int) -> None:
        """Raises UserError unless there is a name for each of ``num_classes``."""
        if len(self) != num_classes:
            raise UserError(f'num_classes = {num_classes}, but there are names for {len(self)} classes')


def voc_colormap(n: int) -> tuple[tuple[int, int, int], ...]:
    """The first n colours of PASCAL VOC: the id's bits, lowest first, dealt to R, G, B from the highest bit down."""
    return tuple(
        tuple(sum((label >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3))
        for label in range(n)
    )


PASCAL_VOC = Classes(
    names=(
        'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
        'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
    ),
    colors=voc_colormap(21),
)  # fmt: skip

CITYSCAPES = Classes(
    names=(
        'road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign', 'vegetation',
        'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle',
    ),
    colors=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0),
        (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
)  # fmt: skip


def read_classes(path: str | os.PathLike) -> Classes:
    """Classes from a file ``{"names": [...], "colors": [[r, g, b], ...]}``, as ``furnace.datasets.prepare`` writes it.

    Raises:
        UserError: the file is missing or not of this form.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except FileNotFoundError:
        raise UserError(f'{path}: no such file; python -m furnace.datasets.prepare writes it') from None
    except (OSError, ValueError, RecursionError) as error:
        raise _unexpected(path, error) from None
    return parse_classes(content, path)


def parse_classes(content: Any, source: str | os.PathLike) -> Classes:
    """Classes from ``{'names': [...], 'colors': [[r, g, b], ...]}``.

    Args:
        source: where the content comes from, for the error.

    Raises:
        UserError: it is not of this form.
    """
    try:
        if not isinstance(content['names'], list | tuple):
            raise TypeError('the names are no list')
        names = tuple(str(name) for name in content['names'])
        colors = tuple((index(r), index(g), index(b)) for r, g, b in content['colors'])
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise _unexpected(source, error) from None
    if len(names) != len(colors) or not names or not all(0 <= v <= 255 for color in colors for v in color):
        raise UserError(f'{source}: needs one name and one colour (0 … 255) for each class')
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'{source}: two classes are named {twice!r}; scores are told by name, so give each its own')
    return Classes(names, colors)


def _unexpected(source: str | os.PathLike, error: Exception) -> UserError:
    reason = f'{type(error).__name__}: {error}'
    return UserError(f'{source}: expected {{"names": [...], "colors": [[r, g, b], ...]}}: {reason}')
