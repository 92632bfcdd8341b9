"""Images and labels for evaluation, decoded ahead by workers."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from furnace.datasets.images import read_pair
from furnace.datasets.lists import Item
from furnace.datasets.train_set import TIMEOUT, loaded, set_up_worker
from furnace.utils.errors import UserError


class EvalSample(NamedTuple):
    """Tensors, which workers hand over without a copy."""

    name: str
    image: Tensor
    """uint8 (H, W, 3) RGB"""
    label: Tensor
    """uint8 (H, W), void 255"""


class EvalSet(Dataset):
    """Whole images with their labels, in the order of the list."""

    def __init__(self, items: Sequence[Item], num_classes: int):
        self.items, self.num_classes = items, num_classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> EvalSample | UserError:
        item = self.items[index]
        try:
            pair = read_pair(item.image, item.label, self.num_classes)
            return EvalSample(item.name, *map(torch.from_numpy, pair))
        except UserError as error:
            return error  # see TrainSet.__getitem__


def samples(dataset: EvalSet, num_workers: int, pin: bool = False) -> Iterator[EvalSample]:
    """The dataset's samples one after the other.

    Args:
        num_workers: loader processes; 0 loads in this one.
        pin: into memory from which a GPU can copy while it works.

    Raises:
        UserError: a file of the list cannot be used.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_as_is,
        pin_memory=pin,
        worker_init_fn=set_up_worker,
        timeout=TIMEOUT if num_workers else 0,
    )
    yield from loaded(loader)


def _as_is(sample):
    return sample
