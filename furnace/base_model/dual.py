"""The two networks that teach each other (CPCL section III)."""

from functools import partial

from torch import Tensor, nn

from furnace.base_model.deeplabv3plus import DeepLabV3Plus


class DualNetwork(nn.Module):
    """``branch1`` (conservative, the one used at test time) and ``branch2`` (progressive): same form, own weights.

    The state dict has the names, shapes and order of the released CPCL and CPS checkpoints.

    Args:
        num_classes: channels of the logits.
        backbone: one of ``furnace.base_model.resnet.BACKBONES``.
        bn_eps, bn_momentum: of every BatchNorm.
        grad_checkpoint: see ``furnace.base_model.resnet.Backbone``.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = 'resnet50',
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        grad_checkpoint: bool = False,
    ):
        super().__init__()
        norm_layer = partial(nn.BatchNorm2d, eps=bn_eps, momentum=bn_momentum)
        self.branch1 = DeepLabV3Plus(num_classes, backbone, norm_layer, grad_checkpoint)
        self.branch2 = DeepLabV3Plus(num_classes, backbone, norm_layer, grad_checkpoint)

    @property
    def branches(self) -> tuple[DeepLabV3Plus, DeepLabV3Plus]:
        """Branch 1 and branch 2."""
        return self.branch1, self.branch2

    def forward(self, x: Tensor, step: int = 1) -> Tensor:
        """Logits (N, num_classes, H, W) of branch ``step`` for normalised images (N, 3, H, W).

        Raises:
            ValueError: ``step`` is neither 1 nor 2.
        """
        if step not in (1, 2):
            raise ValueError(f'step = {step!r}: choose branch 1 or 2')
        return self.branches[step - 1](x)
