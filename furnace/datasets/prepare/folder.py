"""``prepare folder``: any folder of images and label maps. Everything is checked before anything is written."""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from furnace.datasets.classes import Classes, read_classes, voc_colormap
from furnace.datasets.find import Splits, find_frames
from furnace.datasets.images import VOID, image_size, read_label
from furnace.datasets.prepare.result import RECORD, already_there, build, write_json
from furnace.datasets.splits import Pair, write_lists
from furnace.utils.errors import UserError

WRITTEN = ('images', 'segmentation', 'config_new', 'classes.json', RECORD)


def prepare_folder(
    src: Path,
    dst: Path,
    *,
    images: str = 'images',
    labels: str = 'labels',
    classes: Path | None = None,
    val_share: float | None = None,
    seed: int = 12345,
    link: bool = False,
    force: bool = False,
) -> None:
    """Bring any folder of images and label maps into this project's layout in ``dst``, and print what it holds.

    Written are ``images/{split}/…``, ``segmentation/{split}/….png`` (one 8-bit channel of ids, void 255),
    ``classes.json``, the lists of ``splits.write_lists`` and ``prepared.json``, which records how. They are built in a
    temporary folder beside ``dst`` and moved in at the end; ``src`` is only read. A second call with the same
    parameters does nothing.

    Args:
        src: holds the folders ``images`` and ``labels``, with train and val (and test) in each; see ``find_frames``.
        dst: missing, empty but for a note, or an earlier result.
        images, labels: names of the two folders, relative to ``src``.
        classes: a file as ``read_classes`` reads it, with an optional "ignore_index"; default ``src/classes.json``,
            and where that is missing, "class 0", "class 1", … up to the highest id met, in PASCAL VOC's colours.
        val_share: share of each sequence that becomes val, for images without train and val folders.
        seed: of the labelled subsets.
        link: make symbolic links to the images instead of copies.
        force: replace an earlier result.

    Raises:
        UserError: what is wrong with the data, the parameters or ``dst``; nothing has been written then.
    """
    src, dst = Path(src).resolve(), Path(dst).resolve()
    classes_path = Path(classes).resolve() if classes else src / 'classes.json'
    if classes and not classes_path.is_file():
        raise UserError(f'{classes_path}: no such file')
    if seed < 0:
        raise UserError(f'the seed must be 0 or more, not {seed}')
    parameters = {
        'source': str(src), 'images': images, 'labels': labels,
        'classes': str(classes_path) if classes_path.is_file() else None,
        'val_share': val_share, 'seed': seed, 'link': link,
    }  # fmt: skip
    if dst == src or src in dst.parents:
        raise UserError(f'{dst} is inside {src}: the source is not written to, give another folder')
    if already_there(dst, WRITTEN, parameters, force):
        return

    splits, notes = find_frames(src / images, src / labels, val_share)
    known, ignore_index = _read_classes(classes_path) if classes_path.is_file() else (None, VOID)
    pixels = _check(splits, known, ignore_index)
    found = known or _default_classes(pixels)
    labeled = {}

    def write(root: Path) -> dict:
        pairs = _write_frames(root, splits, ignore_index, link)
        labeled.update(write_lists(root, pairs, seed))
        write_json(root / 'classes.json', {'names': found.names, 'colors': found.colors, 'ignore_index': VOID})
        return {'counts': {'images': {split: len(frames) for split, frames in splits.items()}, 'labeled': labeled}}

    build(dst, WRITTEN, {'command': 'folder', **parameters}, write)
    print('\n'.join([*_report(dst, splits, labeled, found, pixels), *notes]))


def _read_classes(path: Path) -> tuple[Classes, int]:
    classes = read_classes(path)
    ignore_index = json.loads(path.read_text(encoding='utf-8')).get('ignore_index', VOID)
    if len(classes) > VOID:
        raise UserError(f'{path}: {len(classes)} classes; ids have 8 bits and {VOID} is void, so {VOID} at most')
    if type(ignore_index) is not int or not len(classes) <= ignore_index <= VOID:
        raise UserError(f'{path}: ignore_index must be an id of no class, {len(classes)} … {VOID}, not {ignore_index}')
    return classes, ignore_index


def _default_classes(pixels: Mapping[str, np.ndarray]) -> Classes:
    """Numbered classes up to the highest id met in any split."""
    met = np.flatnonzero(sum(pixels.values())[:VOID])
    if met.size == 0 or met[-1] == 0:
        raise UserError('the label maps hold fewer than two classes; are they masks with 255 (here void) for a class?')
    number = int(met[-1]) + 1
    return Classes(tuple(f'class {i}' for i in range(number)), voc_colormap(number))


def _check(splits: Splits, classes: Classes | None, ignore_index: int) -> dict[str, np.ndarray]:
    """Read every label map and every image's size. Returns int64 (256,) for each split: pixels of each id, void 255."""
    allowed = np.arange(256) < (len(classes) if classes else VOID)
    allowed[ignore_index] = True
    pixels = {split: np.zeros(256, np.int64) for split in splits}
    with tqdm(total=sum(map(len, splits.values())), desc='checking', unit='image') as bar:
        for split, frames in splits.items():
            for image, label, _ in frames:
                size = image_size(image)
                if label is not None:
                    pixels[split] += _count_ids(image, label, size, allowed)
                bar.update()
    for counts in pixels.values():  # as they will be written
        counts[[ignore_index, VOID]] = counts[[VOID, ignore_index]]
    return pixels


