"""From uint8 pixels to what the networks see, on the device."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """(pixel / 255 - mean) / std.

    Args:
        mean, std: of each channel (R, G, B), in 0 … 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        # In float64, so that scale and shift are those of the formula to the last bit of float32.
        mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (mean, std))
        self.register_buffer('scale', (1 / (255 * std)).float(), persistent=False)
        self.register_buffer('shift', (mean / std).float(), persistent=False)

    def forward(self, pixels: Tensor, inside: Tensor | None = None) -> Tensor:
        """uint8 (N, 3, H, W) to float32; 0 outside the boxes ``inside`` (N, 4: top, left, bottom, right)."""
        image = pixels * self.scale - self.shift
        if inside is None:
            return image
        top, left, bottom, right = inside[:, :, None].unbind(dim=1)
        y = torch.arange(pixels.shape[-2], device=pixels.device)
        x = torch.arange(pixels.shape[-1], device=pixels.device)
        rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
        return image * (rows[:, None, :, None] & columns[:, None, None, :])
