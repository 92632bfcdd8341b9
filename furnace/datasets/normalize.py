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
        mean, std = (torch.tensor(v, dtype=torch.float64) for v in (mean, std))
        self.register_buffer('scale', (1 / (255 * std)).float(), persistent=False)
        self.register_buffer('shift', (mean / std).float(), persistent=False)

    def forward(self, pixels: Tensor, inside: Tensor | None = None) -> Tensor:
        """uint8 (or float in 0 … 255) (N, 3, H, W) to float32, channels last in memory.

        Args:
            inside: (N, 4: top, left, bottom, right), boxes outside of which the result is 0.
        """
        number, _, height, width = pixels.shape
        # Rows of W x 3 numbers: arithmetic along three channels alone is slow on the CPU.
        rows, scale = pixels.permute(0, 2, 3, 1).reshape(number, height, width * 3), self.scale.repeat(width)
        # In place in a copy alone, which floats need not be; PyTorch 2.7 exports nothing else.
        rows = rows.float().mul_(scale) if rows.dtype == torch.uint8 else rows.float() * scale
        rows.sub_(self.shift.repeat(width))
        if inside is not None:
            top, left, bottom, right = inside[:, :, None].unbind(dim=1)
            y = torch.arange(height, device=pixels.device)
            x = torch.arange(width, device=pixels.device).repeat_interleave(3, output_size=3 * width)
            rows.mul_(((y >= top) & (y < bottom)).float()[:, :, None])
            rows.mul_(((x >= left) & (x < right)).float()[:, None, :])
        return rows.view(number, height, width, 3).permute(0, 3, 1, 2)

    def pixels(self, x: Tensor) -> Tensor:
        """The way back, of (…, 3, H, W) to uint8; what was 0 outside of a box gets the mean colour."""
        scale, shift = self.scale[:, None, None], self.shift[:, None, None]
        return ((x + shift) / scale).round().clamp(0, 255).to(torch.uint8)
