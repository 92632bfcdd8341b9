"""What the command lines of ``train.py`` and ``eval.py`` share."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from furnace.base_model import DualNetwork
from furnace.datasets.lists import Item
from furnace.datasets.train_set import end_workers, loader_failure
from furnace.engine.config import Config
from furnace.engine.logger import unread
from furnace.engine.signals import Stopped
from furnace.utils.errors import RunError, UserError, file_error, print_error
from furnace.utils.memory import out_of_memory

OUT_OF_MEMORY = (
    'out of memory on the GPU: for training C.grad_checkpoint = True, more GPUs (they share C.batch_size), a smaller '
    'C.batch_size or crop; for evaluation a smaller C.eval_batch_size. python -m furnace.tools.benchmark memory '
    '--device cuda:0 tells what fits'
)

ListReader = Callable[[str, str, str], list[Item]]


def build_network(C: Config) -> DualNetwork:
    """The dual network that the configuration describes."""
    return DualNetwork(C.num_classes, C.backbone, C.bn_eps, C.bn_momentum, C.grad_checkpoint)


def add_common(parser: argparse.ArgumentParser) -> None:
    """What both take: settings and devices."""
    parser.add_argument(
        'overrides', nargs='*', metavar='NAME=VALUE', help='set a value of config.py, e.g. labeled_ratio=8'
    )
    parser.add_argument(
        '-d',
        '--devices',
        metavar='WHICH',
        help="GPUs: 0, 0,2, 0-3 or '*'; or cpu; default: C.device; 0 is the CPU where there is no GPU",
    )


@contextmanager
def telling() -> Iterator[None]:
    """Within it an error may be this process's alone: it is told, while before all meet the same and one tells it."""
    try:
        yield
    except (UserError, RunError, OSError, RuntimeError) as error:
        end_workers()
        told = _told(error)
        if told is None:
            raise
        told.alone = getattr(told, 'alone', True)
        raise told from None


def _told(error: Exception) -> UserError | RunError | None:
    """``error`` as one that is told in a line; None where it is none of those that are foreseen."""
    if isinstance(error, UserError | RunError):
        return error
    if out_of_memory(error):
        cause = '' if isinstance(error, torch.OutOfMemoryError) else f' ({" ".join(str(error).split())})'
        told = RunError(OUT_OF_MEMORY + cause)
    else:
        told = file_error(error) if isinstance(error, OSError) else loader_failure(error)
    if told:
        told.alone = True
    return told


@unread()
def run_command(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> int:
    """Parse, run, and turn mistakes and failures into one line and an exit status."""
    arguments = parser.parse_intermixed_args()
    for name, value in vars(arguments).items():
        if value == [] and name != 'overrides':  # argparse's reading of "-e --"
            parser.error(f'{name}: expected one argument')
    try:
        return command(arguments)
    except (UserError, RunError, OSError, RuntimeError) as error:
        told = _told(error)
        if told is None:
            raise
        if os.environ.get('LOCAL_RANK', '0') == '0' or getattr(told, 'alone', False):
            print_error(told)
        if dist.is_initialized():  # its threads, which have had no farewell, may end Python's own exit with SIGABRT
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(told.status)
        return told.status
    except Stopped as stop:
        if os.environ.get('RANK', '0') == '0':
            print(f'{stop}; go on with: python {parser.prog} -c auto, and the same settings', file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    finally:
        end_workers()
