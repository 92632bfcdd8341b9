"""Pseudo supervision of two networks by each other: CPCL's intersection and union, and CPS.

Symbols as in the paper: p_k and c_k are label and confidence of branch k's teacher pass, N the class co-occurrence of
the two, w the class-wise disagreement. All are functions of tensors on one device, and what they return stays there.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from furnace.seg_opr.counting import count
from furnace.seg_opr.loss import pixel_losses

IGNORE = 255


class Target(NamedTuple):
    """What one student is trained on."""

    name: str
    """of the loss, as logged"""
    label: Tensor
    """int64 (B, H, W), ``IGNORE`` where there is none"""
    weight: Tensor | None
    """per pixel (B, H, W), or None for 1"""


def predict(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Label (argmax; int64) and confidence (max of the softmax) of logits (B, C, H, W); both (B, H, W)."""
    top, label = logits.max(dim=1)
    return label, torch.exp(top - logits.logsumexp(dim=1))


def co_occurrence(p1: Tensor, p2: Tensor, num_classes: int) -> Tensor:
    """N[a, b]: pixels that branch 1 calls a and branch 2 calls b; int64 (C, C)."""
    return count(p1 * num_classes + p2, num_classes**2).view(num_classes, num_classes)


def disagreement(N: Tensor) -> tuple[Tensor, Tensor]:
    """Class-wise disagreement (CPCL section III-D) from the counts of ``co_occurrence``.

    One pseudo-count a class is added on the diagonal. Returns w, float64 (C), and the overlap trace(N) / sum(N).
    """
    N = N.double() + torch.eye(len(N), dtype=torch.float64, device=N.device)
    same, column, row = N.diagonal(), N.sum(dim=0), N.sum(dim=1)
    d = (column - same) / column + (row - same) / row
    return d / (d.sum() + 1e-6), same.sum() / N.sum()


def cpcl_targets(
    p1: Tensor, p2: Tensor, c1: Tensor, c2: Tensor, w: Tensor, reweight: bool = True
) -> tuple[Target, Target]:
    """Intersection labels (conservative) and union labels (progressive) with their confidences (CPCL section III).

    Labels p are int64 (B, H, W), confidences c of the logits' dtype (B, H, W), w is float64 (C).

    Where the branches agree, both have the common label and weight (c1 + c2) / 2. Where they differ, the intersection
    is void and the union takes the label of the class with the greater disagreement w (p2 on a tie), weighted with the
    confidence of the branch it came from.
    """
    agree = p1 == p2
    take_first = w[p1] > w[p2]
    mean = (c1 + c2) / 2
    inter = torch.where(agree, p1, IGNORE)
    union = torch.where(take_first, p1, p2)
    r = torch.where(agree, mean, torch.where(take_first, c1, c2))
    return (
        Target('inter', inter, mean if reweight else None),
        Target('union', union, r if reweight else None),
    )


def intersection_targets(*args) -> tuple[Target, Target]:
    """Both students learn CPCL's intersection."""
    inter, _ = cpcl_targets(*args)
    return inter._replace(name='inter_1'), inter._replace(name='inter_2')


def union_targets(*args) -> tuple[Target, Target]:
    """Both students learn CPCL's union."""
    _, union = cpcl_targets(*args)
    return union._replace(name='union_1'), union._replace(name='union_2')


def cps_targets(p1: Tensor, p2: Tensor, *_) -> tuple[Target, Target]:
    """Cross pseudo supervision (Chen et al., CVPR 2021): each student learns the other's label, unweighted."""
    return Target('cps_1', p2, None), Target('cps_2', p1, None)


# What branch 1 and branch 2 learn from the unlabelled images, by ``C.method``: functions of p1, p2, c1, c2, w and
# reweight as ``cpcl_targets``. 'supervised' learns nothing from them.
TARGETS: dict[str, Callable[..., tuple[Target, Target]]] = {
    'cpcl': cpcl_targets,
    'cps': cps_targets,
    'intersection': intersection_targets,
    'union': union_targets,
}


def pseudo_loss(logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy of logits (B, C, H, W) times the weight, a 0-d mean over ALL pixels: void adds 0, and counts.

    CPCL's confidence-based re-weighting (section III), where the target has a weight.
    """
    loss = pixel_losses(logits, target.label, IGNORE)
    return (loss if target.weight is None else loss * target.weight).mean()
