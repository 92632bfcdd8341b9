"""How much memory this process has, and how it shows that there is no more."""

from pathlib import Path

import torch

# What cuBLAS and cuDNN say where PyTorch's allocator has left them no room; the last may have other reasons.
NO_ROOM = ('CUBLAS_STATUS_ALLOC_FAILED', 'CUDNN_STATUS_ALLOC_FAILED')
NO_KERNEL = 'unable to find an engine to execute'


def out_of_memory(error: BaseException) -> bool:
    """Whether it tells that the memory of a GPU is full."""
    if not isinstance(error, RuntimeError):
        return False
    if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in NO_ROOM):
        return True
    if NO_KERNEL not in str(error):
        return False
    free, whole = torch.cuda.mem_get_info()
    return free < 0.1 * whole


def process_memory(name: str) -> float | None:
    """``VmHWM`` (the peak) or ``VmRSS`` (now) of this process in MiB; None where the system does not tell."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f'{name}:')), None)
