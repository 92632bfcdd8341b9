"""The command line of an experiment's ``eval.py``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from furnace.base_model import load_file, load_network
from furnace.datasets.classes import Classes
from furnace.datasets.eval_set import EvalSet
from furnace.datasets.lists import require_files, require_labels
from furnace.engine import checkpoint
from furnace.engine.command import Layout, add_common, build_network, run_command, telling
from furnace.engine.config import Config, load_config
from furnace.engine.devices import choose_devices
from furnace.engine.distributed import joined, launch
from furnace.engine.evaluator import Evaluator, best, link_last, record, table, write_json
from furnace.engine.logger import make_folder, open_log, silent_log, unused_path
from furnace.engine.precision import place, set_up
from furnace.utils.errors import UserError


def evaluate(file: str, layout: Layout, classes: Callable[[Config], Classes]) -> int:
    """``eval.py`` of the experiment whose folder holds ``file``; returns the exit status.

    Args:
        file: ``__file__`` of eval.py.
        layout: gives the items of a list from image root, label root and list path.
        classes: gives names and colours.
    """
    parser = argparse.ArgumentParser(
        prog='eval.py',
        description='Score checkpoints of this experiment on the validation list.',
        epilog='examples:  python eval.py -e last -s     python eval.py -e 20-34 -v     '
        'python eval.py -e model.pth -d cpu',
    )
    add_common(parser)
    parser.add_argument(
        '-e',
        '--epochs',
        default='last',
        metavar='WHICH',
        help='last, FILE.pth, an epoch (30), a range (20-34), or from an epoch on (20-); default: last',
    )
    parser.add_argument('-v', '--verbose', action='store_true', help='show the running score')
    parser.add_argument('-s', '--save_image', action='store_true', help='save pictures of the predictions')
    parser.add_argument('-p', '--save_path', metavar='DIR', help='where to save them; default: log/pred_imgs')
    parser.add_argument(
        '--branch', choices=('1', '2', 'both'), default='1', help='which network; default: 1, as published'
    )
    return run_command(parser, lambda arguments: _evaluate(arguments, Path(file).resolve().parent, layout, classes))


def _evaluate(arguments: argparse.Namespace, folder: Path, layout: Layout, make_classes: Callable) -> int:
    C = load_config(folder / 'config.py', arguments.overrides)
    devices = choose_devices(arguments.devices or C.device)
    paths = checkpoint.select(arguments.epochs, Path(C.snapshot_dir))
    classes = make_classes(C)
    if len(classes) != C.num_classes:
        raise UserError(f'num_classes = {C.num_classes}, but there are names for {len(classes)} classes')
    items = layout(C.img_root_folder, C.gt_root_folder, C.eval_source)
    require_labels(items, C.eval_source)
    require_files(items, True, C.eval_source)
    network = build_network(C)
    # A checkpoint that does not fit is told before any file is written.
    load_network(network, load_file(paths[0]), paths[0])
    if arguments.save_image and len({item.name for item in items}) < len(items):
        raise UserError(
            f'{C.eval_source}: several images have one file name; their pictures would overwrite each other'
        )
    if len(devices) > 1:
        return launch([sys.executable, *sys.argv], devices)

    branches = (1, 2) if arguments.branch == 'both' else (int(arguments.branch),)
    with joined(devices[0]) as (world, device):
        set_up(device, C.deterministic)
        logger = silent_log()
        if world.rank == 0:
            log_path = unused_path(Path(C.log_dir), 'val', '.log')
            logger = open_log(log_path)
            link_last(log_path, logger)
        data = EvalSet(items[world.rank :: world.size], C.num_classes)
        evaluator = Evaluator(C, place(network, device), data, classes, device, arguments.verbose, world)
        results = []
        for path in paths:
            content = load_file(path)
            load_network(network, content, path)
            for branch in branches:
                pictures = None
                if arguments.save_image:
                    pictures = Path(arguments.save_path or Path(C.log_dir, 'pred_imgs'))
                    if len(paths) * len(branches) > 1:
                        pictures = pictures / f'{path.stem}-branch{branch}'
                    make_folder(pictures)
                title = f'{path.name}, branch {branch}'
                with telling():
                    confusion = evaluator.confusion(branch, title, pictures)
                results.append(record(str(path), content, branch, confusion, classes, len(items)))
                logger.info('%s, %d images of %s\n%s', title, len(items), C.eval_source, table(confusion, classes))
                if pictures:
                    logger.info('pictures: %s', pictures)
                if world.rank == 0:  # after each, so that a later one that fails loses nothing
                    write_json(log_path.with_suffix('.json'), {'config': dict(C), 'results': results})
        if len(results) > 1:
            top = best(results)
            logger.info(
                'best: %s, branch %d: mean IoU %.2f', top['checkpoint'], top['branch'], 100 * (top['mean_iou'] or 0)
            )
        if world.rank == 0:
            link_last(log_path.with_suffix('.json'), logger)
            logger.info('scores: %s', log_path.with_suffix('.json'))
    return 0
