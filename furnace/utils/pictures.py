"""Label maps as pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

GAP = 8


def side_by_side(image: np.ndarray, *labels: np.ndarray | None, palette: np.ndarray) -> np.ndarray:
    """Image | label maps in their colours, on a light grey ground; uint8 (H, W', 3) RGB.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: uint8 (H, W) each; None leaves its place out.
        palette: uint8 (256, 3), see ``Classes.palette``.
    """
    height, width = image.shape[:2]
    panels = [image, *(palette[label] for label in labels if label is not None)]
    ground = np.full((height, len(panels) * (width + GAP) - GAP, 3), 230, np.uint8)
    for number, panel in enumerate(panels):
        left = number * (width + GAP)
        ground[:, left : left + width] = panel
    return ground


def save_prediction(
    folder: Path, name: str, image: np.ndarray, prediction: np.ndarray, label: np.ndarray | None, palette: np.ndarray
) -> None:
    """``NAME.png`` (image | prediction | ground truth), ``raw/NAME.png`` (ids) and ``color/NAME.png`` (palette)."""
    for part in ('raw', 'color'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(side_by_side(image, prediction, label, palette=palette)).save(folder / f'{name}.png')
    ids = Image.fromarray(prediction)
    ids.save(folder / 'raw' / f'{name}.png')
    ids.putpalette(palette.tobytes())
    ids.save(folder / 'color' / f'{name}.png')


def save_segmentation(
    folder: Path, name: str, image: np.ndarray, label: np.ndarray, confidence: np.ndarray, palette: np.ndarray
) -> None:
    """``label/NAME.png`` (ids, with palette), ``overlay/NAME.png`` and ``confidence/NAME.png`` (grey, 255 is certain).

    Args:
        image: uint8 (H, W, 3) RGB.
        label: uint8 (H, W).
        confidence: float (H, W), in 0 … 1.
        palette: uint8 (256, 3), see ``Classes.palette``.
    """
    ids = Image.fromarray(label)
    ids.putpalette(palette.tobytes())
    overlay = Image.blend(Image.fromarray(image), Image.fromarray(palette[label]), 0.5)
    certain = Image.fromarray(np.rint(255 * confidence).astype(np.uint8))
    for part, picture in (('label', ids), ('overlay', overlay), ('confidence', certain)):
        path = folder / part / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
