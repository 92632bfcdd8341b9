"""CutMix box masks (French et al., BMVC 2020): boxes are drawn on the host, masks painted on any device."""

import numpy as np
import torch
from torch import Tensor


def draw_boxes(
    num_images: int,
    size: tuple[int, int],
    rng: np.random.RandomState,
    prop_range: tuple[float, float] = (0.25, 0.5),
    n_boxes: int = 3,
    fixed_aspect_ratio: bool = False,
    by_size: bool = False,
    outside_bounds: bool = False,
) -> Tensor:
    """Boxes whose area shares are uniform in ``prop_range`` before division by ``n_boxes``.

    Args:
        num_images: images in the batch; everything is drawn for the whole batch at once.
        size: height and width of the masks, pixels.
        rng: advanced by shares (N, n), aspects (N, n) and positions (N, n, 2), in this order.
        prop_range: least and greatest share of the area (of the sides with ``by_size``).
        n_boxes: boxes an image.
        fixed_aspect_ratio: boxes have the image's aspect ratio.
        by_size: ``prop_range`` bounds the sides instead of the area.
        outside_bounds: box centres, not whole boxes, lie inside the image.

    Returns:
        int64 (num_images, n_boxes, 4): top, left, bottom, right in pixels, clipped to the image.
    """
    shape = (num_images, n_boxes)
    if by_size:
        y = rng.uniform(*prop_range, size=shape)
        x = y if fixed_aspect_ratio else rng.uniform(*prop_range, size=shape)
    else:
        share = rng.uniform(*prop_range, size=shape)
        with np.errstate(divide='ignore', invalid='ignore'):
            y = np.sqrt(share) if fixed_aspect_ratio else np.exp(rng.uniform(size=shape) * np.log(share))
            x = np.nan_to_num(share / y)  # a share of 0 is an empty box
    extent = np.array(size)
    sides = np.round(np.stack([y, x], axis=2) * np.sqrt(1 / n_boxes) * extent)
    place = rng.uniform(size=sides.shape)
    corner = np.round(extent * place) - sides / 2 if outside_bounds else np.round((extent - sides) * place)
    boxes = np.concatenate([corner, corner + sides], axis=2).astype(np.int64)
    return torch.from_numpy(boxes.clip(0, np.tile(extent, 2)))


def paint_masks(boxes: Tensor, size: tuple[int, int], invert: bool = True) -> Tensor:
    """Masks in which every box flips what lies under it, so that overlaps flip back.

    Args:
        boxes: int (N, n, 4) of ``draw_boxes``, on the device where the masks are wanted.
        size: height and width of the masks.
        invert: start from 0, so that the boxes show u1; else from 1.

    Returns:
        bool (N, 1, H, W), true where u1 is taken.
    """
    top, left, bottom, right = boxes[..., None].unbind(dim=2)
    y = torch.arange(size[0], device=boxes.device)
    x = torch.arange(size[1], device=boxes.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    mask = torch.full((len(boxes), *size), not invert, device=boxes.device)
    for row, column in zip(rows.unbind(dim=1), columns.unbind(dim=1), strict=True):
        mask ^= row[:, :, None] & column[:, None, :]
    return mask[:, None]


def mix(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """``b`` where the mask is true, ``a`` elsewhere: for images, and for label or confidence maps (mask[:, 0])."""
    return torch.where(mask, b, a)
