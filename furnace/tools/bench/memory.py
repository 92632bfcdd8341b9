"""The memory of one step: what the graphs hold, the peak of a process, and what fits on a GPU."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from torch import Tensor

from furnace.tools.bench.measure import MIB, Row, Spread
from furnace.tools.bench.recipes import RECIPES, Plan, Recipe
from furnace.tools.bench.work import Work
from furnace.utils.memory import out_of_memory, process_memory

CARDS = (8, 16, 24, 48, 80)  # GiB
CONTEXT = 1024  # MiB that CUDA itself takes at most
BATCHES = (2, 4, 6, 8, 12, 16, 24, 32)


def rows(plan: Plan) -> Iterator[Row]:
    """What graphs hold; on a GPU also peaks, and what fits."""
    yield from _small(plan, plan.recipes[0])  # the recipes differ in the classes alone
    if not plan.small:
        for recipe in plan.recipes:
            yield from _on_gpu(recipe, plan.device)
            yield from _fits(recipe, plan.device)
            yield from _fits(recipe, plan.device, 'grad_checkpoint=True')


def _small(plan: Plan, recipe: Recipe) -> list[Row]:
    """A small batch in float32: what the graphs hold, and on the CPU the whole process."""
    side = plan.memory_side
    overrides = f'backbone={plan.backbone}', 'batch_size=2', f'image_height={side}', f'image_width={side}'
    title = f'{recipe.name}: {plan.backbone}, batch 2, {side}², float32'
    work = Work(recipe.config(*overrides, 'amp=off'), plan.device)
    held = {kind: most_saved(call, work) / MIB for kind, call in _kinds(work).items()}
    found = [_row(f'saved activations, {title}', held)]
    if plan.device.type == 'cpu' and process_memory('VmHWM') is not None:
        peaks = {}
        for kind in ('ours', 'plain'):  # a process each, as a peak cannot be taken back
            with ProcessPoolExecutor(1, get_context('spawn')) as pool:
                peaks[kind] = pool.submit(_process_peak, recipe.name, overrides, kind).result()
        found.append(_row(f'peak of the process, {title}', peaks))
    return found


def _row(what: str, values: dict[str, float]) -> Row:
    return Row('memory', what, 'MiB', *(Spread.of([values[kind]]) for kind in ('ours', 'plain')))


def _kinds(work: Work) -> dict[str, Callable[[], None]]:
    return {'ours': work.ours, 'plain': work.plain}


class _Saved:
    """A tensor that a graph holds; gone when the graph is."""

    def __init__(self, tensor: Tensor, meter: '_Meter'):
        self.tensor, self.meter = tensor, meter
        self.storage, self.size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
        meter.add(self.storage, self.size)

    def __del__(self):
        self.meter.remove(self.storage, self.size)


class _Meter:
    """Bytes of the storages that are held, each counted once; those in ``leave_out`` are not."""

    def __init__(self, leave_out: set[int]):
        self.leave_out, self.holders = leave_out, Counter()
        self.now = self.most = 0

    def add(self, storage: int, size: int) -> None:
        if not self.holders[storage] and storage not in self.leave_out:
            self.now += size
            self.most = max(self.most, self.now)
        self.holders[storage] += 1

    def remove(self, storage: int, size: int) -> None:
        self.holders[storage] -= 1
        if not self.holders[storage] and storage not in self.leave_out:
            self.now -= size


def most_saved(call: Callable[[], None], work: Work) -> int:
    """The most bytes that graphs hold at one time during ``call``, the parameters of ``work``'s networks aside."""
    call()  # makes its network
    meter = _Meter({p.untyped_storage().data_ptr() for network in work.networks() for p in network.parameters()})
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _Saved(tensor, meter), lambda saved: saved.tensor):
        call()
    return meter.most


def _process_peak(name: str, overrides: tuple[str, ...], kind: str) -> float:
    """MiB of a process that makes two steps of one kind."""
    work = Work(RECIPES[name].config(*overrides, 'amp=off'), torch.device('cpu'))
    for _ in range(2):
        _kinds(work)[kind]()
    return process_memory('VmHWM')


def cuda_peak(call: Callable[[], None], device: torch.device) -> tuple[float, float] | None:
    """MiB allocated and reserved at most during a call; None if it does not fit.

    The calls before it make the optimiser's momenta, and try kernels out: with as much memory as there is, so that this
    tells nothing of what a smaller card needs.
    """
    gc.collect()  # what was measured before
    try:
        for _ in range(2):
            call()
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return None
    return torch.cuda.max_memory_allocated(device) / MIB, torch.cuda.max_memory_reserved(device) / MIB


def _on_gpu(recipe: Recipe, device: torch.device) -> list[Row]:
    """Peaks of the recipe as it is, in bfloat16."""
    C = recipe.config('amp=bf16')
    title = f'{recipe.name}: batch {C.batch_size}, {C.image_height}², bfloat16'
    peaks = {}
    for kind in ('ours', 'plain'):
        work = Work(C, device)
        peaks[kind] = cuda_peak(_kinds(work)[kind], device)
        del work
    found = []
    for index, name in enumerate(('allocated', 'reserved')):
        spreads = [Spread.of([peaks[kind][index]]) if peaks[kind] else None for kind in ('ours', 'plain')]
        note = '' if all(peaks.values()) else '– does not fit'
        found.append(Row('memory', f'peak {name}, {title}', 'MiB', *spreads, note=note))
    return found


def _fits(recipe: Recipe, device: torch.device, *options: str) -> list[Row]:
    """The largest measured batch of the recipe's crop whose peak stays below each card's memory, less CONTEXT."""
    reserved = {}
    for batch in BATCHES:
        work = None
        try:
            work = Work(recipe.config(f'batch_size={batch}', 'amp=bf16', *options), device)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            break
        peak = cuda_peak(work.ours, device)
        del work
        if peak is None:
            break
        reserved[batch] = peak[1]
    C = recipe.config()
    found = []
    for card in CARDS:
        fitting = [batch for batch, mib in reserved.items() if mib < 1024 * card - CONTEXT]
        note = f'reserves {reserved[fitting[-1]]:.0f} MiB, CUDA itself aside' if fitting else 'none of those tried'
        found.append(
            Row(
                'memory',
                f'{recipe.name}: fits in {card} GiB at {C.image_height}², ' + ', '.join(['bfloat16', *options]),
                'batch',
                Spread.of([fitting[-1]]) if fitting else None,
                note=note,
            )
        )
    return found
