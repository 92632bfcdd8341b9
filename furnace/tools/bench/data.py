"""The cost of a training sample: beside decoding its files, against the plain version, and with growing lists."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import cv2
import torch

from furnace.datasets.cache import Cache
from furnace.datasets.lists import Item
from furnace.datasets.sampling import LABELED
from furnace.datasets.train_set import TrainSet
from furnace.tools.bench import plain
from furnace.tools.bench.measure import Row, Spread, in_turns
from furnace.tools.bench.recipes import VOC, Plan, Recipe, make_images
from furnace.utils.errors import UserError

SMALL = replace(VOC, image_size=(64, 64), suffix='.png')


def rows(plan: Plan) -> Iterator[Row]:
    """A sample's cost, by recipe, and with growing lists."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # as in a loader worker
    try:
        for recipe in plan.recipes:
            yield from _samples(plan, recipe)
        yield from _long_lists(plan)
    finally:
        cv2.setNumThreads(threads)


def _samples(plan: Plan, recipe: Recipe) -> list[Row]:
    """A labelled and an unlabelled sample, mean over the images and the recipe's scales."""
    C, items = recipe.config(), plan.items(recipe)
    (tiny,), number = make_images(plan.folder / 'small', SMALL, 1), len(items)
    cache = Cache(plan.folder / 'cache', C.num_classes)
    cache.build(cache.missing(items, None), show=False)
    calls = {
        'decode x': lambda: [_decode(item.image, item.label) for item in items],
        'decode u': lambda: [_decode(item.image) for item in items],
        'ours x': _each([_ours(items, None, C, scale) for scale in C.train_scale_array]),
        'ours tiny x': _each([_ours([tiny] * number, None, C, scale) for scale in C.train_scale_array]),
        'ours tiny x, u': _each([_ours([tiny] * number, items, C, scale) for scale in C.train_scale_array]),
        'plain x': _each([_plain(items, True, C, scale) for scale in C.train_scale_array]),
        'plain u': _each([_plain(items, False, C, scale) for scale in C.train_scale_array]),
        'cached x': _each([_ours(items, None, C, scale, cache) for scale in C.train_scale_array]),
        'cached tiny x, u': _each([_ours([tiny] * number, items, C, scale, cache) for scale in C.train_scale_array]),
    }
    seconds = in_turns(calls, plan.rounds, torch.device('cpu'), warm_up=False)
    samples = number * len(C.train_scale_array)
    # A position of TrainSet has a labelled image too: a tiny one, whose cost is taken off.
    for kind in 'ours', 'cached':
        pairs = zip(seconds[f'{kind} tiny x, u'], seconds['ours tiny x'], strict=True)
        seconds[f'{kind} u'] = [both - x for both, x in pairs]
    height, width = cv2.imread(items[0].image).shape[:2]
    kilobytes = sum(Path(item.image).stat().st_size for item in items) / number / 1000
    note = f'{plan.described}, {kilobytes:.0f} kB'
    return [
        Row(
            'data',
            f'{recipe.name}: {kind} sample{source}, {width}x{height}',
            'ms',
            Spread.of(1e3 * value / samples for value in seconds[f'{way} {stream}']),
            Spread.of(1e3 * value / samples for value in seconds[f'plain {stream}']),
            {'cv2.imread': Spread.of(1e3 * value / number for value in seconds[f'decode {stream}'])},
            note,
        )
        for way, source in (('ours', ''), ('cached', ' from the cache'))
        for kind, stream in (('labelled', 'x'), ('unlabelled', 'u'))
    ]


def _decode(image: str, label: str | None = None) -> None:
    cv2.imread(image, cv2.IMREAD_COLOR)
    if label is not None:
        cv2.imread(label, cv2.IMREAD_UNCHANGED)


def _ours(items, unlabeled, C, scale, cache: Cache | None = None) -> TrainSet:
    size = (C.image_height, C.image_width)
    return TrainSet(items, unlabeled, C.num_classes, size, (scale,), len(items), C.seed, False, cache)


def _plain(items, labels: bool, C, scale):
    pairs = [(item.image, item.label if labels else None) for item in items]
    size = (C.image_height, C.image_width)
    return plain.load('data').PlainSet(pairs, size, (scale,), C.image_mean, C.image_std, len(items))


def _each(datasets: list, positions: Sequence[int] | None = None) -> Callable[[], None]:
    """A call that makes the samples of the data sets at ``positions``, or all."""

    def call():
        random.seed(0)  # the plain version's
        for dataset in datasets:
            for position in positions or range(len(dataset)):
                _checked(dataset[position])

    return call


def _checked(sample):
    if isinstance(sample, UserError):
        raise sample
    return sample


def _long_lists(plan: Plan) -> list[Row]:
    """A sample of a small image, so that the cost of its list shows, and the order of an epoch, made once."""
    (item,) = make_images(plan.folder / 'small', SMALL, 1)
    C = SMALL.config('image_height=64', 'image_width=64')
    found = []
    epochs = count(1)  # the order of the present one is kept
    for length in plan.list_lengths:
        items: list[Item] = [item] * length
        ours, reference = _ours(items, None, C, 1.0), _plain(items, True, C, 1.0)
        positions = range(0, length, max(1, length // 5))
        both = _ours(items, items, C, 1.0)
        calls = {
            'ours': _each([ours], positions),
            'plain': _each([reference], positions),
            'epoch': lambda dataset=both: dataset.item(LABELED, next(epochs) * len(dataset)),
        }
        seconds = in_turns(calls, plan.rounds, torch.device('cpu'))
        ours_spread, plain_spread = (
            Spread.of(1e3 * value / len(positions) for value in seconds[kind]) for kind in ('ours', 'plain')
        )
        found.append(Row('data', f'64x64 labelled sample, list of {length}', 'ms', ours_spread, plain_spread))
        epoch = Spread.of(1e3 * value for value in seconds['epoch'])
        found.append(Row('data', f'order of three streams, lists of {length}', 'ms', epoch, note='once an epoch'))
    return found
