"""One picture of a training step: what the teachers say of a mixed image, and what the students learn from it."""

import math

import numpy as np
import torch
from torch import Tensor

from furnace.datasets.classes import Classes
from furnace.datasets.normalize import Normalize
from furnace.engine.step import Taught
from furnace.utils.panels import class_legend, compose, enlarged, shown

SIDE = 256  # pixels, the most that one map takes


def panel(taught: Taught, classes: Classes, normalize: Normalize) -> np.ndarray:
    """Of the first image of the batch; uint8 (H, W, 3) RGB; waits for the device.

    Above the images u_0, u_1 and mixed, and the teachers' mean confidence (white: 1); below their labels p_1, p_2 and
    the students' targets by the names of their losses. Larger maps are thinned out to ``SIDE``, so that labels stay
    labels, smaller ones enlarged.

    Args:
        classes: names and colours.
        normalize: what made the images.
    """
    longest = max(taught.p1.shape[1:])
    thin, scale = math.ceil(longest / SIDE), max(1, SIDE // longest)

    def first(tensor: Tensor) -> Tensor:
        return tensor[0, ..., ::thin, ::thin]

    def image(tensor: Tensor) -> np.ndarray:
        return enlarged(normalize.pixels(first(tensor)).permute(1, 2, 0).cpu().numpy(), scale)

    images = {'u_0': taught.u0} if taught.u1 is None else {'u_0': taught.u0, 'u_1': taught.u1, 'mixed': taught.mixed}
    confidence = (255 * (first(taught.c1) + first(taught.c2)) / 2).round().to(torch.uint8).cpu().numpy()
    labels = {'p_1': taught.p1, 'p_2': taught.p2, **{target.name: target.label for target in taught.targets}}
    palette = classes.palette()
    rows = [
        [
            *((name, image(tensor)) for name, tensor in images.items()),
            ('mean of c_1, c_2', enlarged(confidence, scale)[..., None].repeat(3, axis=2)),
        ],
        [(name, shown(first(tensor).cpu().numpy(), palette, scale)) for name, tensor in labels.items()],
    ]
    return np.asarray(compose(rows, class_legend(classes.names, palette)))
