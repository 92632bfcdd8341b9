"""Where the time of a training iteration goes: shares of its kinds of work, by PyTorch's profiler."""

import re
from collections import Counter
from collections.abc import Iterator

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from furnace.tools.bench.measure import Row, Spread, synchronize
from furnace.tools.bench.recipes import Plan
from furnace.tools.bench.step import configured
from furnace.tools.bench.work import Work
from furnace.utils.memory import out_of_memory

# The first that an operator's name matches.
KINDS = {
    'convolutions': r'conv',
    'BatchNorm': r'batch_norm',
    'SGD': r'sgd|zero_grad',
    'copies and casts': r'aten::(copy_|_to_copy|clone|contiguous)',
    'resizing': r'upsample',
    'losses, labels, confidence': r'softmax|logsumexp|nll|max|where|exp|gather|hist|index',
    'rest': r'',
}


def kind_of(operator: str) -> str:
    """One of ``KINDS``."""
    return next(kind for kind, pattern in KINDS.items() if re.search(pattern, operator, re.IGNORECASE))


def rows(plan: Plan) -> Iterator[Row]:
    """Shares of an iteration, by recipe."""
    for recipe in plan.recipes:
        yield from _shares(plan, recipe)


def _shares(plan: Plan, recipe) -> list[Row]:
    C, title = configured(plan, recipe)
    work = Work(C, plan.device)
    on_gpu = plan.device.type == 'cuda'
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    times = Counter()
    try:
        for _ in range(2):
            work.ours()
        with profile(activities=activities) as profiled:
            work.ours()
            synchronize(plan.device)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        return [Row('profile', title, '%', None, note='does not fit')]
    for event in profiled.key_averages():
        if event.device_type == DeviceType.CPU:  # an operator, with what it started on the device
            times[kind_of(event.key)] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    whole = sum(times.values())
    if not whole:
        return [Row('profile', title, '%', None, note='the profiler saw no work on the GPU')]
    note = f'of {whole / 1e6:.3g} s {"on the GPU" if on_gpu else "while profiling"}'
    return [
        Row('profile', f'{kind}, {title}', '%', Spread.of([100 * times[kind] / whole]), note=note) for kind in KINDS
    ]
