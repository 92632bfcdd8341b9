"""The labelled and unlabelled lists of a prepared data set: chosen anew, or imported. Subcommand ``splits``."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from furnace.datasets.import_lists import published_lists, require_disjoint
from furnace.datasets.layout import Layout, find_layout
from furnace.datasets.lists import missing_files, place_lists, read_lines, role
from furnace.datasets.splits import RATIOS, counted_split, divide, nested_split
from furnace.utils.errors import UserError, some


def make_splits(
    dst: Path,
    *,
    source: Path | None = None,
    ratios: Sequence[int] | None = None,
    counts: Sequence[int] | None = None,
    seed: int | None = None,
    by_sequence: bool = False,
    force: bool = False,
) -> None:
    """Write labelled and unlabelled lists of the data set in ``dst``, and print what they hold.

    Args:
        dst: a prepared data set in either layout; for a choice of its own with its list of all training images.
        source: folder of published lists to import; nothing is chosen then. See ``published_lists``.
        ratios: 1/r of the training images that have a label, rounded up, are labelled; default ``RATIOS``.
        counts: numbers of labelled images, instead of ratios.
        seed: of the choice; default 12345.
        by_sequence: spread the labelled images evenly over video sequences; ``nested_split`` for ratios,
            ``counted_split`` for counts. Otherwise they are drawn at random (``counted_split``).
        force: replace lists that are there with other lines; import lists that overlap.

    Raises:
        UserError: what is wrong with ``dst``, the parameters or the lists; nothing has been written then.
    """
    dst = Path(dst)
    layout = find_layout(dst)
    notes: list[str] = []
    if source is None:
        lists = _choose(dst, layout, ratios or (), counts or (), 12345 if seed is None else seed, by_sequence)
    elif ratios or counts or by_sequence or seed is not None:
        raise UserError('--from imports a choice that others made: it goes without --ratios, --counts, --seed and such')
    else:
        lists, notes = published_lists(Path(source), layout, dst)
        if not force:
            require_disjoint(lists, layout, dst)
    written = place_lists(lists, force)
    done = f'{len(written)} of {len(lists)} lists written' if written else 'the lists are there: nothing to do'
    print(f'{dst}: {done}')
    print('\n'.join([*_report(dst, layout, [path for path in lists if role(path) == 'labeled']), *notes]))


def _choose(
    dst: Path, layout: Layout, ratios: Sequence[int], counts: Sequence[int], seed: int, by_sequence: bool
) -> dict[Path, list[str]]:
    train = dst / layout.train
    lines, items = read_lines(train), layout.items(dst, train)
    if seed < 0:
        raise UserError(f'the seed must be 0 or more, not {seed}')
    twice = [name for name, times in Counter(lines).items() if times > 1]
    if twice:
        raise UserError(f'{train}: {len(twice)} lines are there more than once: {some(twice)}; remove the copies')
    ratios = () if counts else ratios or RATIOS
    if min(ratios, default=1) < 1:
        raise UserError(f'ratios are 1 or more (2 means one half), not {min(ratios)}')
    with_label = [i for i, item in enumerate(items) if item.label is not None]
    names = [items[i].image for i in with_label]
    if by_sequence and ratios:
        chosen = {f'1-{r}': labeled for r, (labeled, _) in nested_split(names, ratios, seed).items()}
    else:
        tags = {f'1-{r}': -(-len(names) // r) for r in ratios} or {str(n): n for n in counts}
        split = counted_split(names, list(tags.values()), seed, by_sequence)
        chosen = {tag: split[n] for tag, n in tags.items()}
    lists = {}
    for tag, places in chosen.items():
        labeled, unlabeled = divide(lines, [with_label[i] for i in places])
        if not unlabeled:
            raise UserError(f'{tag}: all {len(lines)} images of {train} would be labelled and none unlabelled')
        lists[dst / layout.subsets / f'train_aug_labeled_{tag}.txt'] = labeled
        lists[dst / layout.subsets / f'train_aug_unlabeled_{tag}.txt'] = unlabeled
    return lists


def _report(dst: Path, layout: Layout, labeled_lists: Sequence[Path]) -> Iterator[str]:
    """A table of the pairs of lists, and the names of what they have too much or too little."""
    train = dst / layout.train
    known = {item.image for item in layout.items(dst, train)} if train.is_file() else None
    yield f'{train} is not there: no images to compare with' if known is None else f'of {len(known)} images in {train}:'
    width = max(len(path.stem) for path in labeled_lists)
    yield f'{"":{width}}  labelled  unlabelled  in both  in neither  missing'
    notes, all_missing = [], set()
    for path in labeled_lists:
        other = path.with_name(path.name.replace('labeled', 'unlabeled'))
        labeled = {item.image: item.label for item in layout.items(dst, path)}
        unlabeled = {item.image for item in layout.items(dst, other)} if other.is_file() else set()
        images = labeled.keys() | unlabeled
        both = labeled.keys() & unlabeled
        absent = {None, *missing_files([*images, *filter(None, labeled.values())])}
        missing = {image for image in images if image in absent or labeled.get(image, image) in absent}
        neither = '-' if known is None else len(known - images)
        yield f'{path.stem:{width}}{len(labeled):>10}{len(unlabeled):>12}{len(both):>9}{neither:>12}{len(missing):>9}'
        all_missing |= missing
        for what, odd in (f'in {other.name} too', both), (f'not in {train.name}', images - (known or images)):
            if odd:
                notes.append(f'note: {path.name}: {len(odd)} images are {what}: {some(sorted(odd))}')
    if all_missing:
        notes.append(f'note: {len(all_missing)} images, or their labels, are missing: {some(sorted(all_missing))}')
    yield from notes


EXAMPLES = """\
DST holds lists as Cityscapes has them (config_new/train.txt) or as VOC has them (train_aug.txt). Written are
train_aug_{labeled,unlabeled}_1-R.txt for a ratio 1/R, ..._N.txt for a count N, in config_new/subset_train or
subset_train_aug. The labelled images of a smaller list are among those of every larger one. Lists that are there
already are kept where they say the same; where they say something else, nothing is written without --force.

