"""The command line of an experiment's ``eval.py``: scoring, and the modes that need no labels."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from furnace.base_model import load_file, load_network
from furnace.datasets.classes import Classes
from furnace.datasets.eval_set import EvalSet
from furnace.datasets.inputs import find_sources
from furnace.datasets.lists import require_files, require_labels
from furnace.engine import checkpoint
from furnace.engine.command import ListReader, add_common, build_network, run_command, telling
from furnace.engine.config import Config, load_config
from furnace.engine.devices import choose_devices
from furnace.engine.distributed import joined, launch, launched
from furnace.engine.evaluator import Evaluator, best, link_last, record, table
from furnace.engine.export import export, require_exportable
from furnace.engine.logger import make_folder, open_log, silent_log, tell, unused_path
from furnace.engine.model import Segmenter, stored_classes
from furnace.engine.precision import place, set_up
from furnace.engine.predict import predict, require_free
from furnace.engine.report import write_report
from furnace.utils.errors import UserError
from furnace.utils.files import write_json


def evaluate(file: str, layout: ListReader, classes: Callable[[Config], Classes]) -> int:
    """``eval.py`` of the experiment whose folder holds ``file``; returns the exit status.

    Args:
        file: ``__file__`` of eval.py.
        layout: gives the items of a list from image root, label root and list path.
        classes: gives names and colours.
    """
    parser = argparse.ArgumentParser(
        prog='eval.py',
        description='Score checkpoints of this experiment on the validation list; or segment images (-i), or export.',
        epilog='examples:\n'
        '  python eval.py -e last -s\n'
        '  python eval.py -e 20-34 -v\n'
        '  python eval.py -e model.pth -d cpu\n'
        '  python eval.py -i photos film.mp4',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common(parser)
    parser.add_argument(
        '-e',
        '--epochs',
        default='last',
        metavar='WHICH',
        help='last, best, FILE.pth, an epoch (30), a range (20-34), or from an epoch on (20-); default: last',
    )
    parser.add_argument('-v', '--verbose', action='store_true', help='show the running score')
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('-s', '--save_image', action='store_true', help='save pictures of the predictions')
    mode.add_argument(
        '-i',
        '--images',
        nargs='+',
        metavar='PATH',
        help='segment these instead of scoring: images, videos, folders, patterns; no labels are needed',
    )
    mode.add_argument('--export', metavar='FILE', help='write the network to FILE.onnx or FILE.pt2 instead of scoring')
    parser.add_argument('--report', action='store_true', help='write a page on the evaluation: log/report/index.html')
    parser.add_argument(
        '--report-images', type=int, default=24, metavar='N', help='the N worst images are in the report; default: 24'
    )
    parser.add_argument('-p', '--save_path', metavar='DIR', help='where -s and -i save; default: in log/pred_imgs')
    parser.add_argument('--every', type=int, default=1, metavar='N', help="of a video's frames, every N-th; default: 1")
    parser.add_argument('--force', action='store_true', help='-i, --export: write over what is there')
    parser.add_argument(
        '--branch', choices=('1', '2', 'both'), default='1', help='which network; default: 1, as published'
    )
    return run_command(parser, lambda arguments: _evaluate(arguments, Path(file).resolve().parent, layout, classes))


def _evaluate(arguments: argparse.Namespace, folder: Path, layout: ListReader, make_classes: Callable) -> int:
    _sort_out_overrides(arguments)
    C = load_config(folder / 'config.py', arguments.overrides, training=False)
    if arguments.save_path and not (arguments.save_image or arguments.images):
        raise UserError(f'-p {arguments.save_path}: tells where pictures are saved; -s saves them')
    devices = choose_devices(arguments.devices or C.device)
    paths = checkpoint.select(arguments.epochs, Path(C.snapshot_dir))
    if arguments.images or arguments.export is not None:
        _use(arguments, C, devices, paths, make_classes)
        return 0
    if arguments.report_images < 0:
        raise UserError(f'--report-images {arguments.report_images}: must be at least 0')
    classes = make_classes(C)
    classes.require(C.num_classes)
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
        set_up(device, C.deterministic, one_size=not C.eval_whole)
        logger = silent_log()
        if world.rank == 0:
            log_path = unused_path(Path(C.log_dir), 'val', '.log')
            logger = open_log(log_path)
            link_last(log_path, logger)
        data = EvalSet(items[world.rank :: world.size], C.num_classes)
        evaluator = Evaluator(C, place(network, device), data, classes, device, arguments.verbose, world)
        results, image_iou = [], []
        for path in paths:
            content = load_file(path)
            load_network(network, content, path)
            pictures = {}
            if arguments.save_image:
                target = Path(arguments.save_path or Path(C.log_dir, 'pred_imgs'))
                several = len(paths) * len(branches) > 1
                pictures = {b: target / f'{path.stem}-branch{b}' if several else target for b in branches}
                for target in pictures.values():
                    make_folder(target)
            with telling():
                tally = evaluator.tally(branches, path.name, pictures)
            for branch in branches:
                confusion = tally.confusion[branch]
                results.append(record(str(path), content, branch, confusion, classes, len(items), tally.agreement))
                image_iou.append(tally.image_iou[branch])
                title = f'{path.name}, branch {branch}'
                logger.info('%s, %d images of %s\n%s', title, len(items), C.eval_source, table(confusion, classes))
                if path.name == checkpoint.BEST:
                    logger.info(
                        '%s was chosen by its score on the validation list while training, which flatters; '
                        'the published rule scores the last: -e last',
                        path.name,
                    )
                if pictures:
                    logger.info('pictures: %s', pictures[branch])
            if tally.agreement is not None:
                logger.info('both branches predict one class on %.2f %% of all pixels', 100 * tally.agreement)
            if world.rank == 0:  # after each, so that a later one that fails loses nothing
                write_json(log_path.with_suffix('.json'), {'config': dict(C), 'results': results})
        top = best(results)
        if len(results) > 1:
            logger.info(
                'best: %s, branch %d: mean IoU %.2f', top['checkpoint'], top['branch'], 100 * (top['mean_iou'] or 0)
            )
        if world.rank == 0:
            link_last(log_path.with_suffix('.json'), logger)
            logger.info('scores: %s', log_path.with_suffix('.json'))
            if arguments.report:
                report = Path(C.log_dir, 'report')
                if moved := checkpoint.set_aside(report):
                    logger.info('the former report is now %s', moved)
                load_network(network, load_file(top['checkpoint']), top['checkpoint'])
                top_iou = image_iou[results.index(top)]
                with telling():
                    page = write_report(
                        report, folder.name, evaluator, items, results, top, top_iou, arguments.report_images
                    )
                logger.info('report: %s', page)
    return 0


def _sort_out_overrides(arguments: argparse.Namespace) -> None:
    """``-i a.png eval_flip=True``: the last is a setting, unless there is such a file."""
    if arguments.images is None:
        return
    given, arguments.images = arguments.images, []
    for text in given:
        name, equals, _ = text.partition('=')
        setting = equals and name.isidentifier() and not os.path.exists(text)
        (arguments.overrides if setting else arguments.images).append(text)
    if not arguments.images:
        raise UserError('-i: names no file or folder')


def _use(
    arguments: argparse.Namespace,
    C: Config,
    devices: list[torch.device],
    paths: list[Path],
    make_classes: Callable[[Config], Classes],
) -> None:
    """``-i`` and ``--export``: one checkpoint, one branch, one device, and no data set."""
    option = '-i' if arguments.images else '--export'
    if len(paths) > 1:
        raise UserError(f'{option} takes one checkpoint, -e {arguments.epochs} means {len(paths)}')
    if arguments.branch == 'both':
        raise UserError(f'{option} takes one branch: --branch 1, as published, or 2')
    if len(devices) > 1 or launched():
        raise UserError(f'{option} runs in one process, on one device, such as -d 0')
    if arguments.report:
        raise UserError(f'{option} scores nothing that --report could show')
    if arguments.every < 1:
        raise UserError(f'--every {arguments.every}: must be at least 1')
    path = paths[0]
    if arguments.images:
        sources, notes = find_sources(arguments.images)
        default = unused_path(Path(C.log_dir, 'pred_imgs'), 'images', '')
        target, device = Path(arguments.save_path or default), devices[0]
        require_free(target, arguments.force)
    else:
        target, device = Path(arguments.export), torch.device('cpu')
        require_exportable(target, arguments.force)
    content = load_file(path)
    classes = stored_classes(content, path) or make_classes(C)
    classes.require(C.num_classes)
    network = build_network(Config({**C, 'grad_checkpoint': False}))
    load_network(network, content, path)
    set_up(device, C.deterministic, one_size=not C.eval_whole)
    model = place(Segmenter(network.branches[int(arguments.branch) - 1], classes, C), device)
    if arguments.images:
        for note in notes:
            tell(note)
        predict(model, sources, target, arguments.every)
    else:
        export(model, target)
        tell(f'{path.name}, branch {arguments.branch}: {target}')
