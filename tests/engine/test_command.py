"""What ends a command in one line, and with which status."""

import argparse
import errno
import multiprocessing
import re
import signal
import sys

import pytest
import torch
from recipes import load
from tiny import DEMO
from torch import nn

from furnace.datasets.train_set import set_up_worker
from furnace.engine import command
from furnace.engine.command import build_network, run_command, telling
from furnace.utils.errors import RunError, UserError


def test_settings_reach_every_batchnorm(shallow, clean):
    network = build_network(load('exp_demo', 'bn_eps=0.01', 'bn_momentum=0.3'))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.01, 0.3)}


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['train.py'])

    def raising(error):
        def failing(_):
            raise error

        return run_command(argparse.ArgumentParser(), failing)

    return raising


ROOM = 'make room on the disk, or in your quota (df -h)'


@pytest.mark.parametrize(
    ('error', 'status', 'says'),
    [
        (PermissionError(errno.EACCES, 'Permission denied', 'log/val.log'), 2, 'log/val.log: Permission denied'),
        (IsADirectoryError(errno.EISDIR, 'Is a directory', 'log/x'), 2, 'log/x: Is a directory'),
        (OSError(errno.EROFS, 'Read-only file system', 'log'), 2, 'log: Read-only file system'),
        (OSError(errno.EIO, 'Input/output error', 'log/x'), 1, 'log/x: Input/output error'),
        (OSError(errno.ENOSPC, 'No space left on device', 'log'), 1, f'log: No space left on device; {ROOM}'),
        (OSError(errno.EDQUOT, 'Disk quota exceeded', 'log'), 1, f'log: Disk quota exceeded; {ROOM}'),
        (OSError(errno.ENOSPC, 'No space left on device'), 1, f'No space left on device; {ROOM}'),
        (torch.OutOfMemoryError('CUDA out of memory.\nTried'), 1, command.OUT_OF_MEMORY),
        (
            RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED when\ncalling'),
            1,
            f'{command.OUT_OF_MEMORY} (CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling)',
        ),
    ],
)
@pytest.mark.parametrize('rank', ['0', '1'])
def test_what_the_system_refuses_is_told_in_a_line(run, capsys, monkeypatch, rank, error, status, says):
    """By each process that meets it: another one may not."""
    monkeypatch.setenv('LOCAL_RANK', rank)
    assert run(error) == status
    assert capsys.readouterr().err == f'error: {says}\n'
    with pytest.raises((UserError, RunError), match=f'^{re.escape(says)}$') as caught, telling():
        raise error
    assert caught.value.alone


@pytest.mark.parametrize('alone', [False, True])
def test_what_all_processes_know_stays_so(alone):
    """Rank 0 tells it alone then."""
    error = RunError('iteration 3: the gradient of branch 1 is nan')
    error.alone = alone
    with pytest.raises(RunError) as caught, telling():
        raise error
    assert caught.value.alone == alone


@pytest.mark.parametrize('error', [ConnectionResetError(errno.ECONNRESET, 'Connection reset by peer'), OSError('odd')])
def test_what_names_no_file_keeps_its_traceback(run, error):
    with pytest.raises(OSError, match=str(error).replace('[', r'\[')):
        run(error)
    with pytest.raises(type(error)), telling():
        raise error


def test_no_worker_outlives_a_command(monkeypatch):
    """Python would wait for it at its exit."""
    monkeypatch.setattr(sys, 'argv', ['train.py'])
    worker = multiprocessing.get_context('fork').Process(target=wait_for_ever, daemon=True)

    def leaving(_):
        worker.start()
        return 0

    assert run_command(argparse.ArgumentParser(), leaving) == 0
    try:
        assert worker.exitcode == -signal.SIGKILL
    finally:
        worker.kill()


def wait_for_ever():
    set_up_worker(0)
    while True:
        signal.pause()


def test_the_remedies_are_those_of_the_readme():
    row = next(
        line for line in (DEMO.parent / 'README.md').read_text().splitlines() if 'out of memory on the GPU' in line
    )
    for words in re.findall(r'`(.*?)`', row):
        assert words in command.OUT_OF_MEMORY
