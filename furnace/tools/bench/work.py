"""An iteration of a recipe from memory, ours and plain on the same network and inputs."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from furnace.engine.command import build_network
from furnace.engine.config import Config
from furnace.engine.lr import param_groups
from furnace.engine.step import Step
from furnace.seg_opr.cutmix import draw_boxes, paint_masks
from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, CrossEntropy, OhemCrossEntropy
from furnace.tools.bench import plain


class Work:
    """The steps of both versions; gradients and weights are the network's, momenta each version's own.

    Args:
        config: gives network, batch, crop and loss.
        device: where the steps run.
        amp: forward passes in bfloat16, logits in float32, in both versions.
    """

    def __init__(self, config: Config, device: torch.device, amp: bool):
        C = self.config = config
        self.device = device
        torch.manual_seed(0)
        self.network = build_network(C).to(device).train()
        self.inputs = random_inputs(C, device)

        forward = forward_of(self.network, amp)
        plain_step = plain.load('step')
        if 'ohem_min_kept' in C:
            criterion = OhemCrossEntropy(C.background, C.ohem_thresh, C.ohem_min_kept, CITYSCAPES_WEIGHTS).to(device)
            plain_criterion = plain_step.Ohem(C.ohem_thresh, C.ohem_min_kept, CITYSCAPES_WEIGHTS)
        else:
            criterion, plain_criterion = CrossEntropy(C.background), plain_step.cross_entropy
        # What the trainer does to network and step for speed (compilation, memory format) belongs here too.
        self._step = Step(forward, C.num_classes, criterion, 'cpcl', C.unsup_weight)
        groups = [param_groups(branch, C.lr, C.weight_decay) for branch in self.network.branches]
        self._optimizers = [torch.optim.SGD(group, momentum=C.momentum) for group in groups]
        groups = [param_groups(branch, C.lr, C.weight_decay) for branch in self.network.branches]
        plain_optimizers = [plain_step.plain_sgd(group) for group in groups]
        self._plain = plain_step.PlainStep(forward, C.num_classes, plain_criterion, C.unsup_weight, plain_optimizers)

    def ours(self, inputs: Sequence[Tensor] | None = None) -> None:
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        self._step(*(inputs or self.inputs))
        for optimizer in self._optimizers:
            optimizer.step()

    def plain(self) -> None:
        self._plain(*self.inputs)


def forward_of(network: nn.Module, amp: bool) -> Callable[..., Tensor]:
    """The network's logits in float32, with ``amp`` from a forward pass in bfloat16."""

    def forward(images: Tensor, step: int = 1) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=amp):
            logits = network(images, step=step)
        return logits.float()

    return forward


def random_inputs(C: Config, device: torch.device) -> list[Tensor]:
    """x, y, u0, u1, mask of a batch of noise."""
    size = C.image_height, C.image_width
    x, u0, u1 = (torch.randn(C.batch_size, 3, *size, device=device) for _ in range(3))
    y = torch.randint(0, C.num_classes, (C.batch_size, *size), device=device)
    boxes = draw_boxes(C.batch_size, size, np.random.RandomState(0)).to(device)
    return [x, y, u0, u1, paint_masks(boxes, size)]
