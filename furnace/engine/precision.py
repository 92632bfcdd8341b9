"""How precisely a device computes: mixed precision, TF32, determinism."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from furnace.engine.config import Config

AMP = {'bf16': torch.bfloat16, 'fp16': torch.float16, 'off': None}


def choose_amp(setting: str, device: torch.device) -> str:
    """``C.amp`` with 'auto' decided: bf16 on a GPU that has it, else off."""
    if setting != 'auto':
        return setting
    return 'bf16' if device.type == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False) else 'off'


def autocast(forward: Callable[..., Tensor], amp: str, device: torch.device) -> Callable[..., Tensor]:
    """``forward`` with its convolutions in half precision, unless ``amp`` is off."""
    dtype = AMP[amp]
    if dtype is None:
        return forward

    def half(*arguments, **options) -> Tensor:
        # One context a pass: the cast weights of a pass without gradients must not serve one with them.
        with torch.autocast(device.type, dtype):
            return forward(*arguments, **options)

    return half


def set_up(device: torch.device, deterministic: bool, one_size: bool = True) -> None:
    """Fast kernels on a GPU, or with ``deterministic`` such as give the same bits each time.

    Args:
        one_size: all batches have one size or few, so that trying kernels out for each pays.
    """
    if device.type != 'cuda':
        return  # the CPU's are deterministic
    torch.set_float32_matmul_precision('high')  # TF32, which convolutions use anyway
    torch.backends.cudnn.benchmark = one_size and not deterministic
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    torch.use_deterministic_algorithms(deterministic)


@contextmanager
def kernels_tried_out(one_size: bool) -> Iterator[None]:
    """Within it kernels are tried out only with ``one_size``, and where they were before; afterwards as before."""
    former = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = former and one_size
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = former


def training_format(config: Config, device: torch.device) -> torch.memory_format:
    """The memory format in which convolutions are quickest in training.

    Channels last, but for small batches on a CPU: weights are brought into another format in each backward pass there,
    which costs more than is gained on fewer than some 60000 pixels.
    """
    pixels = config.batch_size * config.image_height * config.image_width
    return torch.contiguous_format if device.type == 'cpu' and pixels < 60_000 else torch.channels_last


def place(
    network: nn.Module, device: torch.device, memory_format: torch.memory_format = torch.channels_last
) -> nn.Module:
    """``network`` on ``device``, its weights in that format."""
    return network.to(device, memory_format=memory_format)
