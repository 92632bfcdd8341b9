"""``prepare voc``: PASCAL VOC 2012 with the augmented labels."""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from furnace.datasets.classes import PASCAL_VOC, voc_colormap
from furnace.datasets.images import decode_label
from furnace.datasets.lists import read_lines
from furnace.datasets.prepare.pairs import CHECK, Pair, compare_counts, require_folders, write_pairs
from furnace.datasets.prepare.result import RECORD, already_there, build, require_outside, write_whole
from furnace.datasets.prepare.sbd import fetch, read_mat, require_scipy
from furnace.datasets.prepare.sources import Entry, open_sources
from furnace.datasets.splits import RATIOS, nested_split
from furnace.utils.errors import UserError

WRITTEN = ('train_aug', 'val', 'train.txt', 'val.txt', 'train_aug.txt', 'subset_train_aug', RECORD)
ARCHIVES = ('VOCtrainval_11-May-2012.tar', 'SegmentationClassAug.zip', 'benchmark.tgz')
FULL = {'train_aug': 10582, 'val': 1449, 'train': 1464}

_ID = r'(?P<id>\d{4}_\d{6})'
_IMAGES = (re.compile(rf'(?:.*/)?JPEGImages/{_ID}\.jpg'), re.compile(rf'(?:.*/)?img/{_ID}\.jpg'))
# The first that has an image's label counts: VOC's own where there is one.
_LABELS = (
    re.compile(rf'(?:.*/)?SegmentationClass/{_ID}\.png'),
    re.compile(rf'(?:.*/)?SegmentationClassAug/{_ID}\.png'),
    re.compile(rf'(?:.*/)?cls/{_ID}\.mat'),
)
_SPLIT = re.compile(r'(?:.*/)?ImageSets/Segmentation/(?P<id>train|val)\.txt')
_SUBSET = re.compile(r'(train_)?(aug|pseudoseg)_(labeled|unlabeled)_1-(16|8|4|2)\.txt')

Splits = Mapping[str, Sequence[str]]


def prepare_voc(
    src: Sequence[Path],
    dst: Path,
    *,
    download: bool = False,
    lists: Path | None = None,
    palette: bool = False,
    seed: int = 12345,
    link: bool = False,
    force: bool = False,
) -> None:
    """Bring PASCAL VOC 2012 into the layout of ``DATA/pascal_voc``, and print what it holds.

    ``train_aug`` is every image with a label that is not of VOC's val: VOC's train and all of SBD but VOC's val. What
    an interrupted call has written stays for the next one; a call that has nothing to do does nothing.

    Args:
        src: folders and archives that hold VOC's JPEGImages, SegmentationClass and ImageSets, and the augmented labels
            (SegmentationClassAug/*.png or SBD's cls/*.mat), or folders with the ARCHIVES in them; only read.
        dst: missing, empty but for a note, or an earlier result.
        download: fetch the archives of VOC and SBD to ``src``, one folder, first.
        lists: a folder subset_train_aug with the published lists; None: nested subsets are drawn.
        palette: write label maps with VOC's colours instead of grey ones.
        seed: of the drawn subsets.
        link: make symbolic links to the images instead of copies; for folders only.
        force: replace an earlier result.

    Raises:
        UserError: what is wrong with the data, the parameters or ``dst``.
        RunError: the download failed.
    """
    src, dst = [path.resolve() for path in src], dst.resolve()
    lists = lists.resolve() if lists else None
    if seed < 0:
        raise UserError(f'the seed must be 0 or more, not {seed}')
    parameters = {
        'command': 'voc', 'source': ' '.join(map(str, src)), 'lists': str(lists) if lists else None,
        'palette': palette, 'seed': seed, 'link': link,
    }  # fmt: skip
    require_outside(dst, src)
    if already_there(dst, WRITTEN, parameters, force):
        return
    if download:
        if len(src) != 1 or not src[0].is_dir():
            raise UserError('--download needs one SRC, an existing folder for the archives')
        fetch(src[0])
    with open_sources(src, ARCHIVES) as entries:
        splits, pairs, notes = _find(entries)
        if link:
            require_folders(pairs)
        subsets = _read_subsets(lists, splits) if lists else _draw_subsets(splits['train_aug'], seed)

        def write(root: Path) -> Mapping:
            colors = np.array(voc_colormap(256), np.uint8) if palette else None
            write_pairs(root, pairs, _class_ids, link, colors)
            for name, ids in [*splits.items(), *((f'subset_train_aug/{name}', ids) for name, ids in subsets.items())]:
                if ids:
                    write_whole(root / f'{name}.txt', ''.join(f'{id_}\n' for id_ in ids).encode())
            return {'counts': {'images': {split: len(ids) for split, ids in splits.items()}}}

        build(dst, WRITTEN, parameters, write, force=force, resume=True)
    print(f'{dst}:', *compare_counts({split: len(ids) for split, ids in splits.items()}, FULL), *notes, sep='\n')
    print(
        f'subset lists: those of {lists}'
        if lists
        else 'note: the subset lists were drawn and are not the published ones, which --lists takes over'
    )
    print(CHECK.format(dst))


