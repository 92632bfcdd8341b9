"""Whether a prepared data set is whole: every list, image and label map of it is read. Subcommand ``check``."""

import argparse
import hashlib
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from furnace.datasets.check_lists import list_findings, read_lists
from furnace.datasets.classes import read_classes
from furnace.datasets.images import VOID, read_image, read_label, require_one_size
from furnace.datasets.layout import Layout, find_layout
from furnace.datasets.lists import Item, missing_files, role
from furnace.utils.errors import RunError, UserError

OPTIONAL = ('unlabeled', 'test')  # roles of lists whose label maps need not exist
SPLITS = {'train': 'train', 'labeled': 'train', 'unlabeled': 'train', 'val': 'val', 'test': 'test', 'other': 'other'}
SHOWN = 20  # findings of a kind that are printed
CHUNK = 8  # pairs that a process gets at a time

Pair = tuple[str | None, str | None]


class Seen(NamedTuple):
    """What was found in an image and its label map."""

    wrong_image: str | None
    wrong_label: str | None
    digest: bytes | None
    """of the image's file"""
    pixels: np.ndarray | None
    """int64 (256,): pixels of each id"""


def check(dataset: Path, *, num_classes: int | None = None, workers: int | None = None, show_all: bool = False) -> int:
    """Read all of a prepared data set, and print what is wrong, one line each, and the share of each class.

    Args:
        dataset: the data root, in either layout.
        num_classes: default: of ``classes.json`` where there is one, else of the layout (19 or 21).
        workers: processes that read; 0: this one alone; default: one for each CPU.
        show_all: print every finding, not the first ``SHOWN`` of each kind.

    Returns:
        The exit status: 0 when all is well, 1 with findings.

    Raises:
        UserError: this is no data set, or a parameter is wrong.
        RunError: a process died.
    """
    root = Path(dataset)
    layout = find_layout(root)
    names = _class_names(root, layout, num_classes)
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 0:
        raise UserError(f'--workers must be 0 or more, not {workers}')
    lists, unread = read_lists(root, layout)
    pairs, missing = _pairs(lists)
    look = partial(examine, num_classes=len(names))
    seen = dict(zip(pairs, tqdm(_map(look, pairs, workers), 'checking', len(pairs), unit='image'), strict=True))
    findings = {
        'lists': [*unread, *list_findings(lists)],
        'missing files': list(_missing_findings(missing)),
        'images': [result.wrong_image for result in seen.values() if result.wrong_image],
        'label maps': [result.wrong_label for result in seen.values() if result.wrong_label],
        'images in train and val': list(_shared(lists, {pair[0]: result.digest for pair, result in seen.items()})),
    }
    for kind, lines in findings.items():
        for line in lines if show_all else lines[:SHOWN]:
            print(line)
        if len(lines) > SHOWN and not show_all:
            print(f'… and {len(lines) - SHOWN} more findings of this kind ({kind}); --all shows them')
    for line in _class_shares(lists, seen, names):
        print(line)
    total = sum(map(len, findings.values()))
    images, labels = (len(set(column) - {None}) for column in (list(zip(*pairs, strict=True)) or [(), ()]))
    print(f'{root}: {len(lists)} lists, {images} images, {labels} label maps: {total or "no"} findings')
    return 1 if total else 0


def _class_names(root: Path, layout: Layout, num_classes: int | None) -> Sequence[str]:
    path = root / 'classes.json'
    classes = read_classes(path) if path.is_file() else layout.classes
    if num_classes is None or num_classes == len(classes):
        return classes.names
    if not 1 <= num_classes <= VOID:
        raise UserError(f'--num-classes must be 1 … {VOID}, not {num_classes}')
    return [f'class {i}' for i in range(num_classes)]


def _pairs(lists: Mapping[Path, Sequence[Item]]) -> tuple[list[Pair], list[str]]:
    """Each image and label map once, in pairs; and those that should be there and are not."""
    needed, optional = set(), set()
    for path, items in lists.items():
        (optional if role(path) in OPTIONAL else needed).update((item.image, item.label) for item in items)
    optional -= needed
    missing = set(missing_files(sorted({path for pair in needed | optional for path in pair if path})))
    pairs = {
        (image if image not in missing else None, label if label not in missing else None)
        for image, label in needed | optional
    }
    with_label = {image for image, label in pairs if label}
    pairs = {(image, label) for image, label in pairs if label or (image and image not in with_label)}
    missing -= {label for _, label in optional}
    return sorted(pairs, key=lambda pair: (pair[0] or '', pair[1] or '')), sorted(missing)


def _missing_findings(missing: Iterable[str]) -> Iterator[str]:
    """One for each file, but one for a whole folder that is not there."""
    folders: dict[str, list[str]] = {}
    for path in missing:
        folders.setdefault(os.path.dirname(path), []).append(path)
    for folder, paths in folders.items():
        if os.path.isdir(folder):
            yield from (f'{path}: is missing; put it there, or take it out of the lists' for path in paths)
        else:
            yield f'{folder}: no such folder, {len(paths)} files of the lists should be in it; put it there'


