"""Seconds of a training step from memory, its arithmetic against the GPU's peak, and the wait for data."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch.utils.flop_counter import FlopCounterMode

from furnace.datasets.cache import Cache
from furnace.datasets.train_set import TrainSet
from furnace.engine.config import Config
from furnace.engine.distributed import ALONE
from furnace.engine.feed import Feed
from furnace.engine.precision import choose_amp
from furnace.tools.bench.measure import Row, Spread, in_turns, synchronize
from furnace.tools.bench.recipes import Plan, Recipe
from furnace.tools.bench.work import Work
from furnace.utils.memory import out_of_memory

# Dense bfloat16 of the makers' data sheets, FLOP/s. Other forms of these chips (PCIe, NVL) have other peaks.
PEAKS = {'H100 80GB HBM3': 989e12, 'H200': 989e12, 'A100': 312e12}


def rows(plan: Plan) -> Iterator[Row]:
    """Seconds of an iteration, by recipe, and the wait for data."""
    for recipe in plan.recipes:
        yield from _steps(plan, recipe)


def peak_of(device_name: str) -> float | None:
    """FLOP/s in bfloat16, if it is known for this device."""
    if 'NVL' in device_name or ('PCIe' in device_name and 'A100' not in device_name):
        return None
    return next((peak for name, peak in PEAKS.items() if name in device_name), None)


def configured(plan: Plan, recipe: Recipe, batch: int | None = None) -> tuple[Config, str]:
    """The iteration that is measured, and its name: the recipe's own, or a small one.

    Args:
        batch: images, instead of those of the recipe.
    """
    overrides = ['amp=auto']
    if plan.device.type != 'cuda':
        overrides = ['amp=off']
    if plan.small:
        side, batch = plan.step_side, batch or 2
        overrides += [f'backbone={plan.backbone}', f'image_height={side}', f'image_width={side}']
    C = recipe.config(*overrides, *([f'batch_size={batch}'] if batch else []))
    kind = {'bf16': 'bfloat16', 'off': 'float32'}[choose_amp(C.amp, plan.device)]
    return C, f'{recipe.name}: {C.backbone}, batch {C.batch_size}, {C.image_height}², {kind}'


def _steps(plan: Plan, recipe: Recipe) -> list[Row]:
    device, found, batch = plan.device, [], None
    on_gpu = device.type == 'cuda'
    while True:
        C, title = configured(plan, recipe, batch)
        batch = C.batch_size
        work = Work(C, device)
        calls = {'ours': work.ours, 'plain': work.plain}
        compiled = None
        if on_gpu:
            torch._dynamo.reset()  # else what was compiled for another size is made to fit both
            compiled = Work(Config({**C, 'compile': True}), device)
            calls['torch.compile'] = compiled.ours
        seconds = _seconds(calls, plan.rounds, device)
        if seconds and compiled and compiled.warnings:
            del seconds['torch.compile']
            print(compiled.warnings[0], file=sys.stderr)
        if seconds is None:
            seconds = _seconds({'ours': work.ours}, plan.rounds, device) or {}
        if seconds and not found:
            found += _waits(plan, recipe, work, title)
        found += _rows_of(title, work, seconds)
        del work, compiled, calls
        # Where the plain version does not fit, half the batch compares the two.
        if 'plain' in seconds or batch < 4:
            return found
        batch //= 2


def _seconds(calls: dict[str, Callable], rounds: int, device: torch.device) -> dict[str, list[float]] | None:
    """As ``in_turns``; None where one of the calls does not fit in memory."""
    try:
        return in_turns(calls, rounds, device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return None  # and what the failed call held is free again


def _rows_of(title: str, work: Work, seconds: dict[str, list[float]]) -> list[Row]:
    spreads = {kind: Spread.of(values) for kind, values in seconds.items()}
    ours, plain = spreads.pop('ours', None), spreads.pop('plain', None)
    if ours is None:
        return [Row('step', title, 's', None, note='does not fit')]
    with FlopCounterMode(display=False) as counter:
        work.ours()
    flops = counter.get_total_flops()
    note = f'{flops / 1e12:.3g} TFLOP' + ('' if plain else '; – does not fit')
    found = [Row('step', title, 's', ours, plain, spreads, note)]
    name = torch.cuda.get_device_name(work.device) if work.device.type == 'cuda' else ''
    if peak := peak_of(name):
        shares = [
            Spread.of(100 * flops / (peak * s) for s in seconds[kind]) for kind in ('ours', 'plain') if kind in seconds
        ]
        note = f'of {peak / 1e12:.0f} TFLOP/s, dense bfloat16'
        found.append(Row('step', f'model FLOP utilisation, {title}', '%', *shares, note=note))
    return found


def _waits(plan: Plan, recipe: Recipe, work: Work, title: str) -> list[Row]:
    """How much longer an iteration takes with loader workers than from memory, as a share of it."""
    items, C, device = plan.items(recipe), work.config, plan.device
    cache = Cache(plan.folder / 'cache', C.num_classes)
    cache.build(cache.missing(items, None), show=False)
    found = []
    for kind, source in ('decoding', None), ('from the cache', cache):
        size, length = (C.image_height, C.image_width), (plan.waits + 2) * C.batch_size
        data = TrainSet(items, items, C.num_classes, size, C.train_scale_array, length, C.seed, cache=source)
        workers = min(C.num_workers, os.cpu_count())
        feed = Feed(Config({**C, 'num_workers': workers}), data, device, ALONE)
        stream = feed.batches(0, plan.waits + 2)
        for batch in islice(stream, 2):  # they fill the queues
            work.trainer.iterate(batch)
        synchronize(device)
        start = time.perf_counter()
        for batch in stream:
            work.trainer.iterate(batch)
        synchronize(device)
        loaded = (time.perf_counter() - start) / plan.waits
        start = time.perf_counter()
        for _ in range(plan.waits):
            work.trainer.iterate(batch)
        synchronize(device)
        memory = (time.perf_counter() - start) / plan.waits
        share = Spread.of([max(0.0, 100 * (1 - memory / loaded))])
        note = f'{workers} workers, {plan.waits} iterations: {loaded:.3g} s each, {memory:.3g} s from memory'
        what = f'share of an iteration that waits for data, {kind}, {title}'
        found.append(Row('step', what, '%', share, note=note))
    return found
