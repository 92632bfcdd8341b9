"""ResNet backbones with output stride 16, built on torchvision's blocks.

ResNet-50 and -101 have the deep stem (three 3x3 convolutions, "v1c"/"v1s") of the released CPCL and CPS networks, with
the state-dict names of their checkpoints; ResNet-18 keeps torchvision's plain stem, for small machines.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet, conv1x1


class Backbone(ResNet):
    """A ResNet without pooling and classifier, layer4 dilated instead of strided.

    Args:
        block: torchvision's residual block.
        layers: blocks in each of the four layers.
        deep_stem: three convolutions instead of one.
        norm_layer: the normalisation, a callable of the channel count.
        grad_checkpoint: keep only what goes into each residual block, and compute the block again in the backward pass.

    Attributes:
        low_channels, high_channels: channels of the two maps that ``forward`` returns.
    """

    def __init__(
        self,
        block: type[BasicBlock | Bottleneck],
        layers: Sequence[int],
        deep_stem: bool,
        norm_layer=nn.BatchNorm2d,
        grad_checkpoint: bool = False,
    ):
        super().__init__(block, list(layers), norm_layer=norm_layer)
        del self.fc, self.avgpool
        if deep_stem:
            self._deepen_stem(norm_layer)
        self._dilate_layer4()
        self.low_channels = 64 * block.expansion
        self.high_channels = 512 * block.expansion
        self.grad_checkpoint = grad_checkpoint

    def _deepen_stem(self, norm_layer) -> None:
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False),
            norm_layer(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            norm_layer(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 128, 3, padding=1, bias=False),
        )
        self.bn1 = norm_layer(128)
        # The stem ends in 128 channels instead of 64: only the first block sees that.
        downsample = nn.Sequential(conv1x1(128, 256), norm_layer(256))
        self.layer1[0] = Bottleneck(128, 64, downsample=downsample, norm_layer=norm_layer)

    def _dilate_layer4(self) -> None:
        """Stride 1, and dilation 2, 4, 8 (multi-grid) in the blocks' 3x3 convolutions."""
        for index, block in enumerate(self.layer4):
            for module in block.modules():
                if isinstance(module, nn.Conv2d):
                    module.stride = (1, 1)
                    if module.kernel_size == (3, 3):
                        module.dilation = module.padding = (2 ** (index + 1),) * 2

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) to the maps of layer1 (stride 4) and layer4 (stride 16)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        low = self._run(self.layer1, x)
        return low, self._run(self.layer4, self._run(self.layer3, self._run(self.layer2, low)))

    def _run(self, layer: nn.Sequential, x: Tensor) -> Tensor:
        if not (self.grad_checkpoint and torch.is_grad_enabled()):
            return layer(x)
        for block in layer:
            x = checkpoint(
                block,
                x,
                use_reentrant=False,
                preserve_rng_state=False,  # nothing in it is random
                context_fn=lambda b=block: (nullcontext(), _recomputing(b)),
            )
        return x


@contextmanager
def _recomputing(block: nn.Module) -> Iterator[None]:
    """The second time through ``block``: BatchNorm's running statistics have been moved already."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked -= 1


# What makes a backbone, by name; called with norm_layer and grad_checkpoint. It gives two maps of an image, of stride 4
# and 16, and their channels as low_channels and high_channels.
BACKBONES: dict[str, Callable[..., nn.Module]] = {
    'resnet18': partial(Backbone, BasicBlock, (2, 2, 2, 2), False),
    'resnet50': partial(Backbone, Bottleneck, (3, 4, 6, 3), True),
    'resnet101': partial(Backbone, Bottleneck, (3, 4, 23, 3), True),
}
