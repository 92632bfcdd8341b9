"""Draws scenes of exp_demo's validation list, what branch 1 makes of them, and their labels.

python -m furnace.datasets.scenes DATA/demo
(cd exp_demo && python train.py)
python img/demo.py exp_demo/log/snapshot/epoch-last.pth
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from furnace.datasets.classes import read_classes
from furnace.datasets.images import read_pair
from furnace.datasets.lists import cityscapes_items
from furnace.engine.command import run_command
from furnace.engine.config import load_config
from furnace.engine.model import load
from furnace.utils.errors import UserError
from furnace.utils.panels import class_legend, compose, enlarged, save, shown


def command(arguments: argparse.Namespace) -> int:
    C = load_config(ROOT / 'exp_demo' / 'config.py', arguments.overrides)
    classes = read_classes(Path(C.dataset_path, 'classes.json'))
    items = cityscapes_items(C.img_root_folder, C.gt_root_folder, C.eval_source)
    if unknown := [number for number in arguments.scenes if not 0 <= number < len(items)]:
        raise UserError(f'--scenes {unknown[0]}: {C.eval_source} has 0 to {len(items) - 1}')
    model = load(arguments.checkpoint, config=C, classes=classes)
    rows, palette = [], classes.palette()
    for number in arguments.scenes:
        image, label = read_pair(items[number].image, items[number].label, C.num_classes)
        scale = max(1, 512 // image.shape[1])
        maps = model.predict(image)[0], label
        titles = ('', '', '') if rows else ('scene', 'prediction', 'ground truth')
        pictures = enlarged(image, scale), *(shown(ids, palette, scale) for ids in maps)
        rows.append(list(zip(titles, pictures, strict=True)))
    save(compose(rows, class_legend(classes.names, palette)), arguments.output)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog='demo.py', description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', type=Path, metavar='FILE.pth', help='of exp_demo')
    parser.add_argument('overrides', nargs='*', metavar='NAME=VALUE', help='set a value of exp_demo/config.py')
    parser.add_argument('--scenes', nargs='+', type=int, default=[0, 1, 2], metavar='N', help='default: 0 1 2')
    parser.add_argument('-o', '--output', type=Path, default=Path(__file__).with_suffix('.png'), metavar='FILE.png')
    return run_command(parser, command)


if __name__ == '__main__':
    sys.exit(main())
