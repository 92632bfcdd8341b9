"""The command lines of an experiment's ``train.py`` and ``eval.py``."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from furnace.base_model import DualNetwork, load_file, load_network, load_pretrained
from furnace.datasets.classes import Classes
from furnace.datasets.eval_set import EvalSet
from furnace.datasets.lists import Item, require_files, require_labels
from furnace.datasets.train_set import TrainSet, loader_failure
from furnace.engine import checkpoint
from furnace.engine.config import Config, load_config
from furnace.engine.curves import LOSSES, TENSORBOARD
from furnace.engine.devices import choose_devices
from furnace.engine.distributed import joined, launch, restarted, run_id, synchronized
from furnace.engine.evaluator import Evaluator, best, link_last, record, table, write_json
from furnace.engine.logger import make_folder, open_log, silent_log, unused_path
from furnace.engine.signals import Stopped
from furnace.engine.trainer import Trainer
from furnace.seg_opr.loss import CrossEntropy
from furnace.utils.errors import RunError, UserError

Layout = Callable[[str, str, str], list[Item]]


def build_network(C: Config) -> DualNetwork:
    """The dual network that the configuration describes."""
    return DualNetwork(C.num_classes, C.backbone, C.bn_eps, C.bn_momentum)


def train(file: str, layout: Layout, criterion: Callable[[Config], CrossEntropy]) -> int:
    """``train.py`` of the experiment whose folder holds ``file``; returns the exit status.

    Args:
        file: ``__file__`` of train.py.
        layout: gives the items of a list from image root, label root and list path.
        criterion: makes the supervised loss.
    """
    parser = argparse.ArgumentParser(
        prog='train.py',
        description='Train the two networks of this experiment as config.py says.',
        epilog='examples:  python train.py labeled_ratio=8     python train.py -c auto     '
        'python train.py method=supervised log_dir=log/supervised',
    )
    _add_common(parser)
    parser.add_argument(
        '-c', '--continue', dest='resume', metavar='auto|FILE', help='go on from the last checkpoint, or from FILE'
    )
    parser.add_argument('--force', action='store_true', help='go on although settings that matter have changed')
    return _run(parser, lambda arguments: _train(arguments, Path(file).resolve().parent, layout, criterion))


def _train(arguments: argparse.Namespace, folder: Path, layout: Layout, criterion: Callable) -> int:
    C = load_config(folder / 'config.py', arguments.overrides)
    devices = choose_devices(arguments.devices or C.device)
    labeled = layout(C.img_root_folder, C.gt_root_folder, C.train_source)
    require_labels(labeled, C.train_source)
    require_files(labeled, True, C.train_source)
    unlabeled = None
    if C.method != 'supervised':
        unlabeled = layout(C.img_root_folder, C.gt_root_folder, C.unsup_source)
        require_files(unlabeled, False, C.unsup_source)
        if C.cutmix and len(unlabeled) < 2:
            raise UserError(f'{C.unsup_source}: CutMix needs two images or more, this list has one; cutmix=False')
    if len(devices) > 1:
        return launch([sys.executable, *sys.argv], devices)

    data = TrainSet(
        labeled,
        unlabeled,
        C.num_classes,
        (C.image_height, C.image_width),
        C.train_scale_array,
        C.niters_per_epoch * C.batch_size,
        C.seed,
        C.cutmix,
    )
    with joined(devices[0]) as (world, device):
        torch.manual_seed(C.seed)
        network = build_network(C)
        notes = []
        found = _find_checkpoint(arguments.resume, Path(C.snapshot_dir), notes)
        if found is None and C.pretrained_model:
            for branch in network.branches:
                load_pretrained(branch.backbone, C.pretrained_model)
        network = synchronized(network, device, world).to(device)
        trainer = Trainer(C, network, criterion(C).to(device), data, device, world)
        if found:
            notes += trainer.resume(found[1], found[0], arguments.force)
        greatest, least = world.most(trainer.iteration, -trainer.iteration)
        if greatest != -least:
            raise UserError(
                f'{C.snapshot_dir}: the processes found checkpoints of iterations {-least} to {greatest}; '
                'all machines need the same folder'
            )
        # What the user can get wrong was told above, before any file is written.
        logger = silent_log()
        if world.rank == 0:
            # A file that -c names begins a history of its own, unless it is the last checkpoint of this one.
            last = Path(C.snapshot_dir, checkpoint.LAST)
            anew = found is None or (arguments.resume != 'auto' and found[0].resolve() != last.resolve())
            logger = _begin(C, notes, trainer, found[0] if found else None, anew)
        with telling():
            trainer.run(logger)
        logger.info('done; evaluate with: python eval.py -e last')
    return 0


def _find_checkpoint(resume: str | None, folder: Path, notes: list[str]) -> tuple[Path, dict] | None:
    """The checkpoint to go on from, and its content, as ``-c`` says."""
    if restarted():
        found = checkpoint.newest_good(folder, notes.append)
        if found and found[1].get('run') == run_id():  # not what another run left
            return found
    if resume == 'auto':
        return checkpoint.newest_good(folder, notes.append)
    return (Path(resume), load_file(resume)) if resume else None


def _begin(C: Config, notes: list[str], trainer: Trainer, source: Path | None, anew: bool) -> logging.Logger:
    """Open the log, keep what an earlier run left where this one begins ``anew``, and say what will run."""
    moved = []
    if anew:
        checkpoint.require_own(Path(C.snapshot_dir))
        moved = [
            checkpoint.set_aside(path)
            for path in (Path(C.snapshot_dir), Path(C.log_dir, TENSORBOARD), Path(C.log_dir, LOSSES))
        ]
    logger = open_log(unused_path(Path(C.log_dir), 'train', '.log'))
    for note in notes:
        logger.warning('%s', note)
    for path in filter(None, moved):
        logger.info('what an earlier run left is kept in %s (train.py -c auto goes on with a run)', path)
    make_folder(Path(C.snapshot_dir))
    checkpoint.remove_leftovers(Path(C.snapshot_dir))
    labeled, unlabeled = trainer.data.labeled, trainer.data.unlabeled
    for kind, items in (('labelled', labeled), ('unlabelled', unlabeled)):
        if items is not None and len(items) < C.batch_size:
            logger.warning('only %d %s images for batches of %d: they are repeated', len(items), kind, C.batch_size)
    device, world = trainer.device, trainer.world
    place = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'the CPU'
    logger.info(
        '%s, %s, on %s%s: %d labelled and %s unlabelled images, %d epochs of %d iterations, batch %d, %s',
        C.method,
        C.backbone,
        f'{world.size} x ' if world.size > 1 else '',
        place,
        len(labeled),
        'no' if unlabeled is None else len(unlabeled),
        C.nepochs,
        C.niters_per_epoch,
        C.batch_size,
        f'going on from iteration {trainer.iteration} of {source}' if source else f'weights: {C.pretrained_model}',
    )
    logger.info('logs: %s   checkpoints: %s', C.log_dir, C.snapshot_dir)
    return logger


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
    _add_common(parser)
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
    return _run(parser, lambda arguments: _evaluate(arguments, Path(file).resolve().parent, layout, classes))


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
        logger = silent_log()
        if world.rank == 0:
            log_path = unused_path(Path(C.log_dir), 'val', '.log')
            logger = open_log(log_path)
            link_last(log_path, logger)
        data = EvalSet(items[world.rank :: world.size], C.num_classes)
        evaluator = Evaluator(C, network.to(device), data, classes, device, arguments.verbose, world)
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


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'overrides', nargs='*', metavar='NAME=VALUE', help='set a value of config.py, e.g. labeled_ratio=8'
    )
    parser.add_argument(
        '-d',
        '--devices',
        metavar='WHICH',
        help="GPUs: 0, 0,2, 0-3 or '*'; or cpu; default: 0, the CPU where there is none",
    )


@contextmanager
def telling() -> Iterator[None]:
    """Within it an error may be this process's alone: it is told, while before all meet the same and one tells it."""
    try:
        yield
    except (UserError, RunError) as error:
        error.alone = True
        raise
    except RuntimeError as error:
        failure = loader_failure(error)
        if failure is None:
            raise
        failure.alone = True
        raise failure from None


def _run(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> int:
    """Parse, run, and turn mistakes and failures into one line and an exit status."""
    arguments = parser.parse_intermixed_args()
    for name, value in vars(arguments).items():
        if value == [] and name != 'overrides':  # argparse's reading of "-e --"
            parser.error(f'{name}: expected one argument')
    try:
        return command(arguments)
    except (UserError, RunError) as error:
        if os.environ.get('LOCAL_RANK', '0') == '0' or getattr(error, 'alone', False):
            print(f'error: {" ".join(str(error).splitlines())}', file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except Stopped as stop:
        if os.environ.get('RANK', '0') == '0':
            print(f'{stop}; go on with: python {parser.prog} -c auto, and the same settings', file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
