"""Two trainings in one folder."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import told

from furnace.engine import checkpoint
from furnace.engine.claim import claimed
from furnace.engine.trainer import Trainer
from furnace.utils.errors import UserError

HOLDS = """
import os, sys
from pathlib import Path
from furnace.engine.claim import claimed
with claimed(Path(sys.argv[1])):
    if os.fork():  # the other one is as a loader worker, which may outlive it
        print('claimed', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def claim():
    """A process that claims a folder until it ends."""
    processes = []

    def start(folder):
        command = [sys.executable, '-c', HOLDS, str(folder)]
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == 'claimed\n'
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_training_changes_nothing(demo, trained, log, claim):
    assert demo.call('train.py', log, nepochs=1, niters_per_epoch=1).status == 0
    other = claim(log)
    before = sorted(log.rglob('*'))
    text = told(demo.call('train.py', log, nepochs=1, niters_per_epoch=1))
    assert text.startswith(f'{log}: a training runs there (process {other.pid} on ')
    assert sorted(log.rglob('*')) == before


@pytest.mark.parametrize('other_log', [False, True])
def test_folders_of_checkpoints_are_claimed_too(demo, log, claim, no_work, other_log):
    """Before and after one is set aside; another log folder does not help."""
    snapshots = log / 'snapshot'
    changes = {'snapshot_dir': snapshots, 'nepochs': 1, 'niters_per_epoch': 1}
    assert demo.call('train.py', log, **changes).status == 0
    (snapshots / 'epoch-last.pth').touch()
    other = claim(snapshots)
    text = told(demo.call('train.py', log / 'other' if other_log else log, **changes))
    assert text.startswith(f'{snapshots}: a training runs there (process {other.pid} on ')
    assert not list(log.glob('snapshot_*'))
    other.kill()
    other.wait()
    held = []

    def run(trainer, logger):
        with pytest.raises(AssertionError):
            claim(snapshots)
        held.append(snapshots)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, 'run', run)
        assert demo.call('train.py', log, **changes).status == 0
    assert list(log.glob('snapshot_1/epoch-last.pth'))
    assert held


def test_checkpoints_are_looked_for_when_no_other_training_can_write_one(demo, log, claim, no_work, monkeypatch):
    assert demo.call('train.py', log, nepochs=1, niters_per_epoch=1).status == 0
    monkeypatch.setattr(checkpoint, 'newest_good', None)
    claim(log)
    assert 'a training runs there' in told(demo.call('train.py', log, '-c', 'auto'))


@pytest.mark.parametrize('place', ['.', '..'])
def test_checkpoints_beside_the_log_are_refused(refused, log, place):
    """They are moved as a whole when a new run begins."""
    text = refused('train.py', snapshot_dir=log / place, log_dir=log)
    assert text == f'{log / place}: is or holds C.log_dir ({log}); choose another C.snapshot_dir'


@pytest.mark.parametrize('arguments', [(), ('-c', 'auto')])
def test_a_training_holds_its_folders_until_it_ends(demo, log, claim, small, monkeypatch, arguments):
    def run(trainer, logger):
        for folder in (log, log / 'snapshot'):
            command = [sys.executable, '-c', HOLDS, str(folder)]
            root = Path(__file__).resolve().parents[2]
            other = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True)
            assert f'{folder}: a training runs there (process {os.getpid()} on ' in other.stderr

    assert not arguments or demo.call('train.py', log, nepochs=1, niters_per_epoch=1).status == 0
    monkeypatch.setattr(Trainer, 'run', run)
    assert demo.call('train.py', log, *arguments, nepochs=1, niters_per_epoch=1).status == 0
    for folder in (log, log / 'snapshot'):
        claim(folder)


def test_where_a_file_system_knows_no_locks_nothing_is_claimed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', refuse)
    with claimed(tmp_path):
        pass


def test_a_killed_process_claims_nothing(tmp_path, claim):
    other = claim(tmp_path)
    with pytest.raises(UserError), claimed(tmp_path):
        pass
    other.kill()
    other.wait()
    with claimed(tmp_path):
        assert (tmp_path / '.lock').read_text().startswith('process ')
