"""Small images whose pixels tell which image, label and place they come from; and where the real data lie."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from furnace.datasets.lists import Item
from furnace.utils.errors import UserError

SHARED = Path(__file__).resolve().parents[1].parent / 'shared/data'
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason='needs ../shared')

NUM_CLASSES = 5
STEP = 40  # of the label as it is drawn into the image


def save(path, array):
    """Write an array as it is: (H, W) grey, (H, W, 3) RGB; the suffix gives the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def refused(read, *arguments):
    """What ``read`` says, in one line that names its first argument, a file, when it refuses it."""
    with pytest.raises(UserError) as error:
        read(*arguments)
    text = str(error.value)
    assert '\n' not in text
    assert str(arguments[0]) in text
    return text


def blocks(size, side=6, seed=0):
    """Label map of squares of one id each, some of them void."""
    height, width = size
    rng = np.random.default_rng(seed)
    ids = rng.integers(NUM_CLASSES + 1, size=(-(-height // side), -(-width // side)))
    ids = np.where(ids == NUM_CLASSES, 255, ids).astype(np.uint8)
    return np.repeat(np.repeat(ids, side, 0), side, 1)[:height, :width]


def draw(label, number):
    """Image with red: ``number`` + 1; green: the label, see ``drawn``; blue: the column."""
    green = np.where(label == 255, NUM_CLASSES, label) * STEP + 20
    columns = np.broadcast_to(np.arange(label.shape[1]), label.shape)
    return np.stack([np.full_like(green, number + 1), green, columns % 256], axis=2).astype(np.uint8)


def drawn(green):
    """The label map that ``draw`` drew, from an image's green channel (0, the padding, is void)."""
    ids = green.astype(int) // STEP
    return np.where((ids >= NUM_CLASSES) | (green == 0), 255, ids).astype(np.uint8)


def make_items(folder, number, size=(20, 24), labels=True):
    """``number`` images on disk, and label maps where asked for. Without, the items name files that do not exist."""
    items = []
    for i in range(number):
        label = blocks(size, seed=i)
        image_path, label_path = folder / f'images/{i}.png', folder / f'labels/{i}.png'
        save(image_path, draw(label, i))
        if labels:
            save(label_path, label)
        items.append(Item(str(i), str(image_path), str(label_path)))
    return items


def inner(label):
    """Where a pixel and its eight neighbours have one label."""
    window = np.ones((3, 3), np.uint8)
    same = cv2.erode(label, window) == cv2.dilate(label, window)
    same[[0, -1]] = same[:, [0, -1]] = False
    return same
