"""Seconds of a training step from memory, its arithmetic against the GPU's peak, and the wait for data."""

import time
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
        overrides = f'backbone={plan.backbone}', 'batch_size=2', f'image_height={side}', f'image_width={side}'
    C = recipe.config(*overrides)
    found, batch = [], C.batch_size
    while True:
        C = recipe.config(*overrides, f'batch_size={batch}')
        title = f'{recipe.name}: {C.backbone}, batch {batch}, {C.image_height}², {"bfloat16" if amp else "float32"}'
        work = Work(C, device, amp)
        seconds = {}
        try:
            seconds = in_turns({'ours': work.ours}, 1, device)
            seconds = in_turns({'ours': work.ours, 'plain': work.plain}, plan.rounds, device)
        except torch.OutOfMemoryError:
            work.network.zero_grad()
            torch.cuda.empty_cache()
            if seconds:
                seconds = in_turns({'ours': work.ours}, plan.rounds, device)
        found += _rows_of(title, work, seconds)
        if batch == recipe.config(*overrides).batch_size and seconds:
            found.append(_wait(plan, recipe, C, work, title))
        del work
        # Where the plain version does not fit, half the batch compares the two.
        if 'plain' in seconds or batch < 4:
            return found
        batch //= 2


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
        y = batch.y.to(device, non_blocking=True).long()
        work.ours(
            (
                image(batch.x, batch.x_inside),
                y,
                image(batch.u0, batch.u0_inside),
                image(batch.u1, batch.u1_inside),
                mask,
            )
        )

    stream = batches(data, C.batch_size, 0, C.num_workers, device.type == 'cuda')
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
