"""Where ImageNet weights come from: a file, the Hugging Face Hub, torchvision."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock
from torchvision.models import ResNet18_Weights

from furnace.base_model.weights.files import sha256
from furnace.utils.errors import UserError

HUB = re.compile(r'hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?')
HUB_FILE = 'model.safetensors'
TORCHVISION = {'resnet18': ResNet18_Weights.IMAGENET1K_V1}
# Those of timm with the deep stem of 64-64-128 channels; torchvision's have a plain one.
DEEP_STEM = {'resnet50': 'hf:timm/resnet50s.gluon_in1k', 'resnet101': 'hf:timm/resnet101s.gluon_in1k'}


class Weights(NamedTuple):
    """A file of weights: what was asked for, where it lies, and the 64 digits of its SHA-256."""

    source: str
    path: str
    sha256: str

    def __str__(self) -> str:
        place = '' if self.path == self.source else f'{self.path}, '
        return f'{self.source} ({place}SHA-256 {self.sha256})'


def source_problem(source: str | os.PathLike, backbone: str) -> str | None:
    """What is wrong with ``source`` for ``backbone`` (one of BACKBONES) as far as its text tells, and what to do."""
    source = os.fspath(source)
    if not source:
        return 'must be the path of a file, hf:OWNER/NAME, or torchvision'
    if source.startswith('hf:') and not HUB.fullmatch(source):
        return 'a name on the hub has the form hf:OWNER/NAME or hf:OWNER/NAME@REVISION'
    if source == 'torchvision' and backbone not in TORCHVISION:
        if backbone in DEEP_STEM:
            return f'its {backbone} has another stem than this one; use {DEEP_STEM[backbone]}'
        return f'knows weights for {", ".join(TORCHVISION)} alone; give {backbone} a file'
    return None


def fetch(source: str | os.PathLike, backbone: str) -> Weights:
    """The file that ``source`` names, downloaded unless it lies in the cache already.

    Args:
        source: a path; ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``, model.safetensors of that repository on the
            Hugging Face Hub; or ``torchvision``.
        backbone: one of BACKBONES, for which torchvision's file is chosen.

    Raises:
        UserError: there is no such file, it cannot be downloaded, or is damaged.
    """
    source = os.fspath(source)
    if problem := source_problem(source, backbone):
        raise UserError(f'{source}: {problem}')
    if match := HUB.fullmatch(source):
        path, digits = _from_hub(source, *match.groups())
    elif source == 'torchvision':
        path, digits = _from_torchvision(TORCHVISION[backbone].url)
    else:
        path, digits = source, ''
    found = sha256(path)
    if not found.startswith(digits):
        raise UserError(
            f'{os.path.realpath(path)}: is damaged: its SHA-256 is {found}, not {digits}; '
            'delete it, and the next start downloads it again'
        )
    return Weights(source, path, found)


def _from_hub(source: str, repository: str, revision: str | None) -> tuple[str, str]:
    """The path in the hub's cache, and the SHA-256 that the hub gave the file, or '' where the cache does not tell."""
    from huggingface_hub import constants, hf_hub_download  # needed by few runs

    try:
        path = hf_hub_download(repository, HUB_FILE, revision=revision)
    except Exception as error:  # the network, a proxy, the disk, the name: the client has an exception for each
        folder = f'models--{repository.replace("/", "--")}'
        raise UserError(
            f'{source}: cannot be downloaded ({_reason(error)}); from a machine that can, copy {folder} of its cache '
            f'into {constants.HF_HUB_CACHE}, or {HUB_FILE} anywhere and set C.pretrained_model to its path'
        ) from error
    # The cache names a large file by its SHA-256 and links to it.
    blob = os.path.basename(os.readlink(path)) if os.path.islink(path) else ''
    return path, blob if re.fullmatch('[0-9a-f]{64}', blob) else ''


def _from_torchvision(url: str) -> tuple[str, str]:
    """The path in PyTorch's cache, and the first digits of its SHA-256, which its name ends in."""
    path = Path(torch.hub.get_dir(), 'checkpoints', url.rpartition('/')[2])
    digits = path.stem.rpartition('-')[2]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f'{path}.lock'):  # of several processes one downloads, the others wait and find the file
                if not path.is_file():
                    torch.hub.download_url_to_file(url, str(path), hash_prefix=digits)
        except Exception as error:  # as above
            raise UserError(
                f'torchvision: {url} cannot be downloaded ({_reason(error)}); from a machine that can, copy it into '
                f'{path.parent}, or anywhere and set C.pretrained_model to its path'
            ) from error
    return str(path), digits


def _reason(error: Exception) -> str:
    error = error.__cause__ or error
    return f'{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}'