def examine(pair: Pair, num_classes: int) -> Seen:
    """Read an image and its label map, or the one that is there."""
    image_path, label_path = pair
    wrong_image = wrong_label = digest = pixels = image = None
    try:
        if image_path:
            image = read_image(image_path)
            digest = hashlib.blake2b(Path(image_path).read_bytes()).digest()
    except UserError as error:
        wrong_image = f'{error} (get the image again)'
    try:
        if label_path:
            label = read_label(label_path, num_classes)
            pixels = np.bincount(label.ravel(), minlength=256)
            if image is not None:
                require_one_size(image, label, image_path, label_path)
    except UserError as error:
        wrong_label = f'{error} (make the label map again)'
    return Seen(wrong_image, wrong_label, digest, pixels)


def _map(look: partial, pairs: Sequence[Pair], workers: int) -> Iterator[Seen]:
    """The results in the order of ``pairs``."""
    if not workers:
        yield from map(look, pairs)
        return
    # A fresh interpreter each: a fork would copy this process in the middle of what its threads do.
    pool = ProcessPoolExecutor(min(workers, len(pairs) // CHUNK + 1), get_context('spawn'), cv2.setNumThreads, (0,))
    try:
        # What is ignored when they start stays so in them: Ctrl-C is for this process, which ends them.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        results = pool.map(look, pairs, chunksize=CHUNK)
        signal.signal(signal.SIGINT, handler)
        yield from results
    except BrokenProcessPool:
        raise RunError('a checking process died: is memory full? A smaller --workers needs less') from None
    finally:
        pool.shutdown(cancel_futures=True)


def _shared(lists: Mapping[Path, Sequence[Item]], digests: Mapping[str | None, bytes | None]) -> Iterator[str]:
    """Images of val that are, byte for byte, images of training too."""
    digests = {image: digest for image, digest in digests.items() if digest}
    training = {
        digests[item.image]: item.image
        for path, items in lists.items()
        if SPLITS[role(path)] == 'train'
        for item in items
        if item.image in digests
    }
    val = {item.image for path, items in lists.items() if role(path) == 'val' for item in items}
    for image in sorted(val & digests.keys()):
        if digests[image] in training:
            yield f'{image}: is in val and, as {training[digests[image]]}, in train; take it out of the lists of one'


def _class_shares(
    lists: Mapping[Path, Sequence[Item]], seen: Mapping[Pair, Seen], names: Sequence[str]
) -> Iterator[str]:
    """A table: of each class, the share of the pixels and the number of images in which it occurs, by split."""
    split_of: dict[str, str] = {}
    for path in sorted(lists, key=lambda path: list(SPLITS).index(role(path))):
        for item in lists[path]:
            split_of.setdefault(item.label, SPLITS[role(path)])
    pixels: dict[str, list[np.ndarray]] = {}
    for (_, label), result in seen.items():
        if result.pixels is not None:
            pixels.setdefault(split_of[label], []).append(result.pixels)
    if not pixels:
        return
    counts = {split: np.array(pixels[split]) for split in dict.fromkeys(SPLITS.values()) if split in pixels}
    width = max(map(len, (*names, 'void')))
    yield f'{"":{width + 5}}' + ''.join(f'{split:>18}' for split in counts)
    yield f'{"":{width + 5}}' + f'{"pixels":>10}{"images":>8}' * len(counts)
    for i, name in [*enumerate(names), (VOID, 'void')]:
        cells = (f'{n[:, i].sum() / n.sum():>10.2%}{np.count_nonzero(n[:, i]):>8}' for n in counts.values())
        yield f'{i:>3}  {name:{width}}' + ''.join(cells)


EXAMPLES = """\
Every list is read, and every image and label map that a list names. A line tells of each file that is missing, cannot
be decoded, has ids beyond the classes, or is not of its image's size; and of images that are twice in a list, in a
labelled list and its unlabelled one, or in train and in val (the same bytes). Unlabelled and test images need no label.
At the end, the share of each class of the pixels, and the number of images in which it occurs.

Exit status: 0 all is well, 1 something is not, 2 a mistake in the command.

examples:
  python -m furnace.datasets.prepare check DATA/city
  python -m furnace.datasets.prepare check DATA/pascal_voc --workers 4 --all > findings.txt
  python -m furnace.datasets.prepare check DATA/binary --num-classes 2
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """The subcommand ``check``; ``prepare`` of the parsed arguments is the function ``check``, the others its own."""
    parser = subparsers.add_parser(
        'check',
        help='read all of a prepared data set and tell what is wrong with it',
        description='Read every file of a prepared data set, in either layout, and tell what is wrong with it.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(prepare=check)
    parser.add_argument('dataset', type=Path, metavar='DATASET', help='e.g. DATA/city')
    parser.add_argument(
        '--num-classes', type=int, metavar='N', help='ids 0 … N-1 (of classes.json; else 19, or 21: VOC)'
    )
    parser.add_argument('--workers', type=int, metavar='N', help='processes that read (one a CPU); 0: this one')
    parser.add_argument('--all', dest='show_all', action='store_true', help=f'not the first {SHOWN} of each kind alone')
