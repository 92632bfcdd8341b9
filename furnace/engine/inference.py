"""Logits for whole images: sliding windows, several scales, flip."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from furnace.datasets.augment import resize
from furnace.datasets.normalize import Normalize


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows of ``crop`` begin along a side of ``length`` ≥ crop; the last is moved back inside."""
    count = math.ceil((length - crop) / stride) + 1
    return [min(i * stride, length - crop) for i in range(count)]


class Inference:
    """Summed logits of an image at its own size.

    Window logits are summed where windows overlap, then over flips and scales; every sum is resized to the image.

    Args:
        forward: logits (N, C, h, w) of normalised images (N, 3, h, w).
        normalize: on the device where the work is done.
        crop: side of a window, pixels.
        stride_rate: step between windows as a share of ``crop``.
        scales: factors at which the image is seen.
        flip: add the logits of the mirrored windows.
        whole: one pass a scale over the whole image instead of windows.
        batch_size: windows in one forward pass.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        normalize: Normalize,
        crop: int,
        stride_rate: float = 2 / 3,
        scales: Sequence[float] = (1,),
        flip: bool = False,
        whole: bool = False,
        batch_size: int = 1,
    ):
        self.forward, self.normalize = forward, normalize
        self.crop, self.stride = crop, math.ceil(crop * stride_rate)
        self.scales, self.flip, self.whole, self.batch_size = scales, flip, whole, batch_size
        self._sum: Tensor | None = None

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Tensor:
        """uint8 (H, W, 3) RGB to float logits (C, H, W) on the device, channels last; valid until the next call."""
        size = image.shape[:2]
        total = None
        for scale in self.scales:
            logits = self._at_scale(resize(image, scale))
            if logits.shape[-2:] != size:
                logits = F.interpolate(logits[None], size=size, mode='bilinear', align_corners=False)[0]
            total = logits if total is None else total + logits
        return total

    def _at_scale(self, image: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        images = pixels.to(self.normalize.scale.device, non_blocking=True).permute(2, 0, 1)[None]
        if self.whole:
            return self._logits(self.normalize(images))[0]
        height, width = image.shape[:2]
        spare_y, spare_x = max(0, self.crop - height), max(0, self.crop - width)
        top, left = spare_y // 2, spare_x // 2
        border = (left, spare_x - left, top, spare_y - top)
        if max(height, width) <= self.crop:
            # Padded after normalisation: the border is the mean colour.
            logits = self._logits(F.pad(self.normalize(images), border))[0]
        else:
            # Padded before it: the border is black.
            logits = self._slide(self.normalize(F.pad(images, border)))
        return logits[:, top : top + height, left : left + width]

    def _slide(self, images: Tensor) -> Tensor:
        """Summed window logits (C, H, W) of a normalised image (1, 3, H, W), both sides at least the crop."""
        crop, (height, width) = self.crop, images.shape[-2:]
        rows, columns = (window_starts(length, crop, self.stride) for length in (height, width))
        places = [(top, left) for top in rows for left in columns]
        total = None
        for start in range(0, len(places), self.batch_size):
            chunk = places[start : start + self.batch_size]
            windows = torch.cat([images[:, :, top : top + crop, left : left + crop] for top, left in chunk])
            logits = self._logits(windows).permute(0, 2, 3, 1)
            if total is None:
                total = self._buffer(logits, (height, width))
                seen_y = seen_x = 0
            for (top, left), window in zip(chunk, logits, strict=True):
                if left == 0:
                    seen_x = 0
                # What no window has reached so far is set, the rest added to: nothing need be cleared.
                place = total[top : top + crop, left : left + crop]
                old_y, old_x = seen_y - top, seen_x - left
                place[:old_y] += window[:old_y]
                place[old_y:, :old_x] += window[old_y:, :old_x]
                place[old_y:, old_x:] = window[old_y:, old_x:]
                seen_x = left + crop
                if seen_x == width:
                    seen_y = top + crop
        return total.permute(2, 0, 1)

    def _buffer(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """(H, W, C), of the image before where it fits: fresh memory costs a CPU more than all the sums."""
        shape = (*size, logits.shape[-1])
        if self._sum is None or self._sum.shape != shape:
            self._sum = logits.new_empty(shape)
        return self._sum

    def _logits(self, images: Tensor) -> Tensor:
        logits = self.forward(images)
        if self.flip:
            logits = logits + self.forward(images.flip(-1)).flip(-1)
        return logits


def label_map(logits: Tensor) -> Tensor:
    """Labels, uint8 (H, W), of logits (C, H, W) that are channels last in memory; on their device."""
    if logits.is_cpu:  # NumPy's is the quicker one there
        return torch.from_numpy(logits.permute(1, 2, 0).numpy().argmax(axis=2).astype(np.uint8))
    return logits.argmax(dim=0).to(torch.uint8)
