"""``prepare folder``: any folder of images and label maps. Everything is checked before anything is written."""

import argparse
import json
from functools import partial
from pathlib import Path

from furnace.datasets.classes import Classes, read_classes
from furnace.datasets.find import find_frames
from furnace.datasets.images import VOID
from furnace.datasets.prepare.colors import Color, read_ids
from furnace.datasets.prepare.frames import WRITTEN, make_layout
from furnace.datasets.prepare.result import already_there, require_folder, require_outside
from furnace.utils.errors import UserError


def prepare_folder(
    src: Path,
    dst: Path,
    *,
    images: str = 'images',
    labels: str = 'labels',
    classes: Path | None = None,
    unknown_void: bool = False,
    val_share: float | None = None,
    seed: int = 12345,
    link: bool = False,
    force: bool = False,
) -> None:
    """Bring any folder of images and label maps into this project's layout in ``dst``, and print what it holds.

    Written are ``images/{split}/…``, ``segmentation/{split}/….png`` (one 8-bit channel of ids, void 255),
    ``classes.json``, the lists of ``splits.write_lists`` and ``prepared.json``, which records how. They are built in a
    hidden folder of ``dst`` and moved in at the end; ``src`` is only read. A second call with the same
    parameters does nothing.

    Args:
        src: holds the folders ``images`` and ``labels``, with train and val (and test) in each; see ``find_frames``.
        dst: missing, empty but for a note, or an earlier result.
        images, labels: names of the two folders, relative to ``src``.
        classes: a file as ``read_classes`` reads it, with an optional "ignore_index"; default ``src/classes.json``,
            and where that is missing, "class 0", "class 1", … up to the highest id met, in PASCAL VOC's colours.
        unknown_void: make void of colours of no class in RGB label maps, instead of refusing them.
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
        'command': 'folder', 'source': str(src), 'images': images, 'labels': labels,
        'classes': str(classes_path) if classes_path.is_file() else None,
        'unknown_void': unknown_void, 'val_share': val_share, 'seed': seed, 'link': link,
    }  # fmt: skip
    require_outside(dst, [src, (src / images).resolve(), (src / labels).resolve()])
    if already_there(dst, WRITTEN, parameters, force):
        return

    require_folder(src)
    splits, notes = find_frames(src / images, src / labels, val_share)
    known, ignore_index = _read_classes(classes_path) if classes_path.is_file() else (None, VOID)
    read = partial(read_ids, table=known and _color_table(known), unknown=ignore_index if unknown_void else None)
    make_layout(dst, splits, known, ignore_index, read, parameters, force)
    print(*notes, sep='\n', end='\n' * bool(notes))


def _read_classes(path: Path) -> tuple[Classes, int]:
    classes = read_classes(path)
    ignore_index = json.loads(path.read_text(encoding='utf-8')).get('ignore_index', VOID)
    if len(classes) > VOID:
        raise UserError(f'{path}: {len(classes)} classes; ids have 8 bits and {VOID} is void, so {VOID} at most')
    if type(ignore_index) is not int or not len(classes) <= ignore_index <= VOID:
        raise UserError(f'{path}: ignore_index must be an id of no class, {len(classes)} … {VOID}, not {ignore_index}')
    return classes, ignore_index


def _color_table(classes: Classes) -> dict[Color, int]:
    """The id of each colour that is of one class alone."""
    return {color: i for i, color in enumerate(classes.colors) if classes.colors.count(color) == 1}


EXAMPLES = """\
SRC holds images/{train,val[,test]} and labels/{train,val[,test]}; a label map is a grey or palette PNG of class ids
with the image's name (x.png, or x_gtFine.png, x_label.png, x_mask.png and the like), or an RGB image of the colours in
classes.json: {"names": ["road", "car"], "colors": [[128, 64, 128], [0, 0, 142]]}. Training images may lack a label.

examples:
  python -m furnace.datasets.prepare folder ~/camvid DATA/camvid
  python -m furnace.datasets.prepare folder ~/roads DATA/roads --images rgb --labels masks --classes roads.json
  python -m furnace.datasets.prepare folder ~/drawn DATA/drawn --unknown-void      (RGB maps; other colours are void)
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
    parser.add_argument('--unknown-void', action='store_true', help='other colours of RGB label maps are void')
    parser.add_argument(
        '--val-share', type=float, metavar='X', help='make val of this share of each sequence, its end; e.g. 0.2'
    )
    parser.add_argument('--seed', type=int, default=12345, help='of the labelled subsets (default: 12345)')
    parser.add_argument('--link', action='store_true', help='link to the images instead of copying them')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in DST')
