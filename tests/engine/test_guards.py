"""What must not pass silently while training: losses that are not finite, workers that die."""

import json
import math
import os
import shutil
import signal
import subprocess
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from furnace.base_model import load_file
from furnace.datasets.train_set import loaded, set_up_worker
from furnace.engine import trainer
from furnace.engine.command import telling
from furnace.engine.distributed import World
from furnace.engine.guard import Guard, Record
from furnace.engine.trainer import GRADIENTS
from furnace.seg_opr.loss import CrossEntropy
from furnace.utils.errors import RunError


@pytest.fixture
def nan_in(monkeypatch, small):
    """Called with numbers of iterations, of all runs of the test: the supervised loss of branch 2 is nan in them."""
    sums, calls, bad = CrossEntropy.sums, [], []

    def broken(self, logits, target):
        calls.append(None)
        total, count = sums(self, logits, target)
        # Each iteration has two of these.
        return (total * float('nan') if len(calls) in [2 * iteration for iteration in bad] else total), count

    monkeypatch.setattr(CrossEntropy, 'sums', broken)
    return bad.extend


@pytest.fixture
def nan_in_iteration_3(nan_in):
    nan_in([3])


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_and_images(demo, log, nan_in_iteration_3):
    outcome = demo.call('train.py', log)
    assert outcome.status == 1
    error = next(line for line in outcome.stderr.splitlines() if line.startswith('error:'))
    assert error.startswith(
        'error: iteration 3: loss is nan, sup_2 is nan, the gradient of branch 2 is nan; the images'
    )
    assert all(f'{stream}: train_' in error for stream in ('x', 'u0', 'u1'))
    content = load_file(log / 'snapshot' / 'epoch-last.pth')
    assert content['iteration'] == 2
    assert all(tensor.isfinite().all() for tensor in content['model'].values())


class Late(Guard):
    """Records that arrive three iterations later, as from a GPU that is behind."""

    def arrived(self, wait=False):
        kept = [] if wait else [self._pending.pop() for _ in range(min(3, len(self._pending)))]
        records = super().arrived(wait)
        self._pending.extend(reversed(kept))
        return records


@pytest.mark.parametrize('settings', [{'log_every': 100}, {'log_every': 100, 'nepochs': 1, 'niters_per_epoch': 3}])
def test_what_is_known_late_is_neither_saved_nor_lost(demo, log, monkeypatch, nan_in_iteration_3, settings):
    """The bad iteration 3 begins an epoch, and is the last of the run."""
    monkeypatch.setattr(trainer, 'Guard', Late)
    outcome = demo.call('train.py', log, **settings)
    assert outcome.status == 1
    assert 'error: iteration 3: loss is nan, sup_2 is nan, the gradient of branch 2 is nan; the ima' in outcome.stderr
    last = log / 'snapshot' / 'epoch-last.pth'
    assert last.exists() == (settings['log_every'] == 100 and 'nepochs' not in settings)
    assert not last.exists() or load_file(last)['iteration'] == 2


@pytest.mark.parametrize(
    ('values', 'told', 'alone'),
    [
        ({'loss': math.nan, GRADIENTS[0]: math.nan}, 'loss is nan, the gradient of branch 1 is nan; the images', True),
        ({'loss': 1.0, GRADIENTS[0]: math.nan}, 'the gradient of branch 1 is nan. The last', False),
    ],
)
def test_of_several_processes_the_one_where_it_began_names_its_images(values, told, alone):
    data = SimpleNamespace(names=lambda positions: {'x': [str(p) for p in positions]})
    config = SimpleNamespace(batch_size=4)
    one_of_two = SimpleNamespace(config=config, data=data, world=World(1, 2))
    error = trainer.Trainer._error(one_of_two, Record(5, True, values))
    assert f'iteration 6: {told}' in str(error)
    assert ('x: 22, 23' in str(error)) == error.alone == alone


def test_bad_steps_that_are_allowed_leave_no_trace(demo, log, nan_in_iteration_3):
    outcome = demo.call('train.py', log, max_bad_steps=1)
    assert outcome.status == 0, outcome.stderr
    state = load_file(log / 'snapshot' / 'epoch-last.pth')['model']
    assert all(tensor.isfinite().all() for tensor in state.values())
    assert state['branch1.backbone.bn1.num_batches_tracked'] == 4 * 7
    rows = [json.loads(line) for line in (log / 'losses.jsonl').read_text().splitlines()]
    assert [row['iteration'] for row in rows] == [1, 2, 4, 5, 6, 7, 8]


def test_bad_steps_are_counted_across_a_restart(demo, log, nan_in):
    """Iterations 3 and 4 are bad, and 4 again in the second run, which begins with it: two in a row."""
    nan_in([3, 4, 5])
    for arguments in ((), ('-c', 'auto')):
        outcome = demo.call('train.py', log, *arguments, max_bad_steps=1, checkpoint_minutes=0.0)
        assert outcome.status == 1
        assert 'error: iteration 4: loss is nan' in outcome.stderr
        assert load_file(log / 'snapshot' / 'epoch-last.pth')['iteration'] == 3


def test_an_epoch_that_ends_with_a_bad_step_is_told_without_losses_of_another(demo, log, nan_in_iteration_3):
    outcome = demo.call('train.py', log, max_bad_steps=1, nepochs=1, niters_per_epoch=3)
    assert outcome.status == 0, outcome.stderr
    line = next(line for line in outcome.stdout.splitlines() if line.startswith('epoch 1/1'))
    assert line.endswith(': the last iteration was skipped, it was not finite')


class Signalled(Dataset):
    """Its worker gets what a scheduler sends to all processes of a job, and the launcher's copy of it."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        return index


def test_signals_do_not_end_a_worker():
    loader = DataLoader(Signalled(), num_workers=1, worker_init_fn=set_up_worker)
    assert [batch.item() for batch in loaded(loader)] == [0, 1]


class Dying(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            os._exit(1)
        return torch.zeros(1)


def test_a_worker_that_dies_is_an_error_that_says_so():
    # PyTorch's handler of SIGCHLD raises wherever the program is.
    with pytest.raises(RunError, match=r'loader worker failed.*num_workers'), telling():
        list(loaded(DataLoader(Dying(), num_workers=1, worker_init_fn=set_up_worker)))


@pytest.mark.skipif(
    shutil.which('unshare') is None
    or subprocess.run(['unshare', '-rm', 'true'], stderr=subprocess.DEVNULL).returncode != 0,
    reason='this system lets nobody mount a small /dev/shm of his own',
)
def test_a_full_dev_shm_is_told_and_leaves_no_worker(demo, log):
    """Too small for what the workers load."""
    mount = 'mount -t tmpfs -o size=60k tmpfs /dev/shm && exec "$@"'
    outcome = demo.process('train.py', log, num_workers=1, shell=f'exec unshare -rm bash -c \'{mount}\' bash "$@"')
    assert outcome.status == 1, outcome.stderr
    told = [line for line in outcome.stderr.splitlines() if line.strip() and '/8 [' not in line]
    assert len(told) == 1, told
    assert told[0].startswith('error: a loader worker failed')
    assert 'No space left on device' in told[0]
    assert 'df -h' in told[0]
