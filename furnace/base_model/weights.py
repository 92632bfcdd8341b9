"""Reading weights from files: ImageNet backbones and trained two-branch networks. Nothing is dropped silently."""

import os
import pickle
import warnings
import zipfile

import torch
from torch import Tensor, nn

from furnace.utils.errors import UserError


def load_file(path: str | os.PathLike) -> dict:
    """The dict of tensors and plain values in ``path``, on the CPU; code in the file is never run.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors and plain values.
    """
    if not os.path.isfile(path):
        raise UserError(f'{path}: no such file')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about the form of a damaged file; it is told in one line below
            content = torch.load(path, map_location='cpu', weights_only=True)
        damaged = zipfile.ZipFile(path).testzip() if zipfile.is_zipfile(path) else None  # PyTorch skips the checksums
    except pickle.UnpicklingError as error:
        raise UserError(f'{path}: refused, it holds more than tensors and plain values, or is damaged') from error
    except Exception as error:  # a damaged file can fail anywhere in PyTorch's reader
        raise UserError(f'{path}: cannot be read as a PyTorch checkpoint; is it complete?') from error
    if damaged:
        raise UserError(f'{path}: is damaged: {damaged} does not have its checksum')
    if not isinstance(content, dict):
        raise UserError(f'{path}: holds a {type(content).__name__}, not a dict of tensors')
    return content


def strip_module(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the ``module.`` that a DataParallel wrapper puts before each name."""
    return {str(name).removeprefix('module.'): value for name, value in state.items()}


def load_strict(module: nn.Module, state: dict[str, Tensor], source: str | os.PathLike) -> None:
    """Fill ``module`` from ``state``; every name and shape must match.

    Raises:
        UserError: naming the missing, unexpected and misshapen tensors of ``source`` (counted, the first few listed).
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
    }
    found = [
        f'{len(names)} {kind} ({", ".join(names[:3])}{", …" if len(names) > 3 else ""})'
        for kind, names in problems.items()
        if names
    ]
    if found:
        raise UserError(f'{source}: does not fit this network: {"; ".join(found)}')
    try:
        module.load_state_dict(state)
    except RuntimeError:  # sparse or without data, say
        raise UserError(f'{source}: holds tensors that cannot be copied into this network') from None


def load_pretrained(backbone: nn.Module, path: str | os.PathLike) -> None:
    """Fill a backbone from an ImageNet file; its classifier ``fc.*`` is left over, anything else must match."""
    content = load_file(path)
    state = content.get('state_dict', content)
    if not isinstance(state, dict):
        raise UserError(f'{path}: its entry "state_dict" is a {type(state).__name__}, not a dict of tensors')
    state = strip_module(state)
    state = {name: value for name, value in state.items() if not name.startswith('fc.')}
    # Files written before PyTorch 0.4.1 have no batch counters; they start at zero as in a new network.
    counters = {name: value for name, value in backbone.state_dict().items() if name.endswith('num_batches_tracked')}
    load_strict(backbone, {**counters, **state}, path)


def load_network(network: nn.Module, content: dict, source: str | os.PathLike) -> None:
    """Fill the dual network from the content of a CPCL or CPS checkpoint (``{'model': …}``).

    Raises:
        UserError: not such a checkpoint, or one of another class count or backbone.
    """
    model = content.get('model')
    if not isinstance(model, dict):
        raise UserError(f'{source}: has no entry "model": not a checkpoint of this project, CPCL or CPS')
    state = strip_module(model)
    classifier = 'branch1.classifier.weight'
    if isinstance(state.get(classifier), Tensor):
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


def _blocks(state: dict[str, Tensor]) -> int:
    """Residual blocks of branch1: 8 for ResNet-18, 16 for ResNet-50, 33 for ResNet-101."""
    prefix = 'branch1.backbone.layer'
    return len({name.split('.conv')[0] for name in state if name.startswith(prefix) and '.conv' in name})
