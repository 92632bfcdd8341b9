"""Several processes of which one fails, is killed or loses its launcher: none hangs, none stays, and it is told.

That none stays shows in ``communicate``: it returns when the last process has closed its end of the pipes.
"""

import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from ends import difference
from tiny import told, wait_until

from furnace.base_model import load_file
from furnace.engine.curves import LOSSES
from furnace.engine.distributed import ALONE, SAVING, _connection_failure, launch, run_id
from furnace.engine.signals import Stop
from furnace.engine.train_command import _find_checkpoint

TORCHRUN = '-m torch.distributed.run --standalone --nproc_per_node=2'
LAUNCH, FAILS = (str(Path(__file__).parents[1] / name) for name in ('launch_two.py', 'process_fails.py'))
RANDOM = random.Random()  # another moment in every run of the suite
SECONDS = 300  # after which a run counts as hanging


@pytest.fixture(autouse=True)
def no_trace_of_launch(monkeypatch):
    """It sets the variable for processes that it starts; later tests start others."""
    monkeypatch.setenv('TORCHELASTIC_SIGNALS_TO_HANDLE', '')
    monkeypatch.delenv('TORCHELASTIC_SIGNALS_TO_HANDLE')


def children(process: subprocess.Popen) -> list[int]:
    return [int(number) for number in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()]


def wait_for_iteration(process: subprocess.Popen, log: Path, iteration: int) -> None:
    last, losses = log / 'snapshot' / 'epoch-last.pth', log / LOSSES
    wait_until(process, lambda: last.is_file() and losses.read_text().count('\n') >= iteration)


def test_an_elastic_restart_goes_on_by_itself(demo, trained_by_two, log):
    restarting = TORCHRUN.replace('--standalone', '--standalone --max-restarts=1')
    process = demo.start(f'{restarting} train.py', log, batch_size=4, bn_momentum=0.5)
    iteration, rank = RANDOM.randint(1, 6), RANDOM.randrange(2)
    wait_for_iteration(process, log, iteration)
    os.kill(children(process)[rank], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, (iteration, rank, stderr)
    assert stdout.count('going on from iteration') == 1
    assert difference(log, trained_by_two) is None, (iteration, rank)
    assert [path.name for path in log.glob('snapshot*')] == ['snapshot']


@pytest.mark.parametrize(
    ('how', 'status', 'says'),
    [
        ('killed', 128 + signal.SIGKILL, 'error: process 1 of 2 was ended by SIGKILL'),
        ('refuses', 2, 'error: x.png: of the second'),
        ('shut', 2, 'error: log: Permission denied'),
    ],
)
def test_a_process_that_fails_ends_all(tmp_path, monkeypatch, capfd, how, status, says):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    assert launch([sys.executable, FAILS, how], [torch.device('cpu')] * 2) == status
    stderr = capfd.readouterr().err
    told = [line for line in stderr.splitlines() if line.startswith('error: ')]
    assert sum(line.startswith(says) for line in told) == 1, stderr
    # The other one is ended first or tells what it lost; its traceback would bury the cause.
    assert all(line.startswith((says, 'error: another process of this run is gone')) for line in told)
    assert 'Traceback' not in stderr
    assert not list(tmp_path.iterdir())


def test_a_process_that_fails_ends_all_under_torchrun():
    command = [sys.executable, *TORCHRUN.split(), FAILS, 'raises']
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=SECONDS)
    assert result.returncode == 1
    assert 'ArithmeticError: of the second' in result.stderr
    assert '[rank0]' not in result.stderr


@pytest.mark.parametrize(
    ('start', 'status', 'name'),
    [(TORCHRUN, -signal.SIGUSR1, 'SIGTERM'), (LAUNCH, 128 + signal.SIGUSR1, 'SIGUSR1')],
    ids=['torchrun', '-d'],
)
def test_a_notice_to_the_launcher_saves_the_run(demo, log, start, status, name):
    """torchrun does not pass SIGUSR1 on unless told to: it ends, and its processes see that."""
    process = demo.start(f'{start} train.py', log, batch_size=4)
    wait_for_iteration(process, log, 1)
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == status, stderr
    assert f'stopped by {name}; go on with' in stderr
    assert 'Traceback' not in stderr
    iteration = load_file(log / 'snapshot' / 'epoch-last.pth')['iteration']
    assert iteration == (log / LOSSES).read_text().count('\n') < 8


def test_only_the_end_of_torchrun_stops_a_run(monkeypatch):
    """Not that of a shell which started train.py in the background."""
    for run, number in ((None, None), ('a name', signal.SIGTERM)):
        if run:
            monkeypatch.setenv('TORCHELASTIC_RUN_ID', run)
        stop = Stop()
        assert stop.number is None
        with monkeypatch.context() as orphaned:
            orphaned.setattr(os, 'getppid', lambda: 1)
            assert stop.number == number


@pytest.mark.parametrize(
    ('error', 'says'),
    [
        (
            'NCCL error in: x.cpp:94, unhandled system error, NCCL version 2.27\n'
            'ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error.\n'
            'Last error:\nError while creating shared memory segment /dev/shm/nccl-Vy5 (size 9637888)',
            'NCCL: Error while creating shared memory segment /dev/shm/nccl-Vy5 (size 9637888). Where another',
        ),
        ('Connection closed by peer. [x.cc:1]', 'another process of this run is gone (Connection closed by peer).'),
    ],
)
def test_the_cause_of_a_lost_connection_is_told(error, says):
    told = _connection_failure(torch.distributed.DistBackendError(error))
    assert str(told).startswith(says)
    assert told.alone


