"""Logits and labels for whole images: sliding windows, several scales, flip."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from furnace.datasets.augment import resize
from furnace.datasets.normalize import Normalize

STRIP = 2**15
"""pixels that a CPU adds up and labels at a time: few enough to stay in its cache, and for PyTorch to use one thread"""


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows of ``crop`` begin along a side of ``length`` ≥ crop; the last is moved back inside."""
    count = math.ceil((length - crop) / stride) + 1
    return [min(i * stride, length - crop) for i in range(count)]


class Inference:
    """Summed logits of an image at its own size, and their labels.

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
        self._buffers: dict[str, Tensor] = {}

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

    @torch.inference_mode()
    def labels(self, image: np.ndarray) -> Tensor:
        """uint8 (H, W, 3) RGB to the ``label_map`` of its logits, uint8 (H, W) on the device."""
        if self.normalize.scale.is_cpu and tuple(self.scales) == (1,):
            return self._at_scale(image, label_map)
        return label_map(self(image))

    def _at_scale(self, image: np.ndarray, finish: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Logits (C, H, W) of the image; with ``finish`` what it makes of each strip of them, (…, H, W)."""
        pixels = torch.from_numpy(np.ascontiguousarray(image))
        images = pixels.to(self.normalize.scale.device, non_blocking=True).permute(2, 0, 1)[None]
        height, width = image.shape[:2]
        spare_y, spare_x = (0 if self.whole else max(0, self.crop - side) for side in (height, width))
        top, left = spare_y // 2, spare_x // 2
        border = (left, spare_x - left, top, spare_y - top)
        if self.whole or max(height, width) <= self.crop:
            # Padded after normalisation: the border is the mean colour.
            result = self._logits(F.pad(self.normalize(images), border))[0]
            result = finish(result) if finish else result
        else:
            # Padded before it: the border is black.
            result = self._slide(self.normalize(F.pad(images, border)), finish)
        return result[..., top : top + height, left : left + width]

    def _slide(self, images: Tensor, finish: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Summed window logits of a normalised image (1, 3, H, W), both sides at least the crop; see ``_at_scale``."""
        crop, (height, width) = self.crop, images.shape[-2:]
        rows, columns = (window_starts(length, crop, self.stride) for length in (height, width))
        places = [(top, left) for top in rows for left in columns]
        step = _strip_rows(width) if images.is_cpu else height
        batch = self._buffer('windows', images, min(len(places), self.batch_size), crop, crop, 3).permute(0, 3, 1, 2)
        reached, finished = 0, []
        for start in range(0, len(places), self.batch_size):
            chunk = places[start : start + self.batch_size]
            windows = [images[:, :, top : top + crop, left : left + crop] for top, left in chunk]
            logits = self._logits(torch.cat(windows, out=batch[: len(chunk)])).permute(0, 2, 3, 1)
            if start == 0:
                total = self._buffer('sum', logits, height, width, logits.shape[-1])
            # On a CPU by NumPy: PyTorch would wake and await its threads for every strip.
            sums, logits = (total.numpy(), logits.numpy()) if total.is_cpu else (total, logits)
            first, last = chunk[0][0], chunk[-1][0] + crop
            # Rows above the next window are complete.
            complete = places[start + self.batch_size][0] if start + self.batch_size < len(places) else height
            for y in range(first, last, step):
                end = min(y + step, last)
                sums[reached:end] = -0.0  # -0.0 + x is x for every x, 0.0 + x is not for -0.0
                reached = max(reached, end)
                for (top, left), window in zip(chunk, logits, strict=True):
                    begin, stop = max(y, top), min(end, top + crop)
                    if begin < stop:
                        sums[begin:stop, left : left + crop] += window[begin - top : stop - top]
                if finish and y < complete:
                    finished.append(finish(total[y : min(end, complete)].permute(2, 0, 1)))
        return torch.cat(finished, dim=-2) if finish else total.permute(2, 0, 1)

    def _buffer(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Uninitialised; of the image before where it fits: fresh memory costs a CPU more than what is done in it."""
        if name not in self._buffers or self._buffers[name].shape != shape:
            self._buffers[name] = like.new_empty(shape)
        return self._buffers[name]

    def _logits(self, images: Tensor) -> Tensor:
        logits = self.forward(images)
        if self.flip:
            logits = logits + self.forward(images.flip(-1)).flip(-1)
        return logits


def label_map(logits: Tensor) -> Tensor:
    """Labels, uint8 (H, W), of logits (C, H, W), on their device: the first class of the greatest logit.

    On a CPU it is quickest for logits that are channels last in memory.
    """
    if not logits.is_cpu:
        return logits.argmax(dim=0).to(torch.uint8)
    return torch.cat([_strip_labels(strip) for strip in logits.split(_strip_rows(logits.shape[2]), dim=1)])


def _strip_rows(width: int) -> int:
    return max(1, STRIP // width)


def _strip_labels(logits: Tensor) -> Tensor:
    classes, height, width = logits.shape
    pixels = logits.permute(1, 2, 0).reshape(-1, classes)
    # argmax goes through the pixels one by one; pooling over the planes of the classes compares many at once.
    planes = torch.from_numpy(cv2.transpose(pixels.numpy()))
    best, label = F.max_pool2d(planes[None, None].permute(0, 3, 1, 2), (1, classes), return_indices=True)
    if best.isnan().any():  # pooling takes the last of several, argmax the first
        return logits.argmax(dim=0).to(torch.uint8)
    return label.view(height, width).to(torch.uint8)
