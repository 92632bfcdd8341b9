"""Inputs of the reference values in ``tests/golden``, remade from their names as their origin made them.

The values were computed with the released CPCL implementation, on the CPU.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

GOLDEN = Path(__file__).parent / 'golden'
S0 = 11
EXPERIMENTS = {'city': 19, 'voc': 21}


def figures(experiment: str) -> dict:
    return json.loads((GOLDEN / f'exp_{experiment}_shared.json').read_text())


def arrays(experiment: str):
    return np.load(GOLDEN / f'exp_{experiment}_shared.npz')


def R(name: str) -> np.random.RandomState:
    return np.random.RandomState((zlib.crc32(name.encode()) + S0) % 2**32)


def rnd(name: str, shape, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy((R(name).standard_normal(shape) * scale).astype(np.float32))


def ints(name: str, shape, low: int, high: int) -> torch.Tensor:
    return torch.from_numpy(R(name).randint(low, high, shape))


def toy_network(num_classes: int):
    """The stand-in of the evaluation's values: its logits depend on the place in the window."""
    weight, bias = rnd('toyw', (num_classes, 3, 5, 5), 0.3), rnd('toyb', (num_classes,), 0.1)

    def forward(x):
        height, width = x.shape[-2:]
        ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(1, 2, width)[None]
        return F.conv2d(x, weight, bias, padding=2) * ramp

    return forward


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The reference state dict for a dual network: noise by tensor name, branch 2 close to branch 1."""
    state = {}
    for key, tensor in network.state_dict().items():
        shape, own, common = tuple(tensor.shape), R(key), R(key.replace('branch2', 'branch1'))
        if key.endswith('num_batches_tracked'):
            state[key] = torch.zeros_like(tensor)
            continue
        if key.endswith('running_var'):
            value = 1 + 0.2 * common.random_sample(shape)
        else:
            noise = common.standard_normal(shape)
            if key.startswith('branch2'):
                noise = 0.995 * noise + 0.1 * own.standard_normal(shape)
            if len(shape) == 4:
                value = noise * np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
            elif key.endswith('.weight'):
                value = 1 + 0.1 * noise
            else:
                value = 0.1 * noise
        state[key] = torch.from_numpy(np.asarray(value)).to(tensor.dtype)
    return state