def _find(entries: Mapping[str, Entry]) -> tuple[dict[str, list[str]], list[Pair], list[str]]:
    """The ids of each list, the images of train_aug and val, and notes."""
    images, labels = _of_forms(entries, _IMAGES), _of_forms(entries, _LABELS)
    listed = {split: _read_ids(entry) for split, entry in _of_forms(entries, (_SPLIT,)).items()}
    for found, what in (images, 'JPEGImages/*.jpg'), (labels, 'SegmentationClass/*.png'):
        if not found:
            raise UserError(f'no {what} in what was given; see --help for the files to fetch')
    for split in 'train', 'val':
        if split not in listed:
            raise UserError(f'no ImageSets/Segmentation/{split}.txt in what was given: give VOCtrainval too')
        bare = [id_ for id_ in listed[split] if id_ in images and id_ not in labels]
        if bare:
            raise UserError(f'{len(bare)} of {len(listed[split])} images of {split} have no label map: {bare[0]}, …')
    ids = images.keys() & labels.keys()
    splits = {split: [id_ for id_ in listed[split] if id_ in ids] for split in ('train', 'val')}
    splits['train_aug'] = sorted(ids - set(listed['val']))
    if not splits['train_aug']:
        raise UserError('no image for train_aug has a label map in what was given')
    pairs = [
        Pair(images[id_], labels[id_], f'{split}/image/{id_}.jpg', f'{split}/label/{id_}.png')
        for split in ('train_aug', 'val')
        for id_ in splits[split]
    ]
    if any(pair.label.where.endswith('.mat') for pair in pairs):
        require_scipy()
    notes = []
    if set(splits['train_aug']) == set(splits['train']):
        notes.append("note: train_aug is VOC's train alone: give SBD's benchmark.tgz or SegmentationClassAug too")
    if unused := len(labels.keys() - images.keys()):
        notes.append(f'note: {unused} label maps have no image')
    return splits, pairs, notes


def _of_forms(entries: Mapping[str, Entry], forms: Sequence[re.Pattern]) -> dict[str, Entry]:
    """The files whose names have one of the forms, by id; an earlier form counts before a later one."""
    found = {}
    for form in forms:
        for name, entry in entries.items():
            if match := form.fullmatch(name):
                found.setdefault(match['id'], entry)
    return found


def _read_ids(entry: Entry) -> list[str]:
    try:
        return entry.read().decode().split()
    except UnicodeDecodeError:
        raise UserError(f'{entry.where}: cannot be read as a list') from None


def _class_ids(label: Entry) -> np.ndarray:
    if label.where.endswith('.mat'):
        return read_mat(label)
    return decode_label(label.read(), label.where, len(PASCAL_VOC))


def _draw_subsets(ids: Sequence[str], seed: int) -> dict[str, list[str]]:
    return {
        f'train_aug_{kind}_1-{r}': [ids[i] for i in places]
        for r, chosen in nested_split(ids, RATIOS, seed).items()
        for kind, places in zip(('labeled', 'unlabeled'), chosen, strict=True)
    }


def _read_subsets(folder: Path, splits: Splits) -> dict[str, list[str]]:
    """The published lists by name; also the few-supervision ones, where they are there."""
    known = set(splits['train_aug'])
    names = {f'train_aug_{kind}_1-{r}.txt' for kind in ('labeled', 'unlabeled') for r in RATIOS}
    names |= {path.name for path in folder.glob('*.txt') if _SUBSET.fullmatch(path.name)}
    subsets = {}
    for name in sorted(names):
        ids = read_lines(folder / name)
        missing = [id_ for id_ in ids if id_ not in known]
        if missing:
            raise UserError(
                f'{folder / name}: {len(missing)} of {len(ids)} images are not in train_aug: {missing[0]}, …; '
                'for a part of VOC leave --lists out'
            )
        subsets[name.removesuffix('.txt')] = ids
    for r in RATIOS:
        common = set(subsets[f'train_aug_labeled_1-{r}']) & set(subsets[f'train_aug_unlabeled_1-{r}'])
        if common:
            raise UserError(f'{folder}: {len(common)} images are labelled and unlabelled for 1/{r}: {min(common)}, …')
    return subsets


EXAMPLES = """\
Fetch VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/), and the augmented labels: SBD's
benchmark.tgz (http://home.bharathh.info/pubs/codes/SBD/download.html; needs scipy) or a SegmentationClassAug.zip. They
need not be unpacked; SRC may also be folders that hold JPEGImages, SegmentationClass, ImageSets, SegmentationClassAug
or cls, or the folder with the archives. After an interruption the same command goes on where it stopped.

examples:
  python -m furnace.datasets.prepare voc ~/VOCtrainval_11-May-2012.tar ~/benchmark.tgz DATA/pascal_voc
  python -m furnace.datasets.prepare voc ~/VOCdevkit ~/SegmentationClassAug DATA/pascal_voc --link
  python -m furnace.datasets.prepare voc --download ~/downloads DATA/pascal_voc
  python -m furnace.datasets.prepare voc ~/downloads DATA/pascal_voc --lists CPS/DATA/pascal_voc/subset_train_aug
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """The command line of ``prepare_voc``."""
    parser = subparsers.add_parser(
        'voc',
        help='PASCAL VOC 2012 with the augmented labels',
        description='Bring PASCAL VOC 2012 into the layout of DST.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(prepare=prepare_voc)
    parser.add_argument('src', type=Path, nargs='+', metavar='SRC', help='folders and archives as downloaded')
    parser.add_argument('dst', type=Path, metavar='DST', help='folder to make: DATA/pascal_voc')
    parser.add_argument('--download', action='store_true', help='fetch the archives of VOC and SBD to SRC first')
    parser.add_argument('--lists', type=Path, metavar='DIR', help="take over CPS's lists: its subset_train_aug")
    parser.add_argument('--palette', action='store_true', help="label maps with VOC's colours instead of grey ones")
    parser.add_argument('--seed', type=int, default=12345, help='of the subsets drawn without --lists (default: 12345)')
    parser.add_argument('--link', action='store_true', help='link to the images instead of copying them')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in DST')
