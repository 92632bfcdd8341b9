"""One training step of CPCL: every graph alive until one backward pass, the disagreement counted on the host."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class PlainStep:
    """The losses and gradients of an iteration, then a step of both optimisers.

    Args:
        network: gives logits by ``network(images, step=k)`` for branch k; in train mode.
        num_classes: channels of the logits.
        criterion: supervised loss of logits and labels.
        unsup_weight: λ.
        optimizers: one a branch, see ``plain_sgd``.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        num_classes: int,
        criterion: Callable[[Tensor, Tensor], Tensor],
        unsup_weight: float,
        optimizers: Sequence[torch.optim.Optimizer],
    ):
        self.network, self.num_classes, self.criterion = network, num_classes, criterion
        self.unsup_weight, self.optimizers = unsup_weight, optimizers

    def __call__(self, x: Tensor, y: Tensor, u0: Tensor, u1: Tensor, mask: Tensor) -> dict[str, float]:
        """Seven scalars of the step.

        Args:
            x, u0, u1: normalised images (B, 3, H, W).
            y: labels of x, int64 (B, H, W), void 255.
            mask: (B, 1, H, W), 1 (or true) where u1 is taken.
        """
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        mask = mask.to(u0.dtype)
        mixed = u0 * (1 - mask) + u1 * mask
        logits_x = [self.network(x, step=k) for k in (1, 2)]
        with torch.no_grad():
            teachers = []
            for k in (1, 2):
                logits_u0, logits_u1 = self.network(u0, step=k), self.network(u1, step=k)
                teachers.append(logits_u0 * (1 - mask) + logits_u1 * mask)
        logits_u = [self.network(mixed, step=k) for k in (1, 2)]

        inter, union, overlap = pseudo_losses(*logits_u, *teachers, self.num_classes)
        sup_1, sup_2 = (self.criterion(logits, y) for logits in logits_x)
        unsup = self.unsup_weight * (inter + union)
        loss = sup_1 + sup_2 + unsup
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        scalars = {'loss': loss, 'sup_1': sup_1, 'sup_2': sup_2, 'inter': inter, 'union': union, 'unsup': unsup}
        return {**{name: value.item() for name, value in scalars.items()}, 'overlap': overlap.item()}


def plain_sgd(groups: list[dict]) -> torch.optim.SGD:
    """SGD with momentum that walks through the parameters one by one."""
    return torch.optim.SGD(groups, momentum=0.9, foreach=False, fused=False)


def disagreement(p1: np.ndarray, p2: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.float64]:
    """w, float64 (C), and the overlap, from the label maps of both teachers."""
    counts = np.bincount(num_classes * p1.ravel() + p2.ravel(), minlength=num_classes**2)
    N = counts.reshape(num_classes, num_classes) + np.eye(num_classes)
    d = np.zeros(num_classes)
    for k in range(num_classes):
        column, row = N[:, k].sum(), N[k, :].sum()
        d[k] = (column - N[k, k]) / column + (row - N[k, k]) / row
    return d / (d.sum() + 1e-6), np.trace(N) / N.sum()


def pseudo_labels(t1: Tensor, t2: Tensor, num_classes: int) -> tuple[Tensor, Tensor, Tensor, Tensor, np.float64]:
    """From the teachers' logits (B, C, H, W): intersection and its weight, union and its weight, overlap."""
    p1, p2 = t1.argmax(dim=1), t2.argmax(dim=1)
    c1, c2 = (F.softmax(t, dim=1).max(dim=1)[0] for t in (t1, t2))
    w, overlap = disagreement(p1.cpu().numpy(), p2.cpu().numpy(), num_classes)
    w = torch.from_numpy(w).to(t1.device)

    agree = p1 == p2
    first = ~agree & (w[p1] > w[p2])
    second = ~agree & ~first
    inter = p1.clone()
    inter[~agree] = 255
    union = p1.clone()
    union[second] = p2[second]
    mean = (c1 + c2) / 2
    r = mean.clone()
    r[first] = c1[first]
    r[second] = c2[second]
    return inter, mean, union, r, overlap


def pseudo_losses(s1: Tensor, s2: Tensor, t1: Tensor, t2: Tensor, num_classes: int) -> tuple[Tensor, Tensor, float]:
    """L_inter of branch 1's logits, L_union of branch 2's, and the overlap."""
    inter, mean, union, r, overlap = pseudo_labels(t1, t2, num_classes)
    loss_inter = F.cross_entropy(s1, inter, ignore_index=255, reduction='none') * mean
    loss_union = F.cross_entropy(s2, union, ignore_index=255, reduction='none') * r
    return loss_inter.mean(), loss_union.mean(), overlap


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The supervised loss of VOC."""
    return F.cross_entropy(logits, target, ignore_index=255)


class Ohem:
    """The supervised loss of Cityscapes: all probabilities are sorted to find the cut-off.

    Args:
        thresh: softmax probability of the true class up to which a pixel is hard.
        min_kept: pixels that are kept at least.
        class_weights: (C), or None.
    """

    def __init__(self, thresh: float, min_kept: int, class_weights: Sequence[float] | None = None):
        self.thresh, self.min_kept, self.class_weights = thresh, min_kept, class_weights

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        num_classes = logits.shape[1]
        target = target.clone()
        valid = target != 255
        if valid.sum() >= self.min_kept:
            prob = F.softmax(logits.detach(), dim=1).permute(0, 2, 3, 1).reshape(-1, num_classes)
            label = (target * valid).reshape(-1)
            prob = prob[torch.arange(len(label), device=label.device), label]
            prob[~valid.reshape(-1)] = 1
            cutoff = self.thresh
            if self.min_kept > 0:
                cutoff = max(cutoff, prob.sort()[0][self.min_kept - 1].item())
            target[prob.reshape(target.shape) > cutoff] = 255
        weight = None
        if self.class_weights is not None:  # rounded to float32, as the released ones
            weight = torch.tensor(self.class_weights, dtype=torch.float32, device=logits.device).to(logits.dtype)
        return F.cross_entropy(logits, target, weight, ignore_index=255)
