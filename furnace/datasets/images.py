"""Images and label maps: from files to arrays."""

import os

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from furnace.utils.errors import UserError

VOID = 255


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The image as uint8 (H, W, 3), RGB.

    Raises:
        UserError: the file is missing or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error:  # a size beyond OpenCV's limit
        image = None
    if image is None:
        raise UserError(f'{path}: is not an image that can be decoded')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def read_label(path: str | os.PathLike, num_classes: int) -> np.ndarray:
    """The class ids of a grey or palette PNG as uint8 (H, W); 255 is void.

    Raises:
        UserError: the file is missing, no image, not of one channel, or has ids outside 0 … num_classes-1 and 255.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ('L', 'P'):
                raise UserError(f'{path}: a label map has one 8-bit channel of class ids, this has mode {image.mode}')
            # A palette image's pixels are the ids; converting it to grey would turn colours into nonsense ids.
            label = np.array(image)
    except FileNotFoundError:
        raise UserError(f'{path}: no such label file') from None
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UserError(f'{path}: is not an image that can be decoded') from None
    # 255 + 1 wraps to 0, so one maximum finds every other id that is too large.
    if (label + np.uint8(1)).max() > num_classes:
        ids = np.unique(label)
        wrong = ids[(ids >= num_classes) & (ids != VOID)]
        raise UserError(
            f'{path}: has class ids {", ".join(map(str, wrong))} outside 0 … {num_classes - 1} and {VOID}; '
            'are these raw label ids instead of train ids, or is num_classes too small?'
        )
    return label


def read_pair(image_path: str, label_path: str, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label map of one size.

    Raises:
        UserError: as ``read_image`` and ``read_label``, or the sizes differ.
    """
    image, label = read_image(image_path), read_label(label_path, num_classes)
    if image.shape[:2] != label.shape:
        height, width = image.shape[:2]
        raise UserError(
            f'{label_path}: is {label.shape[1]}x{label.shape[0]} pixels, its image {image_path} is {width}x{height}'
        )
    return image, label
