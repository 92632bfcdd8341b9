"""Evaluation with sliding windows: logits are fetched to the host window by window and added up there."""

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from .data import normalize, to_channels_first


class PlainEvaluation:
    """Label maps of whole images.

    Args:
        forward: logits (N, C, h, w) of normalised images (N, 3, h, w).
        num_classes: C.
        mean, std: of each channel (R, G, B), in 0 … 1.
        crop: side of a window, pixels.
        stride_rate: step between windows as a share of ``crop``.
        scales: factors at which the image is seen.
        flip: add the logits of the mirrored windows.
        device: of ``forward``.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        crop: int,
        stride_rate: float = 2 / 3,
        scales: Sequence[float] = (1,),
        flip: bool = False,
        device: torch.device | str = 'cpu',
    ):
        self.forward, self.num_classes = forward, num_classes
        self.mean, self.std = np.array(mean), np.array(std)
        self.crop, self.stride = crop, math.ceil(crop * stride_rate)
        self.scales, self.flip, self.device = scales, flip, device

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB to labels, int64 (H, W)."""
        return self.logits(image).argmax(axis=2)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """float64 (H, W, C), summed over windows, flips and scales."""
        height, width = image.shape[:2]
        total = np.zeros((height, width, self.num_classes))
        for scale in self.scales:
            scaled = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            logits = self._at_scale(scaled)
            total += cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
        return total

    def _at_scale(self, image: np.ndarray) -> np.ndarray:
        """Logits (h, w, C) of the image at one scale."""
        height, width = image.shape[:2]
        if max(height, width) <= self.crop:
            padded, top, left = self._pad(normalize(image, self.mean, self.std))
            logits = self._window(padded)
        else:
            padded, top, left = self._pad(image)
            logits = self._slide(padded)
        return logits[top : top + height, left : left + width]

    def _slide(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows = math.ceil((height - self.crop) / self.stride) + 1
        columns = math.ceil((width - self.crop) / self.stride) + 1
        total = np.zeros((height, width, self.num_classes), np.float32)
        for row in range(rows):
            for column in range(columns):
                bottom = min(row * self.stride + self.crop, height)
                right = min(column * self.stride + self.crop, width)
                place = slice(bottom - self.crop, bottom), slice(right - self.crop, right)
                total[place] += self._window(normalize(image[place], self.mean, self.std))
        return total

    @torch.no_grad()
    def _window(self, window: np.ndarray) -> np.ndarray:
        """Logits (h, w, C) of one normalised window, on the host."""
        x = torch.from_numpy(to_channels_first(window))[None].to(self.device)
        logits = self.forward(x)[0]
        if self.flip:
            logits = logits + self.forward(x.flip(-1))[0].flip(-1)
        return logits.cpu().numpy().transpose(1, 2, 0)

    def _pad(self, image: np.ndarray) -> tuple[np.ndarray, int, int]:
        """The image amid zeros, at least a crop large, and the rows and columns before it."""
        missing = [max(0, self.crop - side) for side in image.shape[:2]]
        top, left = missing[0] // 2, missing[1] // 2
        border = top, missing[0] - top, left, missing[1] - left
        return cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=[0, 0, 0]), top, left


def confusion_matrix(prediction: np.ndarray, label: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels by true class (row) and predicted class (column), int64 (C, C), where the label is in 0 … C-1."""
    counted = (label >= 0) & (label < num_classes)
    pairs = num_classes * label[counted].astype(int) + prediction[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
