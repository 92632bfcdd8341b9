"""Supervised losses: mean cross-entropy, and OHEM cross-entropy (online hard example mining)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of Cityscapes' 19 classes, road … bicycle, as in the released recipe.
CITYSCAPES_WEIGHTS = (
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


def pixel_losses(logits: Tensor, label: Tensor, ignore_index: int, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy of each pixel: logits (B, C, H, W) and int64 labels (B, H, W) to (B, H, W), 0 where void."""
    if torch.are_deterministic_algorithms_enabled():  # PyTorch refuses the kernel for images then
        logits, pixels = logits.movedim(1, -1).flatten(0, 2), label.flatten()
        return F.cross_entropy(logits, pixels, weights, ignore_index=ignore_index, reduction='none').view(label.shape)
    return F.cross_entropy(logits, label, weights, ignore_index=ignore_index, reduction='none')


def mean(total: Tensor, count: Tensor) -> Tensor:
    """``total / count``, 0-d tensors of one dtype; 0 where both are."""
    return total / count.clamp(min=torch.finfo(count.dtype).tiny)


class CrossEntropy(nn.Module):
    """Mean cross-entropy over the valid pixels; 0 where a batch has none.

    Args:
        ignore_index: label of void pixels.
        class_weights: one factor a class; the mean is then weighted, as PyTorch's is.
    """

    def __init__(self, ignore_index: int = 255, class_weights: Sequence[float] | None = None):
        super().__init__()
        self.ignore_index = ignore_index
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer('class_weights', weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits (B, C, H, W) and int64 labels (B, H, W) to a scalar."""
        return mean(*self.sums(logits, target))

    def share(self, processes: int) -> None:
        """Prepare for a batch that ``processes`` hold in equal parts."""

    def sums(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Numerator and denominator of the mean, 0-d tensors of the logits' dtype.

        Several processes add up the latter before they divide.
        """
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        total = pixel_losses(logits, target, self.ignore_index, weights).sum()
        valid = target != self.ignore_index
        if weights is None:
            return total, valid.sum().to(logits.dtype)
        return total, (weights[target.where(valid, torch.zeros_like(target))] * valid).sum()


class OhemCrossEntropy(CrossEntropy):
    """Cross-entropy over the hard pixels: those whose true class has a probability at or below a cut-off.

    CPS's and CPCL's supervised loss for Cityscapes; after Shrivastava et al., CVPR 2016 (online hard example mining).

    The cut-off is ``thresh``, or more where fewer than ``min_kept`` pixels would be left. With fewer than ``min_kept``
    valid pixels, all of them count.

    Args:
        thresh: softmax probability of the true class.
        min_kept: pixels of the batch that are kept at least.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        thresh: float = 0.7,
        min_kept: int = 100_000,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__(ignore_index, class_weights)
        self.thresh = thresh
        self.min_kept = min_kept

    def share(self, processes: int) -> None:
        """Each process selects from what it holds, and keeps its share of ``min_kept``."""
        self.min_kept //= processes

    def sums(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As ``CrossEntropy.sums``, over the hard pixels alone."""
        return super().sums(logits, self.select(logits.detach(), target))

    def select(self, logits: Tensor, target: Tensor) -> Tensor:
        """``target``, int64 (B, H, W), with the pixels made void that are easy for ``logits`` (B, C, H, W)."""
        valid = target != self.ignore_index
        label = target.where(valid, torch.zeros_like(target))
        top = logits.gather(1, label[:, None])[:, 0]
        prob = torch.exp(top - logits.logsumexp(dim=1)).where(valid, torch.ones_like(top))
        cutoff = torch.full_like(prob[0, 0, 0], self.thresh)
        if self.min_kept > 0:
            kth = min(self.min_kept, prob.numel())
            cutoff = torch.maximum(cutoff, _kth_smallest(prob.flatten(), kth))
        # With too few valid pixels the cut-off is a void one's 1; one that rounds above it counts all the same.
        keep = valid & ((prob <= cutoff) | (valid.sum() < self.min_kept))
        return target.where(keep, torch.full_like(target, self.ignore_index))


def _kth_smallest(values: Tensor, k: int) -> Tensor:
    if values.is_cuda:  # where kthvalue has one block of threads for a slice, and may not be deterministic
        return values.sort().values[k - 1]
    return values.kthvalue(k).values
