"""One training step of two networks: the paper's algorithm, top to bottom."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from furnace.engine.distributed import ALONE, World
from furnace.seg_opr.cutmix import mix
from furnace.seg_opr.loss import CrossEntropy, mean
from furnace.seg_opr.pseudo import TARGETS, Target, co_occurrence, disagreement, predict, pseudo_loss


class Taught(NamedTuple):
    """What the branches teach each other with this process's part of a batch, on the device."""

    u0: Tensor
    u1: Tensor | None
    mixed: Tensor
    """images (B, 3, H, W), normalised; without CutMix, ``mixed`` is u0"""
    p1: Tensor
    p2: Tensor
    c1: Tensor
    c2: Tensor
    """labels and confidences of both teachers for the mixed images (B, H, W)"""
    w: Tensor
    """class-wise disagreement in the whole batch, float64 (C)"""
    targets: tuple[Target, Target]
    """of student 1 and student 2"""


class Step:
    """The gradient of one iteration's loss (CPCL section III), whatever the method.

    sup_1 + sup_2 + λ (inter + union). Each of the four losses is backpropagated as soon as it is known, so that one
    branch's one graph is alive at a time; the gradients add up to that of the sum.

    Several processes with a part of the batch each get the gradient of the whole: the co-occurrence counts and the
    valid pixels are summed over them, and ``network`` averages the gradients in a branch's last backward pass.

    Args:
        network: gives logits by ``network(images, step=k)`` for branch k; in train mode.
        num_classes: channels of the logits.
        criterion: supervised loss, given by its numerator and denominator, see ``CrossEntropy.sums``.
        method: one of ``furnace.seg_opr.pseudo.TARGETS``, or 'supervised'.
        unsup_weight: λ.
        reweight: weight the pseudo labels with the teachers' confidence.
        world: adds up over the processes.
        accumulate: context in which gradients of branch k stay in this process.
        backward: adds a loss's gradient to the parameters.
        watch: shown what is taught, for people to look at.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        num_classes: int,
        criterion: CrossEntropy,
        method: str,
        unsup_weight: float,
        reweight: bool = True,
        world: World = ALONE,
        accumulate: Callable[[int], AbstractContextManager] = lambda k: nullcontext(),
        backward: Callable[[Tensor], None] = Tensor.backward,
        watch: Callable[[Taught], None] = lambda taught: None,
    ):
        self.network, self.num_classes, self.criterion = network, num_classes, criterion
        self.method, self.unsup_weight, self.reweight = method, unsup_weight, reweight
        self.world, self.accumulate, self.backward, self.watch = world, accumulate, backward, watch

    def __call__(
        self, x: Tensor, y: Tensor, u0: Tensor | None = None, u1: Tensor | None = None, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Add the step's gradient to the parameters.

        Args:
            x: labelled images (B, 3, H, W), normalised.
            y: their labels, int64 (B, H, W).
            u0, u1: unlabelled images (B, 3, H, W). Without u1 there is no CutMix; without u0 no pseudo supervision.
            mask: bool (B, 1, H, W), true where u1 is taken.

        Returns:
            The losses (0-d tensors on the device, without graph): loss, sup_1, sup_2, and the method's own. With
            several processes their mean over all of them is that of the whole batch.
        """
        logged = {}
        for k in (1, 2):
            with nullcontext() if u0 is None else self.accumulate(k):
                sup = self._supervise(self.network(x, step=k), y)
                self.backward(sup)
            logged[f'sup_{k}'] = sup.detach()
        loss = logged['sup_1'] + logged['sup_2']

        if u0 is not None:
            (p1, c1), (p2, c2) = (self._teach(k, u0, u1, mask) for k in (1, 2))
            N = self.world.sum(co_occurrence(p1, p2, self.num_classes))
            w, logged['overlap'] = disagreement(N)
            mixed = u0 if u1 is None else mix(u0, u1, mask)
            pair = TARGETS[self.method](p1, p2, c1, c2, w, self.reweight)
            self.watch(Taught(u0, u1, mixed, p1, p2, c1, c2, w, pair))
            for k, target in enumerate(pair, 1):
                unsup = pseudo_loss(self.network(mixed, step=k), target)
                self.backward(self.unsup_weight * unsup)
                logged[target.name] = unsup.detach()
                loss = loss + self.unsup_weight * logged[target.name]
        return {'loss': loss, **logged}

    def _supervise(self, logits: Tensor, y: Tensor) -> Tensor:
        """The criterion's mean over the valid pixels of all processes; this one's part, times their number."""
        total, count = self.criterion.sums(logits, y)
        return mean(total * self.world.size, self.world.sum(count))

    @torch.no_grad()
    def _teach(self, k: int, u0: Tensor, u1: Tensor | None, mask: Tensor | None) -> Sequence[Tensor]:
        """Labels and confidences of branch k for the mixed image, each from the whole image it came from."""
        label, confidence = predict(self.network(u0, step=k))
        if u1 is None:
            return label, confidence
        other_label, other_confidence = predict(self.network(u1, step=k))
        return mix(label, other_label, mask[:, 0]), mix(confidence, other_confidence, mask[:, 0])