def test_runs_without_a_name_are_told_apart(monkeypatch):
    """Of two starts of torchrun with its own name for them, "none"; all attempts of one have the same parent."""
    assert run_id() is None
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    monkeypatch.setenv('WORLD_SIZE', '2')
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '1')
    assert run_id() == 'none'  # on several machines the parents are others
    monkeypatch.setenv('LOCAL_WORLD_SIZE', '2')
    first = run_id()
    assert first == run_id()
    monkeypatch.setattr(os, 'getppid', lambda: 1)
    assert run_id() != first


def test_a_restart_goes_on_with_its_own_run_alone(tmp_path, monkeypatch):
    """Whatever -c says for the first attempt; what another run left is for -c to take."""
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'mine')
    torch.save({'run': 'first'}, tmp_path / 'first.pth')
    last = tmp_path / 'epoch-last.pth'

    def found(resume):
        found = _find_checkpoint(resume, tmp_path, ALONE, [])
        return found[1] and (found[1]['run'], found[2])

    mine, other, first = ('mine', False), ('other', False), ('first', True)
    for run, restarts, expected in (
        ('mine', '1', [mine, mine, mine, mine]),
        ('other', '1', [None, other, first, other]),
        ('mine', '0', [None, mine, first, mine]),
    ):
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', restarts)
        torch.save({'run': run}, last)
        assert [found(resume) for resume in (None, 'auto', str(tmp_path / 'first.pth'), str(last))] == expected
    # Its history goes on from an older checkpoint too, where the last one is damaged.
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', '1')
    torch.save({'run': 'mine'}, tmp_path / 'epoch-3.pth')
    last.write_bytes(b'damaged')
    assert [found(resume) for resume in (None, str(tmp_path / 'first.pth'))] == [mine, mine]


def test_the_launcher_is_silent_and_waits_for_the_save(monkeypatch):
    from torch.distributed.launcher import api

    seen = []

    def started(config, command):
        seen.append(config.shutdown_timeout)
        return lambda *arguments: None

    monkeypatch.setattr(api, 'elastic_launch', started)
    assert launch(['true'], [torch.device('cpu')] * 2) == 0
    assert seen == [SAVING]
    names = [name for name in logging.root.manager.loggerDict if name.startswith('torch.distributed.elastic')]
    elastic = [logging.getLogger(name) for name in names]
    assert len(elastic) > 1
    assert not any(logger.isEnabledFor(logging.ERROR) for logger in elastic)


@pytest.mark.parametrize(
    ('exits', 'status', 'says'),
    [
        # (exit status, seconds after the first) by rank
        ([(-9, 31), (1, 0)], 1, ''),  # the first waited for a GPU
        ([(1, 1), (-9, 0)], 137, 'error: process 1 of 2 was ended by SIGKILL; is memory full?'),
        ([(2, 1), (1, 0)], 2, ''),
        ([(-15, 2), (1, 0)], 1, ''),
    ],
)
def test_the_process_that_failed_of_itself_tells_the_status(monkeypatch, capsys, exits, status, says):
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
    from torch.distributed.launcher import api

    def started(config, command):
        failures = {}
        for rank, (code, later) in enumerate(exits):
            failures[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=code, error_file='none')
            failures[rank].timestamp = 1000 + later

        def run(*arguments):
            raise ChildFailedError('train.py', failures)

        return run

    monkeypatch.setattr(api, 'elastic_launch', started)
    assert launch(['true'], [torch.device('cpu')] * 2) == status
    assert capsys.readouterr().err.strip() == says


def test_a_closed_terminal_ends_no_launcher_under_nohup(monkeypatch):
    from torch.distributed.launcher import api

    handled = []
    monkeypatch.setattr(
        api, 'elastic_launch', lambda config, command: handled.append(config.signals_to_handle) or (lambda *_: None)
    )
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launch(['true'], [torch.device('cpu')] * 2)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        launch(['true'], [torch.device('cpu')] * 2)
    finally:
        signal.signal(signal.SIGHUP, former)
    assert ['SIGHUP' in names.split(',') for names in handled] == [False, True]


@pytest.fixture
def meeting_point(monkeypatch):
    """The first of two processes by its variables, as a launcher of one's own sets them; a socket at their port."""
    with socket.create_server(('localhost', 0)) as taken:
        port = taken.getsockname()[1]
        for name, value in {'RANK': 0, 'LOCAL_RANK': 0, 'WORLD_SIZE': 2, 'MASTER_ADDR': 'localhost'}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv('MASTER_PORT', str(port))
        yield taken


def test_a_taken_port_is_told(demo, log, meeting_point):
    port = meeting_point.getsockname()[1]
    text = told(demo.call('train.py', log, batch_size=4))
    assert text.startswith(f'MASTER_PORT={port}: another program has this port; choose another one')
    assert not log.exists()


def test_machines_that_find_different_checkpoints_are_told_so(demo, trained, log, meeting_point, monkeypatch):
    meeting_point.close()
    (log / 'snapshot').mkdir(parents=True)
    (log / 'snapshot' / 'epoch-last.pth').hardlink_to(trained / 'snapshot' / 'epoch-2.pth')
    other, processes = log.with_name('other'), []
    for rank, folder in enumerate((log, other)):
        monkeypatch.setenv('RANK', str(rank))
        processes.append(demo.start('train.py', folder, '-c', 'auto', '--force', batch_size=4))
    says = 'snapshot: the processes found checkpoints of iterations 0 to 6; all machines need the same folder'
    for process, folder in zip(processes, (log, other), strict=True):
        stdout, stderr = process.communicate(timeout=SECONDS)
        assert (process.returncode, stdout, stderr) == (2, '', f'error: {folder}/{says}\n')
    assert not other.exists()
    assert [path.name for path in log.iterdir()] == ['snapshot']
