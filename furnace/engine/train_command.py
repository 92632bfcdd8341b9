"""The command line of an experiment's ``train.py``."""

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import torch

from furnace.base_model import load_file, load_pretrained
from furnace.datasets.cache import Cache
from furnace.datasets.classes import Classes
from furnace.datasets.eval_set import EvalSet
from furnace.datasets.lists import require_files, require_labels
from furnace.datasets.train_set import TrainSet
from furnace.engine import checkpoint
from furnace.engine.claim import LOCK, claimed
from furnace.engine.command import ListReader, add_common, build_network, run_command, telling
from furnace.engine.compiling import compile_training
from furnace.engine.config import Config, load_config
from furnace.engine.curves import LOSSES, SCORES, TENSORBOARD
from furnace.engine.devices import choose_devices
from furnace.engine.distributed import World, joined, launch, local_place, restarted, run_id, synchronized
from furnace.engine.evaluator import Evaluator
from furnace.engine.logger import open_log, silent_log, unused_path
from furnace.engine.precision import place, set_up, training_format
from furnace.engine.resume import restore
from furnace.engine.trainer import Trainer
from furnace.engine.validation import Validation
from furnace.seg_opr.loss import CrossEntropy
from furnace.utils.errors import UserError


def train(
    file: str, layout: ListReader, classes: Callable[[Config], Classes], criterion: Callable[[Config], CrossEntropy]
) -> int:
    """``train.py`` of the experiment whose folder holds ``file``; returns the exit status.

    Args:
        file: ``__file__`` of train.py.
        layout: gives the items of a list from image root, label root and list path.
        classes: gives names and colours.
        criterion: makes the supervised loss.
    """
    parser = argparse.ArgumentParser(
        prog='train.py',
        description='Train the two networks of this experiment as config.py says.',
        epilog='examples:\n'
        '  python train.py labeled_ratio=8\n'
        '  python train.py -c auto\n'
        '  python train.py method=supervised log_dir=log/supervised',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_common(parser)
    parser.add_argument(
        '-c', '--continue', dest='resume', metavar='auto|FILE', help='go on from the last checkpoint, or from FILE'
    )
    parser.add_argument('--force', action='store_true', help='go on although settings that matter have changed')
    folder = Path(file).resolve().parent
    return run_command(parser, lambda arguments: _train(arguments, folder, layout, classes, criterion))


def _train(
    arguments: argparse.Namespace, folder: Path, layout: ListReader, make_classes: Callable, criterion: Callable
) -> int:
    C = load_config(folder / 'config.py', arguments.overrides)
    devices = choose_devices(arguments.devices or C.device)
    classes = make_classes(C)
    classes.require(C.num_classes)
    labeled = layout(C.img_root_folder, C.gt_root_folder, C.train_source)
    require_labels(labeled, C.train_source)
    require_files(labeled, True, C.train_source)
    unlabeled = None
    if C.method != 'supervised':
        unlabeled = layout(C.img_root_folder, C.gt_root_folder, C.unsup_source)
        require_files(unlabeled, False, C.unsup_source)
        if C.cutmix and len(unlabeled) < 2:
            raise UserError(f'{C.unsup_source}: CutMix needs two images or more, this list has one; cutmix=False')
    watched = None
    if C.eval_every:
        watched = layout(C.img_root_folder, C.gt_root_folder, C.eval_source)
        require_labels(watched, C.eval_source)
        require_files(watched, True, C.eval_source)
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
    with joined(devices[0]) as (world, device), ExitStack() as claims:
        if world.rank == 0:  # before checkpoints are looked for: another training may be about to write one
            for folder in map(Path, (C.log_dir, C.snapshot_dir)):
                if (folder / LOCK).is_file():
                    claims.enter_context(claimed(folder))
        set_up(device, C.deterministic)
        torch.manual_seed(C.seed)
        network = build_network(C)
        notes = []
        source, content, anew = _find_checkpoint(arguments.resume, Path(C.snapshot_dir), world, notes)
        weights = None
        if source is None and C.pretrained_model is not None:
            backbones = [branch.backbone for branch in network.branches]
            weights = load_pretrained(backbones, C.pretrained_model, C.backbone)
        network = place(synchronized(network, device, world), device, training_format(C, device))
        validation = None
        if watched:
            part = EvalSet(watched[world.rank :: world.size], C.num_classes)
            evaluator = Evaluator(C, network, part, classes, device, world=world)
            validation = Validation(C, evaluator, classes, world)
        trainer = Trainer(C, network, criterion(C).to(device), data, classes, device, world, validation)
        if source:
            notes += restore(trainer, content, source, arguments.force)
        del content  # networks and momenta once more
        greatest, least = world.most(trainer.iteration, -trainer.iteration)
        if greatest != -least:
            raise UserError(
                f'{C.snapshot_dir}: the processes found checkpoints of iterations {-least} to {greatest}; '
                'all machines need the same folder'
            )
        if anew and trainer.iteration >= trainer.total:
            raise UserError(f'{source}: nothing is left to train after it; set more epochs than {C.nepochs}')
        # What the user can get wrong was told above, before any file is written or moved.
        logger = silent_log()
        if anew:  # the best checkpoint is not among what this run leaves
            trainer.unused_scores = None
            if validation:
                validation.best = None
        if world.rank == 0:
            if anew:
                checkpoint.require_own(Path(C.snapshot_dir), Path(C.log_dir))
            logger = _begin(C, claims, notes, trainer, source, anew, weights)
        if C.compile:
            for branch in network.branches:
                compile_training(branch, logger.warning if world.size == 1 else None)
        with telling():
            if C.cache_dir:
                data.cache = _filled_cache(C, data, world, logger)
            trainer.run(logger)
        logger.info('done; evaluate with: python eval.py -e last')
    return 0


def _filled_cache(C: Config, data: TrainSet, world: World, logger: logging.Logger) -> Cache:
    """The cache of decoded files, each process of a machine having made its part of what was missing."""
    cache = Cache(C.cache_dir, C.num_classes)
    files = cache.missing(data.labeled, data.unlabeled)
    if files:
        size = cache.bytes_for(files) / 1e9
        logger.info('decoding %d files into %s, %.2f GB', len(files), C.cache_dir, size)
    world.most(0)  # none begins before all have seen what is missing
    rank, count = local_place()
    cache.build(files[rank::count], max(1, C.num_workers), world.rank == 0)
    world.most(0)
    return cache


def _find_checkpoint(
    resume: str | None, folder: Path, world: World, notes: list[str]
) -> tuple[Path | None, dict | None, bool]:
    """The checkpoint to go on from, as ``-c`` says, its content, and whether what the run leaves begins anew."""
    nothing = None, None, True
    (again,) = world.most(int(restarted()))  # torchrun counts on each machine for itself
    if again:
        found = checkpoint.newest_good(folder, notes.append)
        if found and found[1].get('run') == run_id():  # not what another run left
            return *found, False
    if resume == 'auto':
        found = checkpoint.newest_good(folder, notes.append)
        return (*found, False) if found else nothing
    if not resume:
        return nothing
    # A file begins a history of its own, unless it is the last checkpoint of the one here.
    return Path(resume), load_file(resume), Path(resume).resolve() != (folder / checkpoint.LAST).resolve()


def _begin(
    C: Config,
    claims: ExitStack,
    notes: list[str],
    trainer: Trainer,
    source: Path | None,
    anew: bool,
    weights: str | None,
) -> logging.Logger:
    """Open the log, keep what an earlier run left where this one begins ``anew``, and say what will run.

    Args:
        claims: gets those of the run's folders.
    """
    for folder in (C.log_dir, C.snapshot_dir):
        claims.enter_context(claimed(Path(folder)))
    moved = []
    if anew:
        moved = [
            checkpoint.set_aside(path)
            for path in (Path(C.snapshot_dir), *(Path(C.log_dir, name) for name in (TENSORBOARD, LOSSES, SCORES)))
        ]
        claims.enter_context(claimed(Path(C.snapshot_dir)))  # another folder of this name, where one was moved
    logger = open_log(unused_path(Path(C.log_dir), 'train', '.log'))
    for note in notes:
        logger.warning('%s', note)
    for path in filter(None, moved):
        logger.info('what an earlier run left is kept in %s (train.py -c auto goes on with a run)', path)
    checkpoint.remove_leftovers(Path(C.snapshot_dir))
    labeled, unlabeled = trainer.data.labeled, trainer.data.unlabeled
    for kind, items in (('labelled', labeled), ('unlabelled', unlabeled)):
        if items is not None and len(items) < C.batch_size:
            logger.warning('only %d %s images for batches of %d: they are repeated', len(items), kind, C.batch_size)
    device, world = trainer.device, trainer.world
    name = torch.cuda.get_device_name(device) if device.type == 'cuda' else 'the CPU'
    logger.info(
        '%s, %s, on %s%s: %d labelled and %s unlabelled images, %d epochs of %d iterations, batch %d, %s, %s',
        C.method,
        C.backbone,
        f'{world.size} x ' if world.size > 1 else '',
        name,
        len(labeled),
        'no' if unlabeled is None else len(unlabeled),
        C.nepochs,
        C.niters_per_epoch,
        C.batch_size,
        'float32' if trainer.amp == 'off' else trainer.amp,
        f'going on from iteration {trainer.iteration} of {source}' if source else f'weights: {weights}',
    )
    logger.info('logs: %s   checkpoints: %s', C.log_dir, C.snapshot_dir)
    return logger
