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
