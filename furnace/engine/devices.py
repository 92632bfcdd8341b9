"""Which device a run uses."""

import torch

from furnace.engine.distributed import launched
from furnace.utils.errors import UserError


def parse_devices(text: str) -> list[torch.device]:
    """``0``, ``0,2``, ``0-3``, ``*`` (all GPUs) or ``cpu``; on a machine without CUDA the default ``0`` is the CPU.

    Raises:
        UserError: not of this form, or a GPU that is not there.
    """
    if text == 'cpu':
        return [torch.device('cpu')]
    count = torch.cuda.device_count()
    if text in ('0', '*') and not count:
        return [torch.device('cpu')]
    if text == '*':
        return [torch.device('cuda', i) for i in range(count)]
    numbers = []
    try:
        for part in text.split(','):
            first, *last = map(int, part.split('-', 1))
            last = min((last or [first])[0], first + count)  # what is beyond the GPUs here is told below
            numbers += range(first, last + 1)
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers):
        raise UserError(f'-d {text}: expected GPU numbers such as 0, 0,2 or 0-3, * for all, or cpu')
    for number in numbers:
        if number >= count:
            here = f'this machine has {count} (0 … {count - 1})' if count else 'PyTorch sees no GPU here; use -d cpu'
            raise UserError(f'-d {text}: there is no GPU {number}: {here}')
    return [torch.device('cuda', number) for number in numbers]


def choose_devices(text: str) -> list[torch.device]:
    """The devices that ``-d`` names; in a process that torchrun started, the kind of its own.

    Raises:
        UserError: as ``parse_devices``.
    """
    if launched():
        return [torch.device('cuda' if text != 'cpu' and torch.cuda.is_available() else 'cpu')]
    return parse_devices(text)
