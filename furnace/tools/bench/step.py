"""Seconds of a training step from memory, its arithmetic against the GPU's peak, and the wait for data."""

import os
import time
from collections.abc import Callable
from itertools import islice

import torch
from torch.utils.flop_counter import FlopCounterMode

from furnace.datasets.normalize import Normalize
from furnace.datasets.train_set import TrainSet, batches
from furnace.engine.config import Config
from furnace.tools.bench.measure import Row, Spread, in_turns, synchronize
from furnace.tools.bench.recipes import Plan, Recipe
from furnace.tools.bench.work import Work

# Dense bfloat16 of the makers' data sheets, FLOP/s. Other forms of these chips (PCIe, NVL) have other peaks.
PEAKS = {'H100 80GB HBM3': 989e12, 'H200': 989e12, 'A100': 312e12}


def rows(plan: Plan) -> list[Row]:
    return [row for recipe in plan.recipes for row in _steps(plan, recipe)]


def peak_of(device_name: str) -> float | None:
    """FLOP/s in bfloat16, if it is known for this device."""
    if 'NVL' in device_name or ('PCIe' in device_name and 'A100' not in device_name):
        return None
    return next((peak for name, peak in PEAKS.items() if name in device_name), None)


def _steps(plan: Plan, recipe: Recipe) -> list[Row]:
    device, overrides = plan.device, ()
    amp = device.type == 'cuda'
    if not amp:
        side = plan.step_side
        overrides = f'backbone={plan.backbone}', f'image_height={side}', f'image_width={side}'
    batch, found = recipe.config().batch_size if amp else 2, []
    while True:
        C = recipe.config(*overrides, f'batch_size={batch}')
        title = f'{recipe.name}: {C.backbone}, batch {batch}, {C.image_height}², {"bfloat16" if amp else "float32"}'
        work = Work(C, device, amp)
        seconds = _seconds({'ours': work.ours, 'plain': work.plain}, plan.rounds, device)
        if seconds is None:
            seconds = _seconds({'ours': work.ours}, plan.rounds, device) or {}
        if seconds and not found:
            found.append(_wait(plan, recipe, C, work, title))
        found += _rows_of(title, work, seconds)
        del work
        # Where the plain version does not fit, half the batch compares the two.
        if 'plain' in seconds or batch < 4:
            return found
        batch //= 2


def _seconds(calls: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list[float]] | None:
    """As ``in_turns``; None where one of the calls does not fit in memory."""
    try:
        return in_turns(calls, rounds, device)
    except torch.OutOfMemoryError:
        return None  # and what the failed call held is free again


def _rows_of(title: str, work: Work, seconds: dict[str, list[float]]) -> list[Row]:
    spreads = {kind: Spread.of(values) for kind, values in seconds.items()}
    ours, plain = spreads.get('ours'), spreads.get('plain')
    if ours is None:
        return [Row('step', title, 's', None, note='does not fit')]
    with FlopCounterMode(display=False) as counter:
        work.ours()
    flops = counter.get_total_flops()
    note = f'{flops / 1e12:.3g} TFLOP' + ('' if plain else '; – does not fit')
    found = [Row('step', title, 's', ours, plain, note=note)]
    name = torch.cuda.get_device_name(work.device) if work.device.type == 'cuda' else ''
    if peak := peak_of(name):
        shares = [Spread.of(100 * flops / (peak * s) for s in seconds[kind]) for kind in seconds]
        note = f'of {peak / 1e12:.0f} TFLOP/s, dense bfloat16'
        found.append(Row('step', f'model FLOP utilisation, {title}', '%', *shares, note=note))
    return found


def _wait(plan: Plan, recipe: Recipe, C: Config, work: Work, title: str) -> Row:
    """How much longer an iteration takes with loader workers than from memory, as a share of it."""
    items, device = plan.items(recipe), plan.device
    iterations = plan.waits + 2  # the first two fill the queues
    size = C.image_height, C.image_width
    data = TrainSet(
        items, items, C.num_classes, size, C.train_scale_array, iterations * C.batch_size, C.seed, second=True
    )
    normalize, mask = Normalize(C.image_mean, C.image_std).to(device), work.inputs[4]

    def image(pixels, inside):
        return normalize(pixels.to(device, non_blocking=True), inside.to(device, non_blocking=True))

    def step(batch):
        x, u0, u1 = (
            image(*pair)
            for pair in ((batch.x, batch.x_inside), (batch.u0, batch.u0_inside), (batch.u1, batch.u1_inside))
        )
        work.ours((x, batch.y.to(device, non_blocking=True).long(), u0, u1, mask))

    workers = min(C.num_workers, os.cpu_count())
    stream = batches(data, C.batch_size, 0, workers, device.type == 'cuda')
    for batch in islice(stream, 2):
        step(batch)
    synchronize(device)
    start = time.perf_counter()
    for batch in stream:
        step(batch)
    synchronize(device)
    loaded = (time.perf_counter() - start) / plan.waits
    start = time.perf_counter()
    for _ in range(plan.waits):
        step(batch)
    synchronize(device)
    memory = (time.perf_counter() - start) / plan.waits
    share = Spread.of([max(0.0, 100 * (1 - memory / loaded))])
    note = f'{workers} workers, {plan.waits} iterations: {loaded:.3g} s each, {memory:.3g} s from memory'
    return Row('step', f'share of an iteration that waits for data, {title}', '%', share, note=note)
