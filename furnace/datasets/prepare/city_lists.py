"""Lists of Cityscapes: the published ones, or drawn ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from furnace.datasets.lists import Item, cityscapes_items
from furnace.datasets.prepare.pairs import Pair
from furnace.datasets.splits import RATIOS, nested_split
from furnace.utils.errors import UserError

Splits = Mapping[str, Sequence[Pair]]
Lines = dict[str, list[tuple[str, str | None]]]

LABELED, UNLABELED = 'subset_train/train_aug_labeled_1-{}.txt', 'subset_train/train_aug_unlabeled_1-{}.txt'


def draw_lists(splits: Splits, seed: int) -> Lines:
    """The lines of each list by its name below config_new: nested subsets, drawn by ``nested_split``."""
    lines = {f'{split}.txt': _lines(splits[split]) for split in ('train', 'val', 'test')}
    train = splits['train']
    for r, chosen in nested_split([pair.to_image for pair in train], RATIOS, seed).items():
        for name, places in zip((LABELED, UNLABELED), chosen, strict=True):
            lines[name.format(r)] = _lines([train[i] for i in places])
    return _with_extra(lines, splits)


def read_lists(folder: Path, splits: Splits) -> Lines:
    """The lines of the published lists below ``folder``, with the labels that are there.

    Raises:
        UserError: a list is missing, or names an image or label that was not found, or an image is labelled and
            unlabelled, or of val and train.
    """
    found = {pair.to_image: pair.to_label for pairs in splits.values() for pair in pairs}
    names = ['train.txt', 'val.txt', *(['test.txt'] if (folder / 'test.txt').is_file() else [])]
    names += [name.format(r) for r in RATIOS for name in (LABELED, UNLABELED)]
    lines = {}
    for name in names:
        items = cityscapes_items('', '', folder / name)
        _check(folder / name, items, found, 'unlabeled' not in name and name != 'test.txt')
        lines[name] = [(item.image, found[item.image] if item.label else None) for item in items]
    lines.setdefault('test.txt', _lines(splits['test']))
    for r in RATIOS:
        for one, other in (LABELED.format(r), UNLABELED.format(r)), ('val.txt', LABELED.format(r)), (
            'val.txt', UNLABELED.format(r)
        ):  # fmt: skip
            common = {image for image, _ in lines[one]} & {image for image, _ in lines[other]}
            if common:
                raise UserError(f'{folder}: {len(common)} images are in {one} and in {other}: {min(common)}, …')
    return _with_extra(lines, splits)


def _lines(pairs: Sequence[Pair]) -> list[tuple[str, str | None]]:
    return [(pair.to_image, pair.to_label) for pair in pairs]


def _check(path: Path, items: Sequence[Item], found: Mapping[str, str | None], labeled: bool) -> None:
    missing = [item.image for item in items if item.image not in found]
    if missing:
        raise UserError(
            f'{path}: {len(missing)} of {len(items)} images are not in what was given: {missing[0]}, …; '
            'for a part of Cityscapes leave --lists out'
        )
    wrong = [item.name for item in items if labeled and item.label != found[item.image]]
    if wrong:
        raise UserError(f'{path}: {len(wrong)} lines name another label than the one that was found: {wrong[0]}, …')


def _with_extra(lines: Lines, splits: Splits) -> Lines:
    for r in RATIOS:
        lines[UNLABELED.format(r)] += _lines(splits['train_extra'])
    return lines
