"""Street scenes drawn by code from a seed: the embedded data of ``exp_demo``, in the Cityscapes layout.

    python -m furnace.datasets.scenes DATA/demo
    python -m furnace.datasets.scenes /data/scenes --train 2000 --val 200 --size 256x512

Weather, layout, materials and colours differ widely between scenes, and walls, roads, skies, cars, leaves and clothes
share colours: a few labelled scenes do not show all there is, which is what semi-supervised learning is for.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from furnace.datasets.images import VOID
from furnace.datasets.scene_canvas import BUILDING, CAR, PERSON, TREE, Camera, Canvas, Stage, develop, draw_light, pick
from furnace.datasets.scene_layout import draw_skyline, furnish, plan_street
from furnace.datasets.scene_parts import WALLS, draw_ground
from furnace.datasets.splits import write_lists
from furnace.utils.errors import UserError, file_error, print_error

NAMES = ('sky', 'building', 'tree', 'road', 'pavement', 'car', 'person', 'sign')
COLORS = (  # those of Cityscapes
    (70, 130, 180), (70, 70, 70), (107, 142, 35), (128, 64, 128),
    (244, 35, 232), (0, 0, 142), (220, 20, 60), (220, 220, 0),
)  # fmt: skip

SPLITS = ('train', 'val')
RECORD = 'scenes.json'
FORMAT = 1  # of the drawing; goes up when the same seed gives other pictures
WRITTEN = {'images', 'segmentation', 'config_new', 'classes.json'}
NOTES = {'README.md', '.gitkeep'}


def draw_scene(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one street scene.

    Args:
        rng: the same state gives the same scene, bit for bit (on one machine, with one version of the libraries).
        height, width: pixels, 32 or more.

    Returns:
        image (H, W, 3) uint8 RGB; label (H, W) uint8, indices into ``NAMES`` or 255 (void).
    """
    camera = Camera(
        focal=height * rng.uniform(0.85, 1.3),
        centre_x=width * rng.uniform(0.28, 0.72),
        horizon=height * rng.uniform(0.36, 0.52),
        height=rng.uniform(1.4, 2.5),
        roll=rng.normal(0, 0.015),
        bend=rng.normal(0, 0.0015),
    )
    stage = Stage(Canvas(height, width), camera, draw_light(rng), rng)
    street = plan_street(rng)
    draw_ground(stage, street)
    draw_skyline(stage)
    for _, draw in furnish(stage, street):
        draw()
    image = develop(stage)
    _add_void(stage, image)
    return image, stage.canvas.label


def _add_void(stage, image):
    """Void as in Cityscapes: the bonnet of the camera's own car, or a line around near things; changes both maps."""
    canvas, rng = stage.canvas, stage.rng
    height, width = canvas.label.shape
    kind = rng.random()
    if kind < 0.25:
        v, u = np.mgrid[:height, :width]
        bonnet = v > height * (rng.uniform(0.9, 0.95) + 0.25 * (u / width - rng.uniform(0.4, 0.6)) ** 2)
        sheen = rng.uniform(0.2, 0.9) * (1 - 0.5 * (v - 0.85 * height) / (0.15 * height))[..., None]
        image[bonnet] = np.clip(pick(rng, WALLS) * sheen * 255, 0, 255)[bonnet]
        canvas.label[bonnet] = VOID
    elif kind < 0.6:
        for class_id in (BUILDING, TREE, CAR, PERSON):
            inside = ((canvas.label == class_id) & (canvas.depth < 14)).astype(np.uint8)
            canvas.label[inside > cv2.erode(inside, np.ones((2, 2), np.uint8))] = VOID


# --- a data set ------------------------------------------------------------------------------------------------------


