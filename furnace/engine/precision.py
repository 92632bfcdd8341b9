"""How precisely a device computes: mixed precision, TF32, determinism."""

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

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


def set_up(device: torch.device, deterministic: bool) -> None:
    """Fast kernels on a GPU, or with ``deterministic`` such as give the same bits each time."""
    if device.type != 'cuda':
        return  # the CPU's are deterministic
    torch.set_float32_matmul_precision('high')
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    torch.use_deterministic_algorithms(deterministic)


def place(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` on ``device``, in the memory format in which its convolutions are quickest there."""
    return network.to(device, memory_format=torch.channels_last)