examples:
  python -m furnace.datasets.prepare splits DATA/city                            (1/16, 1/8, 1/4 and 1/2, at random)
  python -m furnace.datasets.prepare splits DATA/city --ratios 30 --seed 1
  python -m furnace.datasets.prepare splits DATA/roads --ratios 1                (all labels; other images have none)
  python -m furnace.datasets.prepare splits DATA/pascal_voc --counts 92 183 366
  python -m furnace.datasets.prepare splits DATA/camvid --by-sequence --force    (as "prepare folder" makes them)
  python -m furnace.datasets.prepare splits DATA/city --from TorchSemiSeg/DATA/city/config_new
  python -m furnace.datasets.prepare splits DATA/pascal_voc --from UniMatch/splits/pascal

training with lists for a count:
  python train.py train_source=LABELED.txt unsup_source=UNLABELED.txt num_unsup_imgs=LINES nepochs=EPOCHS
  (LINES: how many UNLABELED.txt has; the length of an epoch follows from it)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """The subcommand ``splits``; ``prepare`` of the parsed arguments is ``make_splits``, the others are its own."""
    parser = subparsers.add_parser(
        'splits',
        help='labelled and unlabelled lists: chosen anew, or published ones',
        description='Choose which training images of DST count as labelled, or import lists that others published.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(prepare=make_splits)
    parser.add_argument('dst', type=Path, metavar='DST', help='a prepared data set, e.g. DATA/city')
    size = parser.add_mutually_exclusive_group()
    size.add_argument('--ratios', type=int, nargs='+', metavar='R', help='label 1/R of the images (16 8 4 2)')
    size.add_argument('--counts', type=int, nargs='+', metavar='N', help='label N images')
    parser.add_argument('--seed', type=int, help='of the choice (12345)')
    parser.add_argument('--by-sequence', action='store_true', help='spread evenly over video sequences, not at random')
    parser.add_argument('--from', dest='source', type=Path, metavar='DIR', help='import the lists in DIR instead')
    parser.add_argument('--force', action='store_true', help='replace other lists; import lists that overlap')