def write(
    root: str | os.PathLike,
    seed: int = 12345,
    num_train: int = 256,
    num_val: int = 60,
    height: int = 128,
    width: int = 256,
) -> bool:
    """Write a set of scenes: images, label maps, ``classes.json`` and the lists of ``splits.write_lists``.

    Scene i of a split depends on (seed, split, i) and the size alone, so a larger set begins with the smaller one.
    The set appears under its name only when it is complete.

    Args:
        root: the folder to make; it may exist if it holds nothing but a note (``README.md``, ``.gitkeep``).
        seed: non-negative integer, of the scenes and of the choice of labelled ones.
        num_train, num_val: number of scenes, 1 or more each.
        height, width: pixels, 32 or more.

    Returns:
        True if the set was written, False if it was there already.

    Raises:
        UserError: a number out of range, or ``root`` holds something else.
    """
    root = Path(root).resolve()
    if min(num_train, num_val) < 1 or min(height, width) < 32 or seed < 0:
        raise UserError('scenes need a size of 32x32 or more, a seed of 0 or more, and 1 or more of train and of val')
    record = {'format': FORMAT, 'seed': seed, 'train': num_train, 'val': num_val, 'height': height, 'width': width}
    if _is_finished(root, record):
        return False
    draft = root.with_name(f'.{root.name}.{os.getpid()}')
    try:
        draft.mkdir(parents=True)
        pairs = {split: _write_split(draft, split, record) for split in SPLITS}
        _write_json(draft / 'classes.json', {'names': NAMES, 'colors': COLORS, 'ignore_index': VOID})
        write_lists(draft, pairs, seed)
        _write_json(draft / RECORD, record)
        _move_in(draft, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def _is_finished(root: Path, record: dict) -> bool:
    """Whether root already holds this very set; a UserError if it holds anything else but notes."""
    if not root.exists():
        return False
    if not root.is_dir() or os.path.ismount(root):
        raise UserError(f'{root} is a file or a mount point: name a new folder')
    entries = {path.name for path in root.iterdir()}
    if RECORD not in entries:
        if foreign := sorted(entries - NOTES):
            raise UserError(f'{root} already holds {", ".join(foreign[:3])}: name a new folder')
        return False
    try:
        same = json.loads((root / RECORD).read_text(encoding='utf-8')) == record
    except ValueError:
        same = False
    if not same:
        raise UserError(f'{root} holds scenes with other settings (see {RECORD}): delete it or name a new folder')
    if missing := sorted(WRITTEN - entries):
        raise UserError(f'{root} has lost its {", ".join(missing)}: delete it and draw the scenes again')
    return True


def _write_split(root: Path, split: str, record: dict) -> list[tuple[str, str]]:
    pairs = []
    for kind in ('images', 'segmentation'):
        (root / kind / split).mkdir(parents=True)
    for index in tqdm(range(record[split]), desc=f'drawing {split}', unit='scene'):
        rng = np.random.default_rng([record['seed'], SPLITS.index(split), index])
        image, label = draw_scene(rng, record['height'], record['width'])
        pair = f'images/{split}/scene_{index:06d}.png', f'segmentation/{split}/scene_{index:06d}_gtFine.png'
        for name, pixels in zip(pair, (image[..., ::-1], label), strict=True):  # OpenCV writes BGR
            (root / name).write_bytes(cv2.imencode('.png', pixels)[1])  # imwrite does not say what went wrong
        pairs.append(pair)
    return pairs


def _write_json(path: Path, content: dict) -> None:
    path.write_bytes((json.dumps(content) + '\n').encode())


def _move_in(draft: Path, root: Path) -> None:
    """Put the finished draft in place of root, which holds notes at most; they are kept."""
    replaced = draft.with_name(draft.name + '.old')
    if root.exists():
        for note in root.iterdir():
            shutil.copy2(note, draft / note.name)
        root.rename(replaced)
    try:
        draft.rename(root)
    except BaseException:
        if replaced.exists():
            replaced.rename(root)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


# --- command line ----------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m furnace.datasets.scenes',
        description='Draw street scenes with labels, in the Cityscapes layout.',
        epilog='example: python -m furnace.datasets.scenes DATA/scenes --train 320 --val 60 --size 128x256',
    )
    parser.add_argument('root', metavar='DST', help='folder to make, e.g. DATA/demo')
    parser.add_argument('--train', type=int, default=256, metavar='N', help='training scenes (%(default)s)')
    parser.add_argument('--val', type=int, default=60, metavar='N', help='validation scenes (%(default)s)')
    parser.add_argument('--seed', type=int, default=12345, metavar='S', help='of the scenes (%(default)s)')
    parser.add_argument('--size', default='128x256', metavar='HxW', help='height x width in pixels (%(default)s)')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0, 2 or 1 after a mistake or failure, 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        height, width = _parse_size(args.size)
        written = write(args.root, args.seed, args.train, args.val, height, width)
    except UserError as error:
        return print_error(error)
    except OSError as error:
        return print_error(file_error(error, args.root))
    except KeyboardInterrupt:
        print('interrupted: nothing was written', file=sys.stderr)
        return 130
    state = 'are in' if written else 'were drawn before, nothing to do: they are in'
    print(f'{args.train} scenes for train and {args.val} for val {state} {args.root}')
    return 0


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition('x')
    if not (height.isdecimal() and width.isdecimal()):
        raise UserError(f'--size is HEIGHTxWIDTH, such as 128x256, not {text}')
    return int(height), int(width)


if __name__ == '__main__':
    sys.exit(main())
