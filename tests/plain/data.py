"""Training samples, one whole image after another."""

import random
from collections.abc import Sequence

import cv2
import numpy as np
import torch


class PlainSet:
    """Samples of one stream.

    Args:
        items: (image path, label path) pairs; the label path is None for unlabelled images.
        size: height and width of a crop.
        scales: factors of which one is drawn for each image.
        mean, std: of each channel (R, G, B), in 0 … 1.
        length: samples an epoch.
        edges: compute an edge map of each label and drop it, as the released code does.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, str | None]],
        size: tuple[int, int],
        scales: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
        length: int,
        edges: bool = True,
    ):
        self.items, self.size, self.scales = items, size, scales
        self.mean, self.std = np.array(mean), np.array(std)
        self.length, self.edges = length, edges

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """``image``, float32 (3, h, w), and ``label``, int64 (h, w), where there is one."""
        image_path, label_path = self.epoch_items()[index]
        image, label = read(image_path, label_path)
        image, label = flip_and_scale(image, label, random.random() < 0.5, random.choice(self.scales))
        image = normalize(image, self.mean, self.std)
        if self.edges and label is not None:
            cv2.dilate(cv2.Canny(label, 5, 5), np.ones((3, 3)))
        spare = [max(0, have - wanted) for have, wanted in zip(image.shape, self.size, strict=False)]
        top, left = (random.randint(0, pixels) for pixels in spare)
        sample = {'image': torch.from_numpy(to_channels_first(crop_and_pad(image, top, left, self.size, 0)))}
        if label is not None:
            sample['label'] = torch.from_numpy(crop_and_pad(label, top, left, self.size, 255).astype(np.int64))
        return sample

    def epoch_items(self) -> list[tuple[str, str | None]]:
        """The list repeated to the length of an epoch, its rest drawn at random: built anew for every sample."""
        rest = torch.randperm(len(self.items)).tolist()[: self.length % len(self.items)]
        return list(self.items) * (self.length // len(self.items)) + [self.items[i] for i in rest]


def read(image_path: str, label_path: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The whole image, uint8 (H, W, 3) RGB, and its label map, uint8 (H, W)."""
    image = cv2.cvtColor(cv2.imread(image_path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return image, None if label_path is None else cv2.imread(label_path, cv2.IMREAD_GRAYSCALE)


def flip_and_scale(
    image: np.ndarray, label: np.ndarray | None, flip: bool, scale: float
) -> tuple[np.ndarray, np.ndarray | None]:
    if flip:
        image = cv2.flip(image, 1)
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    if label is not None:
        if flip:
            label = cv2.flip(label, 1)
        label = cv2.resize(label, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    return image, label


def normalize(image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) to float64."""
    image = image.astype(np.float64) / 255.0
    image = image - mean
    return image / std


def crop_and_pad(image: np.ndarray, top: int, left: int, size: tuple[int, int], value: int) -> np.ndarray:
    """The window at (top, left), in the middle of a border of ``value`` where the image is smaller than ``size``."""
    window = image[top : top + size[0], left : left + size[1]]
    missing = size[0] - window.shape[0], size[1] - window.shape[1]
    above, before = missing[0] // 2, missing[1] // 2
    return cv2.copyMakeBorder(
        window, above, missing[0] - above, before, missing[1] - before, cv2.BORDER_CONSTANT, value=[value] * 3
    )


def to_channels_first(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
