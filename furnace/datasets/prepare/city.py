"""``prepare city``: Cityscapes, from its own leftImg8bit and gtFine."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from furnace.datasets.images import decode_label
from furnace.datasets.prepare.city_lists import draw_lists, read_lists
from furnace.datasets.prepare.pairs import CHECK, Pair, compare_counts, require_folders, write_pairs
from furnace.datasets.prepare.result import RECORD, already_there, build, require_outside
from furnace.datasets.prepare.sources import Entry, open_sources
from furnace.datasets.splits import write_list
from furnace.utils.errors import UserError

WRITTEN = ('images', 'segmentation', 'config_new', RECORD)
ARCHIVES = ('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip', 'leftImg8bit_trainextra.zip')
FULL = {'train': 2975, 'val': 500, 'test': 1525}

# Train ids 0 … 18 and the label ids they stand for (cityscapesScripts, helpers/labels.py); all other ids are void.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
NUM_LABEL_IDS = 34
TO_TRAIN_ID = np.full(256, 255, np.uint8)
TO_TRAIN_ID[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))

_STEM = r'(?P<stem>[A-Za-z-]+_\d{6}_\d{6})'
_IMAGE = re.compile(rf'(?:.*/)?leftImg8bit/(?P<split>train|val|test|train_extra)/[^/]+/{_STEM}_leftImg8bit\.png')
_LABEL = re.compile(rf'(?:.*/)?gtFine/(?P<split>train|val)/[^/]+/{_STEM}_gtFine_labelIds\.png')


def prepare_city(
    src: Sequence[Path],
    dst: Path,
    *,
    lists: Path | None = None,
    seed: int = 12345,
    link: bool = False,
    force: bool = False,
) -> None:
    """Bring Cityscapes into the layout of ``DATA/city``, and print what it holds.

    Label ids become the 19 train ids and 255. What an interrupted call has written stays for the next one; a call that
    has nothing to do does nothing. Images of leftImg8bit/train_extra come into the unlabelled lists alone.

    Args:
        src: folders and archives that hold leftImg8bit/{split}/{city}/… and gtFine/{split}/{city}/…, or folders with
            the ARCHIVES in them; only read.
        dst: missing, empty but for a note, or an earlier result.
        lists: a folder config_new with the published lists; None: nested subsets are drawn.
        seed: of the drawn subsets.
        link: make symbolic links to the images instead of copies; for folders only.
        force: replace an earlier result.

    Raises:
        UserError: what is wrong with the data, the parameters or ``dst``.
    """
    src, dst = [path.resolve() for path in src], dst.resolve()
    lists = lists.resolve() if lists else None
    if seed < 0:
        raise UserError(f'the seed must be 0 or more, not {seed}')
    parameters = {
        'command': 'city', 'source': ' '.join(map(str, src)), 'lists': str(lists) if lists else None,
        'seed': seed, 'link': link,
    }  # fmt: skip
    require_outside(dst, src)
    if already_there(dst, WRITTEN, parameters, force):
        return
    with open_sources(src, ARCHIVES) as entries:
        splits, notes = _find(entries)
        pairs = [pair for pairs in splits.values() for pair in pairs]
        if link:
            require_folders(pairs)
        lines = read_lists(lists, splits) if lists else draw_lists(splits, seed)

        def write(root: Path) -> Mapping:
            write_pairs(root, pairs, _train_ids, link)
            for name, content in lines.items():
                if not content:
                    continue
                (root / 'config_new' / name).parent.mkdir(parents=True, exist_ok=True)
                write_list(root / 'config_new' / name, content)
            return {'counts': {'images': {split: len(pairs) for split, pairs in splits.items()}}}

        build(dst, WRITTEN, parameters, write, force=force, resume=True)
    print(f'{dst}:', *compare_counts({split: len(pairs) for split, pairs in splits.items()}, FULL), *notes, sep='\n')
    print(
        f'lists: those of {lists}'
        if lists
        else 'note: the subset lists were drawn and are not the published ones, which --lists takes over'
    )
    print(CHECK.format(dst))


def _find(entries: Mapping[str, Entry]) -> tuple[dict[str, list[Pair]], list[str]]:
    images, labels = (
        {
            (match['split'], match['stem']): entry
            for name, entry in reversed(entries.items())  # the first of two counts
            if (match := form.fullmatch(name))
        }
        for form in (_IMAGE, _LABEL)
    )
    for found, what in (images, 'leftImg8bit/{train,val,test}/CITY/…_leftImg8bit.png'), (
        labels, 'gtFine/{train,val}/CITY/…_gtFine_labelIds.png'
    ):  # fmt: skip
        if not found:
            raise UserError(f'no {what} in what was given; see --help for the files to fetch')
    splits = {split: [] for split in (*FULL, 'train_extra')}
    for (split, stem), image in sorted(images.items()):
        label = labels.get((split, stem))
        to_label = f'segmentation/{split}/{stem}_gtFine.png' if label else None
        splits[split].append(Pair(image, label, f'images/{split}/{stem}.png', to_label))
    for split in 'train', 'val':
        bare = [pair.image.where for pair in splits[split] if not pair.label]
        if bare:
            raise UserError(f'{len(bare)} of {len(splits[split])} images of {split} have no gtFine label: {bare[0]}, …')
    if not splits['train']:
        raise UserError('no images for train in what was given')
    notes = []
    if unused := len(labels.keys() - images.keys()):
        notes.append(f'note: {unused} label maps have no image')
    if splits['train_extra']:
        notes.append(f'train_extra: {len(splits["train_extra"])} images without labels, in the unlabelled lists')
    return splits, notes


def _train_ids(label: Entry) -> np.ndarray:
    return TO_TRAIN_ID[decode_label(label.read(), label.where, NUM_LABEL_IDS)]


EXAMPLES = """\
Fetch from https://www.cityscapes-dataset.com (registration): leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip.
They need not be unpacked; SRC may also be the folders leftImg8bit and gtFine, or the folder that holds either.
leftImg8bit_trainextra.zip adds unlabelled images. After an interruption the same command goes on where it stopped.

examples:
  python -m furnace.datasets.prepare city ~/leftImg8bit_trainvaltest.zip ~/gtFine_trainvaltest.zip DATA/city
  python -m furnace.datasets.prepare city ~/downloads DATA/city --lists CPS/DATA/city/config_new
  python -m furnace.datasets.prepare city ~/cityscapes DATA/city --link            (links to the images, no copies)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """The command line of ``prepare_city``."""
    parser = subparsers.add_parser(
        'city',
        help='Cityscapes, from leftImg8bit and gtFine',
        description='Bring Cityscapes into the layout of DST.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(prepare=prepare_city)
    parser.add_argument('src', type=Path, nargs='+', metavar='SRC', help='folders and archives as downloaded')
    parser.add_argument('dst', type=Path, metavar='DST', help='folder to make: DATA/city')
    parser.add_argument('--lists', type=Path, metavar='DIR', help="take over CPS's lists: its DATA/city/config_new")
    parser.add_argument('--seed', type=int, default=12345, help='of the subsets drawn without --lists (default: 12345)')
    parser.add_argument('--link', action='store_true', help='link to the images instead of copying them')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in DST')
