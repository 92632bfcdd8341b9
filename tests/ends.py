"""How two runs ended."""

from pathlib import Path

import torch

from furnace.base_model import load_file
from furnace.engine.curves import LOSSES
from furnace.tools.same_losses import first_difference, read_losses


def difference(log: Path, other: Path) -> str | None:
    """What first differs between the last checkpoints and losses of two log folders, bit for bit; None: nothing."""
    one, two = (load_file(folder / 'snapshot' / 'epoch-last.pth') for folder in (log, other))
    if one['iteration'] != two['iteration']:
        return f'iteration {one["iteration"]} instead of {two["iteration"]}'
    for name, tensor in two['model'].items():
        if not torch.equal(one['model'][name], tensor):
            return name
    for optimizer in ('optimizer_1', 'optimizer_2'):
        if one[optimizer]['param_groups'] != two[optimizer]['param_groups']:
            return f'{optimizer} param_groups'
        for key, state in two[optimizer]['state'].items():
            if not torch.equal(one[optimizer]['state'][key]['momentum_buffer'], state['momentum_buffer']):
                return f'{optimizer} {key}'
    if (log / LOSSES).read_text().count('\n') != two['iteration']:
        return f'{LOSSES} has a gap or a double'
    return first_difference(read_losses(other), read_losses(log))


def assert_same_model(first: Path, second: Path) -> None:
    """Two checkpoints are of one iteration, and every tensor of the networks is the same, bit for bit."""
    one, two = load_file(first), load_file(second)
    assert one['iteration'] == two['iteration']
    assert one['model'].keys() == two['model'].keys()
    assert [name for name, tensor in one['model'].items() if not torch.equal(tensor, two['model'][name])] == []
