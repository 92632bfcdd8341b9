"""Counting indices on any device, without making the host wait for it."""

import torch
from torch import Tensor


def count(index: Tensor, bins: int) -> Tensor:
    """How often each of 0 … ``bins`` - 1 occurs in an int32 or int64 tensor that holds nothing else; int64 (bins)."""
    index = index.flatten()
    if index.is_cuda and not torch.are_deterministic_algorithms_enabled():
        # bincount asks the device for the greatest index; on integers histc is exact and does not.
        return torch.histc(index, bins, 0, bins).long()
    return torch.bincount(index, minlength=bins)
