"""Filling networks from files: ImageNet backbones and trained two-branch networks."""

import os
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from furnace.base_model.weights.files import load_file
from furnace.base_model.weights.names import backbone_name, strip_module
from furnace.base_model.weights.sources import fetch
from furnace.utils.errors import UserError, some


def load_strict(module: nn.Module, state: dict[str, Tensor], source: str | os.PathLike, hint: str = '') -> None:
    """Fill ``module`` from ``state``; every name and shape must match, and every value be finite.

    Args:
        hint: what to add where they do not.

    Raises:
        UserError: naming the tensors of ``source`` that do not fit or are broken (counted, the first few listed).
    """
    own = module.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    problems = {
        'missing': [name for name in own if name not in shapes],
        'unexpected': [name for name in state if name not in own],
        'misshapen': [
            f'{name} {shapes[name]} instead of {tuple(value.shape)}'
            for name, value in own.items()
            if name in shapes and shapes[name] != tuple(value.shape)
        ],
        'not of floating point': [
            name
            for name, value in own.items()
            if name in shapes and value.is_floating_point() and not state[name].is_floating_point()
        ],
    }
    found = [f'{len(names)} {kind} ({some(names)})' for kind, names in problems.items() if names]
    if found:
        raise UserError(f'{source}: does not fit this network: {"; ".join(found)}{hint}')
    broken = [name for name, value in state.items() if value.is_floating_point() and not _is_finite(value)]
    if broken:
        raise UserError(f'{source}: {len(broken)} tensors hold NaN or infinite values: {some(broken)}{hint}')
    try:
        module.load_state_dict(state)
    except RuntimeError:  # sparse or without data, say
        raise UserError(f'{source}: holds tensors that cannot be copied into this network') from None


def _is_finite(value: Tensor) -> bool:
    return value.layout != torch.strided or value.is_meta or bool(value.isfinite().all())  # else copying it fails


def load_pretrained(backbones: Iterable[nn.Module], source: str | os.PathLike, kind: str) -> str:
    """Fill backbones from what ``fetch`` gives for ``source`` and ``kind``, one of BACKBONES.

    Returns:
        what was loaded: source, path, SHA-256, and the heads that were left out.

    Raises:
        UserError: as ``fetch`` and ``load_backbone`` do.
    """
    weights, heads = fetch(source, kind), []
    for backbone in backbones:
        heads = load_backbone(backbone, weights.path)
    return f'{weights}{", without " if heads else ""}{", ".join(heads)}'


def load_backbone(backbone: nn.Module, path: str | os.PathLike) -> list[str]:
    """Fill a backbone from an ImageNet or segmentation file, in the names of any project that ``names`` knows.

    Returns:
        the heads of the file that were left out, such as ``fc``; anything else must match by name and shape.

    Raises:
        UserError: it cannot be read or does not fit.
    """
    content = load_file(path)
    entry = next((entry for entry in ('state_dict', 'model') if entry in content), None)
    tensors = content if entry is None else content[entry]
    if not isinstance(tensors, dict):
        raise UserError(f'{path}: its entry "{entry}" is a {type(tensors).__name__}, not a dict of tensors')
    state, heads = {}, set()
    for theirs, value in tensors.items():
        name, head = backbone_name(theirs)
        if head:
            heads.add(head)
        elif name in state:
            raise UserError(f'{path}: holds {name} twice, under two names')
        else:
            state[name] = value
    # Files written before PyTorch 0.4.1 have no batch counters; they start at zero as in a new network.
    own = backbone.state_dict()
    counters = {name: value for name, value in own.items() if name.endswith('num_batches_tracked')}
    there, here = _stem(state), _stem(own)
    hint = f'; its stem has convolutions of {there} channels, this one of {here}' if there not in ('', here) else ''
    load_strict(backbone, {**counters, **state}, path, hint)
    return sorted(heads)


def load_network(network: nn.Module, content: dict, source: str | os.PathLike) -> None:
    """Fill the dual network from the content of a CPCL or CPS checkpoint (``{'model': …}``).

    Raises:
        UserError: not such a checkpoint, or one of another class count or backbone.
    """
    model = content.get('model')
    if not isinstance(model, dict):
        raise UserError(f'{source}: has no entry "model": not a checkpoint of this project, CPCL or CPS')
    state = {strip_module(name): value for name, value in model.items()}
    classifier = 'branch1.classifier.weight'
    if isinstance(state.get(classifier), Tensor) and state[classifier].ndim:
        there, here = len(state[classifier]), len(network.state_dict()[classifier])
        if there != here:
            raise UserError(f'{source}: trained for {there} classes, the configuration says num_classes = {here}')
    depth_there, depth_here = _blocks(state), _blocks(network.state_dict())
    if depth_there and depth_there != depth_here:
        raise UserError(
            f'{source}: its backbone has {depth_there} residual blocks, the configured one {depth_here}; '
            'set C.backbone to the one it was trained with'
        )
    load_strict(network, state, source)


def _stem(state: dict[str, Tensor]) -> str:
    """Channels of the stem's convolutions: 64 of a plain stem, 64-64-128 of this project's deep one."""
    weights = (state.get(f'conv1.{layer}weight') for layer in ('', '0.', '3.', '6.'))
    return '-'.join(str(len(weight)) for weight in weights if isinstance(weight, Tensor) and weight.ndim)


def _blocks(state: dict[str, Tensor]) -> int:
    """Residual blocks of branch1: 8 for ResNet-18, 16 for ResNet-50, 33 for ResNet-101."""
    prefix = 'branch1.backbone.layer'
    return len({name.split('.conv')[0] for name in state if name.startswith(prefix) and '.conv' in name})
