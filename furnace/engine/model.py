"""A trained network as a plain module: images in; logits, or labels and confidences, out."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from furnace.base_model import load_file, load_network
from furnace.datasets.classes import Classes, parse_classes
from furnace.datasets.normalize import Normalize
from furnace.engine.command import build_network
from furnace.engine.config import Config, plain
from furnace.engine.inference import Inference, label_map
from furnace.engine.precision import autocast, choose_amp, place
from furnace.utils.errors import RunError, UserError

NETWORK = ('num_classes', 'backbone', 'bn_eps', 'bn_momentum')
SETTINGS = ('image_mean', 'image_std', 'eval_crop_size', 'eval_stride_rate', 'eval_scale_array', 'eval_flip',
            'eval_whole', 'eval_batch_size', 'amp')  # fmt: skip


class Segmenter(nn.Module):
    """One branch in eval mode, with the normalisation and the windows that belong to it.

    Args:
        network: logits of normalised images.
        classes: names and colours.
        config: the values of ``SETTINGS``.

    Attributes:
        classes: names and colours.
        settings: a dict of plain values; ``predict`` reads the ``eval_…`` among them.
    """

    def __init__(self, network: nn.Module, classes: Classes, config: Mapping[str, Any]):
        super().__init__()
        self.network, self.classes = network, classes
        self.settings = {name: plain(config[name]) for name in SETTINGS}
        self.normalize = Normalize(self.settings['image_mean'], self.settings['image_std'])
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes, H, W) of RGB images (N, 3, H, W): uint8, or float in 0 … 1. Normalised within.

        Raises:
            ValueError: images of another shape or type.
        """
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f'expected images (N, 3, H, W), got {tuple(images.shape)}')
        if images.is_floating_point():
            images = images * 255
        elif images.dtype != torch.uint8:
            raise ValueError(f'expected uint8 or float in 0 … 1, got {images.dtype}')
        return self.network(self.normalize(images))

    def predict(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Segments one image of any size as ``eval.py`` does: windows, scales and flip as ``settings`` say.

        Args:
            image: uint8 (H, W, 3) RGB.

        Returns:
            label: uint8 (H, W), class ids.
            confidence: float32 (H, W), the greatest softmax of the logits summed over windows, scales and flips.

        Raises:
            ValueError: an image of another shape or type.
            RunError: the logits are not finite.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'expected an image uint8 (H, W, 3), got {image.dtype} {image.shape}')
        S, device = self.settings, self.normalize.scale.device
        logits = Inference(
            autocast(self.network, choose_amp(S['amp'], device), device),
            self.normalize,
            S['eval_crop_size'],
            S['eval_stride_rate'],
            S['eval_scale_array'],
            S['eval_flip'],
            S['eval_whole'],
            S['eval_batch_size'],
        )(image)
        label = label_map(logits)
        confidence = logits.softmax(dim=0).amax(dim=0).cpu().numpy()
        if not np.isfinite(confidence).all():  # the label map would be of class 0, say
            raise RunError("the network's logits are not finite: are its weights damaged? Where amp is on, try off")
        return label.cpu().numpy(), confidence


def load(
    checkpoint: str | os.PathLike,
    device: str | torch.device = 'cpu',
    branch: int = 1,
    config: Mapping[str, Any] | None = None,
    classes: Classes | None = None,
) -> Segmenter:
    """A branch of a checkpoint, ready for use.

    Args:
        checkpoint: the file; nothing else is needed for one that ``train.py`` wrote.
        device: where the network is put.
        branch: 1, as published, or 2.
        config: used instead of the checkpoint's own settings. Released checkpoints have none:
            ``load_config('exp_voc/config.py')`` of ``furnace.engine.config`` gives them.
        classes: instead of the checkpoint's own, as ``furnace.datasets.classes.PASCAL_VOC``.

    Raises:
        UserError: the file cannot be used, or lacks what is not given here.
    """
    if branch not in (1, 2):
        raise ValueError(f'branch = {branch!r}: choose 1 or 2')
    content = load_file(checkpoint)
    if config is None:
        config = content.get('config')
        if not isinstance(config, dict):
            raise UserError(f'{checkpoint}: carries no configuration; give one, load_config(…/config.py), as config')
    if missing := [name for name in (*NETWORK, *SETTINGS) if name not in config]:
        raise UserError(f'{checkpoint}: its configuration has no {", ".join(missing)}')
    classes = classes or stored_classes(content, checkpoint)
    if classes is None:
        raise UserError(f'{checkpoint}: carries no class names; give them as classes')
    classes.require(config['num_classes'])
    try:
        network = build_network(Config({**config, 'grad_checkpoint': False}))
        model = Segmenter(network.branches[branch - 1], classes, config)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f'{checkpoint}: its settings make no network: {" ".join(str(error).split())}') from None
    load_network(network, content, checkpoint)
    return place(model, torch.device(device))


def stored_classes(content: dict, source: str | os.PathLike) -> Classes | None:
    """Names and colours from the content of the checkpoint ``source``; None where it has none, as CPCL's and CPS's."""
    return parse_classes(content['classes'], f'{source}: its classes') if 'classes' in content else None