def _count_ids(image: Path, label: Path, size: tuple[int, int], allowed: np.ndarray) -> np.ndarray:
    ids = read_label(label, 256)
    if ids.shape[::-1] != size:
        raise UserError(f'{label} is {ids.shape[1]}x{ids.shape[0]} pixels, its image {image} is {size[0]}x{size[1]}')
    counts = np.bincount(ids.ravel(), minlength=256)
    wrong = np.flatnonzero((counts > 0) & ~allowed)
    if wrong.size:
        names = ', '.join(map(str, wrong[:8])) + (', …' if wrong.size > 8 else '')
        raise UserError(
            f'{label}: ids {names} are neither classes nor the ignore index: label ids instead of train ids?'
        )
    return counts


def _write_frames(root: Path, splits: Splits, ignore_index: int, link: bool) -> dict[str, list[Pair]]:
    """Images and label maps below ``root``. Returns their paths as ``write_lists`` takes them."""
    pairs = {}
    with tqdm(total=sum(map(len, splits.values())), desc='writing', unit='image') as bar:
        for split, frames in splits.items():
            pairs[split] = []
            for image, label, name in frames:
                to_image = f'images/{split}/{name}{image.suffix}'
                to_label = f'segmentation/{split}/{name}.png' if label else None
                (root / to_image).parent.mkdir(parents=True, exist_ok=True)
                if link:
                    (root / to_image).symlink_to(image.resolve())
                else:
                    shutil.copy2(image, root / to_image)
                if label and to_label:
                    (root / to_label).parent.mkdir(parents=True, exist_ok=True)
                    ids = read_label(label, 256)
                    ids[ids == ignore_index] = VOID
                    Image.fromarray(ids).save(root / to_label)
                pairs[split].append((to_image, to_label))
                bar.update()
    return pairs


def _report(
    dst: Path, splits: Splits, labeled: Mapping[int, int], classes: Classes, pixels: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """The lines printed at the end."""
    yield f'{dst}: ' + ', '.join(f'{len(frames)} images for {split}' for split, frames in splits.items())
    bare = sum(frame.label is None for frame in splits['train'])
    yield (
        'labelled images of train: '
        + ', '.join(f'1/{r} {n}' for r, n in labeled.items())
        + (f' ({bare} have no label and are only in the unlabelled lists)' if bare else '')
    )
    width = max(map(len, (*classes.names, 'pixels of')))
    yield f'{"pixels of":{width + 5}}' + ''.join(f'{split:>9}' for split in pixels)
    for i, name in [*enumerate(classes.names), (VOID, 'void')]:
        shares = (counts[i] / max(counts.sum(), 1) for counts in pixels.values())
        yield f'{i:>3}  {name:{width}}' + ''.join(f'{share:>9.2%}' for share in shares)
    yield 'for config.py:'
    yield f'C.num_classes = {len(classes)}'
    yield f'C.num_train_imgs = {len(splits["train"])}'
    yield f'C.num_eval_imgs = {len(splits["val"])}'


EXAMPLES = """\
SRC holds images/{train,val[,test]} and labels/{train,val[,test]}; a label map is a grey or palette PNG of class ids
with the image's name (x.png, or x_gtFine.png, x_label.png, x_mask.png and the like). Training images may lack a label.

examples:
  python -m furnace.datasets.prepare folder ~/camvid DATA/camvid
  python -m furnace.datasets.prepare folder ~/roads DATA/roads --images rgb --labels masks --classes roads.json
  python -m furnace.datasets.prepare folder ~/video DATA/video --val-share 0.2     (images not in train/ and val/)
  python -m furnace.datasets.prepare folder ~/big DATA/big --link                  (links to the images, no copies)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """The command line of ``prepare_folder``."""
    parser = subparsers.add_parser(
        'folder',
        help='any folder of images and label maps',
        description='Bring any folder of images and label maps into the layout of DST.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(prepare=prepare_folder)
    parser.add_argument('src', type=Path, metavar='SRC', help='the data as downloaded; only read')
    parser.add_argument('dst', type=Path, metavar='DST', help='folder to make, e.g. DATA/camvid')
    parser.add_argument('--images', default='images', metavar='DIR', help='images, relative to SRC (default: images)')
    parser.add_argument('--labels', default='labels', metavar='DIR', help='label maps (default: labels)')
    parser.add_argument('--classes', type=Path, metavar='FILE', help='names, colours, ignore_index (SRC/classes.json)')
    parser.add_argument('--val-share', type=float, metavar='X', help='make val of the last X of each sequence')
    parser.add_argument('--seed', type=int, default=12345, help='of the labelled subsets (default: 12345)')
    parser.add_argument('--link', action='store_true', help='link to the images instead of copying them')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in DST')
