"""What the command lines of ``train.py`` and ``eval.py`` share."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist

from furnace.base_model import DualNetwork
from furnace.datasets.lists import Item
from furnace.datasets.train_set import end_workers, loader_failure
from furnace.engine.config import Config
from furnace.engine.signals import Stopped
from furnace.utils.errors import RunError, UserError

Layout = Callable[[str, str, str], list[Item]]


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
        help="GPUs: 0, 0,2, 0-3 or '*'; or cpu; default: 0, the CPU where there is none",
    )


@contextmanager
def telling() -> Iterator[None]:
    """Within it an error may be this process's alone: it is told, while before all meet the same and one tells it."""
    try:
        yield
    except (UserError, RunError) as error:
        end_workers()
        error.alone = getattr(error, 'alone', True)
        raise
    except RuntimeError as error:
        end_workers()
        failure = loader_failure(error)
        if failure is None:
            raise
        failure.alone = True
        raise failure from None


def run_command(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int]) -> int:
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
        status = 2 if isinstance(error, UserError) else 1
        if dist.is_initialized():  # its threads, which have had no farewell, may end Python's own exit with SIGABRT
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        return status
    except Stopped as stop:
        if os.environ.get('RANK', '0') == '0':
            print(f'{stop}; go on with: python {parser.prog} -c auto, and the same settings', file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
