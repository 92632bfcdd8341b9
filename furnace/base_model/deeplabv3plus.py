"""DeepLabv3+ (Chen et al., ECCV 2018) in the form that CPS and CPCL train: one branch of the dual network."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from furnace.base_model.resnet import BACKBONES

LEAKY_SLOPE = 0.01


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, C, H, W) to (N, C, *size), bilinear with aligned corners."""
    return F.interpolate(x, size=size, mode='bilinear', align_corners=True)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling whose image pooling is added to the pyramid, not concatenated."""

    def __init__(self, in_channels: int, channels: int = 256, rates=(6, 12, 18), norm_layer=nn.BatchNorm2d):
        super().__init__()
        convs = [nn.Conv2d(in_channels, channels, 1, bias=False)]
        convs += [nn.Conv2d(in_channels, channels, 3, padding=r, dilation=r, bias=False) for r in rates]
        self.map_convs = nn.ModuleList(convs)
        self.map_bn = norm_layer(channels * len(convs))
        self.global_pooling_conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.global_pooling_bn = norm_layer(channels)
        self.red_conv = nn.Conv2d(channels * len(convs), channels, 1, bias=False)
        self.pool_red_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.red_bn = norm_layer(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, channels, H, W)."""
        pyramid = torch.cat([conv(x) for conv in self.map_convs], dim=1)
        pyramid = self.red_conv(F.leaky_relu(self.map_bn(pyramid), LEAKY_SLOPE))
        pooled = self.global_pooling_conv(x.mean(dim=(2, 3), keepdim=True))
        pooled = self.pool_red_conv(F.leaky_relu(self.global_pooling_bn(pooled), LEAKY_SLOPE))
        return F.leaky_relu(self.red_bn(pyramid + pooled), LEAKY_SLOPE)


class Head(nn.Module):
    """ASPP on the deep map, joined with the reduced shallow map: 256 channels at stride 4."""

    def __init__(self, low_channels: int, high_channels: int, norm_layer=nn.BatchNorm2d):
        super().__init__()
        self.aspp = ASPP(high_channels, norm_layer=norm_layer)
        self.reduce = nn.Sequential(nn.Conv2d(low_channels, 48, 1, bias=False), norm_layer(48), nn.ReLU(inplace=True))
        self.last_conv = nn.Sequential(
            nn.Conv2d(256 + 48, 256, 3, padding=1, bias=False),
            norm_layer(256),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            norm_layer(256),
            nn.ReLU(inplace=True),
        )

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Maps (N, low_channels, H, W) and (N, high_channels, h, w) to (N, 256, H, W)."""
        high = upsample(self.aspp(high), low.shape[-2:])
        return self.last_conv(torch.cat([high, self.reduce(low)], dim=1))


class DeepLabV3Plus(nn.Module):
    """One segmentation network: images (N, 3, H, W) to logits (N, num_classes, H, W).

    Args:
        num_classes: channels of the logits.
        backbone: one of ``furnace.base_model.resnet.BACKBONES``.
        norm_layer: the normalisation of backbone and head, a callable of the channel count.
        grad_checkpoint: see ``furnace.base_model.resnet.Backbone``.
    """

    def __init__(
        self, num_classes: int, backbone: str = 'resnet50', norm_layer=nn.BatchNorm2d, grad_checkpoint: bool = False
    ):
        super().__init__()
        if backbone not in BACKBONES:
            raise ValueError(f'backbone = {backbone!r}: choose one of {", ".join(BACKBONES)}')
        self.backbone = BACKBONES[backbone](norm_layer=norm_layer, grad_checkpoint=grad_checkpoint)
        self.head = Head(self.backbone.low_channels, self.backbone.high_channels, norm_layer)
        self.classifier = nn.Conv2d(256, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_in', nonlinearity='relu')

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes, H, W) of normalised images (N, 3, H, W); float32 under autocast too."""
        logits = self.classifier(self.head(*self.backbone(x)))
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()  # before they are enlarged: halves would tie
        return upsample(logits, x.shape[-2:])
