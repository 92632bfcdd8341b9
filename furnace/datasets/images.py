"""Images and label maps: from files to arrays."""

import io
import os

import cv2
import numpy as np
from PIL import Image

from furnace.utils.errors import UserError

VOID = 255
JPEG_BEGIN, JPEG_END = b'\xff\xd8', b'\xff\xd9'


def read_image(path: str | os.PathLike) -> np.ndarray:
    """The image as uint8 (H, W, 3), RGB.

    Raises:
        UserError: the file is missing, truncated or no image.
    """
    data = _read_bytes(path)
    # A JPEG's scans are followed by an end mark, which can occur nowhere in them. OpenCV 4 paints a missing rest grey.
    if data.startswith(JPEG_BEGIN) and not data.endswith(JPEG_END) and data.find(JPEG_END, _first_scan(data)) < 0:
        raise UserError(f'{path}: the image is truncated')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # a size beyond OpenCV's limit
        image = None
    if image is None:
        raise UserError(f'{path}: is not an image that can be decoded')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _first_scan(jpeg: bytes) -> int:
    """Where it begins: behind the segments, which may hold a thumbnail with an end mark of its own."""
    position = 2
    while jpeg[position : position + 1] == b'\xff' and jpeg[position + 1 : position + 2] not in (b'\xda', b''):
        length = int.from_bytes(jpeg[position + 2 : position + 4], 'big')
        position += 1 if jpeg[position + 1] == 0xFF else 2 + length  # a mark may have more than one FF before it
    return position


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) from the header, as ``read_image`` will show it.

    Raises:
        UserError: the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            turned = 'exif' in image.info and image.getexif().get(0x0112) in (5, 6, 7, 8)  # Orientation: by 90°
            return image.size[::-1] if turned else image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f'{path}: is not an image that can be read: {error}') from None


def read_label(path: str | os.PathLike, num_classes: int) -> np.ndarray:
    """The class ids of a grey (8 bits) or palette PNG as uint8 (H, W); 255 is void.

    Raises:
        UserError: the file is missing, no image, not of one channel, or has ids outside 0 … num_classes-1 and 255.
    """
    return decode_label(_read_bytes(path), path, num_classes)


def decode_label(data: bytes, path: str | os.PathLike, num_classes: int) -> np.ndarray:
    """As ``read_label``, from the file's content; ``path`` only names it."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ('L', 'P'):
                raise UserError(f'{path}: a label map has one 8-bit channel of class ids, this has mode {image.mode}')
            # Grey of 2 or 4 bits is stretched to 0 … 255 in decoding (4 bits: 1 becomes 17). Some programs write plain
            # ids so, others shorten 8-bit maps whose ids happen to be such multiples: the file does not tell which.
            if image.mode == 'L' and image.tile[0][3] in ('L;2', 'L;4'):
                raise UserError(
                    f'{path}: a grey label map of {image.tile[0][3][-1]} bits, whose ids are ambiguous; '
                    'save it with 8 bits a pixel or with a palette'
                )
            # A palette image's pixels are the ids; converting it to grey would turn colours into nonsense ids.
            label = np.array(image)
    except (OSError, IndexError, SyntaxError, ValueError, Image.DecompressionBombError):
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
    require_one_size(image, label, image_path, label_path)
    return image, label


def require_one_size(image: np.ndarray, label: np.ndarray, image_path: str, label_path: str) -> None:
    """Raises UserError where image (H, W, 3) and label map (H, W) differ in height or width."""
    if image.shape[:2] != label.shape:
        height, width = image.shape[:2]
        raise UserError(
            f'{label_path}: is {label.shape[1]}x{label.shape[0]} pixels, its image {image_path} is {width}x{height}'
        )


def _read_bytes(path: str | os.PathLike) -> bytes:
    try:
        with open(path, 'rb') as file:
            return file.read()
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from None
