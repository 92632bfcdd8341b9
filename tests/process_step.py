"""One step of one of several processes; rank 0 saves losses and gradients. Run by test_distributed.py.

python process_step.py OUTPUT METHOD…
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from furnace.base_model import DualNetwork
from furnace.engine.distributed import World, joined, replicate
from furnace.engine.step import Step
from furnace.seg_opr.cutmix import draw_boxes, paint_masks
from furnace.seg_opr.loss import CrossEntropy

BATCH, SIZE, NUM_CLASSES = 6, (33, 40), 4


def run(output: str, *methods: str) -> None:
    """Write ``{method: {'size', 'losses', 'gradients'}}`` to ``output``."""
    with joined(torch.device('cpu')) as (world, _):
        results = {method: one_step(method, world) for method in methods}
        if world.rank == 0:
            torch.save(results, output)


def one_step(method: str, world: World) -> dict:
    torch.manual_seed(0)
    network = DualNetwork(NUM_CLASSES, 'resnet18').double()
    network.eval()  # statistics held fixed: PyTorch has no SyncBatchNorm on the CPU
    x, u0, u1 = torch.randn(3, BATCH, 3, *SIZE, dtype=torch.float64)
    y = torch.randint(0, NUM_CLASSES, (BATCH, *SIZE))
    y[0] = y[1, :20] = 255  # the processes hold different numbers of valid pixels
    mask = paint_masks(draw_boxes(BATCH, SIZE, np.random.RandomState(1)), SIZE)
    part = slice(world.rank * BATCH // world.size, (world.rank + 1) * BATCH // world.size)
    forward, accumulate = replicate(network, world)
    weights = [1.0, 2.0, 0.5, 1.5]
    step = Step(forward, NUM_CLASSES, CrossEntropy(255, weights), method, 1.5, world=world, accumulate=accumulate)
    inputs = [t[part] for t in (x, y, u0, u1, mask)]
    losses = step(*(inputs[:2] if method == 'supervised' else inputs))
    losses = {name: world.sum(value) / world.size for name, value in losses.items()}
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return {'size': world.size, 'losses': losses, 'gradients': gradients}


if __name__ == '__main__':
    run(*sys.argv[1:])
