"""An iteration of a recipe from memory: the trainer's, and the plain version's."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import nn

from furnace.datasets.train_set import Batch
from furnace.engine.command import build_network
from furnace.engine.compiling import compile_training
from furnace.engine.config import Config
from furnace.engine.lr import param_groups
from furnace.engine.precision import autocast, choose_amp, place, training_format
from furnace.engine.trainer import Trainer
from furnace.seg_opr.cutmix import draw_boxes
from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, CrossEntropy, OhemCrossEntropy
from furnace.tools.bench import plain


class Work:
    """Each version has a network of its own, made when it is first used.

    Args:
        config: gives network, batch, crop, loss and precision, the plain version's too; the rate is near 0.
        device: where the steps run.

    Attributes:
        warnings: why the network could not be compiled, where it should have been.
    """

    def __init__(self, config: Config, device: torch.device):
        # Without pictures, which would keep a batch and its labels.
        self.config, self.device = Config({**config, 'lr': 1e-9, 'image_every': 0}), device
        self.warnings: list[str] = []
        self.batch = random_batch(config, device)

    @cached_property
    def trainer(self) -> Trainer:
        C = self.config
        torch.manual_seed(0)
        network = place(build_network(C), self.device, training_format(C, self.device)).train()
        if C.compile:
            for branch in network.branches:
                compile_training(branch, self.warnings.append)
        criterion = CrossEntropy(C.background)
        if 'ohem_min_kept' in C:
            criterion = OhemCrossEntropy(C.background, C.ohem_thresh, C.ohem_min_kept, CITYSCAPES_WEIGHTS)
        return Trainer(C, network, criterion.to(self.device), None, None, self.device)

    def ours(self) -> None:
        """An iteration of the trainer."""
        self.trainer.iterate(self.batch)

    @cached_property
    def _plain(self):
        C, module = self.config, plain.load('step')
        torch.manual_seed(0)
        self.plain_network = build_network(C).to(self.device).train()
        criterion = module.cross_entropy
        if 'ohem_min_kept' in C:
            criterion = module.Ohem(C.ohem_thresh, C.ohem_min_kept, CITYSCAPES_WEIGHTS)
        optimizers = [
            module.plain_sgd(param_groups(branch, C.lr, C.weight_decay)) for branch in self.plain_network.branches
        ]
        forward = autocast(self.plain_network, choose_amp(C.amp, self.device), self.device)
        return module.PlainStep(forward, C.num_classes, criterion, C.unsup_weight, optimizers)

    @cached_property
    def _plain_inputs(self) -> list[torch.Tensor]:
        batch = self.batch
        x, u0, u1 = (images.float().contiguous() / 64 - 2 for images in (batch.x, batch.u0, batch.u1))
        return [x, batch.y.long(), u0, u1, torch.rand(len(x), 1, *x.shape[-2:], device=self.device) < 0.3]

    def plain(self) -> None:
        """An iteration of the plain version."""
        self._plain(*self._plain_inputs)

    def networks(self) -> Iterator[nn.Module]:
        """Those that have been made."""
        if 'trainer' in vars(self):
            yield self.trainer.network
        if '_plain' in vars(self):
            yield self.plain_network


def random_batch(C: Config, device: torch.device) -> Batch:
    """A batch of noise, on the device."""
    size = C.image_height, C.image_width

    def images() -> torch.Tensor:
        return torch.randint(0, 256, (C.batch_size, *size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)

    inside = torch.tensor([[0, 0, *size]] * C.batch_size, device=device)
    y = torch.randint(0, C.num_classes, (C.batch_size, *size), dtype=torch.uint8, device=device)
    boxes = draw_boxes(C.batch_size, size, np.random.RandomState(0)).to(device)
    return Batch(images(), inside, y, images(), inside, images(), inside, boxes)
