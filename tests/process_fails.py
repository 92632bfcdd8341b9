"""Two processes of which one fails while the other waits for it. Run by test_lost_processes.py.

python process_fails.py killed|raises|refuses|shut
"""

import argparse
import errno
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from furnace.engine.command import run_command, telling
from furnace.engine.distributed import joined
from furnace.utils.errors import UserError


def wait_for_each_other(arguments: argparse.Namespace) -> int:
    with joined(torch.device('cpu')) as (world, _):
        world.sum(torch.ones(1))
        if world.rank == 1 and arguments.how == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        if world.rank == 1 and arguments.how == 'raises':
            raise ArithmeticError('of the second')
        if world.rank == 0 and arguments.how == 'shut':
            raise PermissionError(errno.EACCES, 'Permission denied', 'log')
        if world.rank == 1 and arguments.how == 'refuses':
            with telling():
                raise UserError('x.png: of the second')
        world.sum(torch.ones(1))
    return 0


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('how', choices=('killed', 'raises', 'refuses', 'shut'))
    sys.exit(run_command(parser, wait_for_each_other))
