"""Runs that are killed, stopped or damaged end as if nothing had happened."""

import json
import os
import pty
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from ends import assert_same_model, difference
from tiny import wait_until

from furnace.base_model import load_file
from furnace.engine import signals
from furnace.engine.trainer import Trainer

RANDOM = random.Random()  # another moment in every run of the suite; a failing assertion names it


def lines(log: Path) -> list[dict]:
    path = log / 'losses.jsonl'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


@pytest.mark.parametrize('moment', ['an iteration', 'a save'])
def test_killed_and_resumed_equals_never_stopped(demo, trained, log, moment):
    settings = {'checkpoint_minutes': 0.0, 'num_workers': RANDOM.choice([0, 1])}
    process = demo.start('train.py', log, **settings)
    last, wanted = log / 'snapshot' / 'epoch-last.pth', RANDOM.randint(2, 7)
    wait_until(process, lambda: last.is_file() and len(lines(log)) >= wanted)
    if moment == 'a save':
        wait_until(process, lambda: list((log / 'snapshot').glob('.tmp-*-epoch-last.pth')))
    process.kill()
    process.communicate()
    outcome = demo.call('train.py', log, '-c', 'auto')
    assert outcome.status == 0, (wanted, settings, outcome.stderr)
    assert 'going on from iteration' in outcome.stdout
    assert difference(log, trained) is None, (wanted, settings)
    assert not list((log / 'snapshot').glob('.tmp*'))


def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(demo, trained, log):
    process = demo.start('train.py', log)
    wait_until(process, lambda: lines(log))
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert 'stopped by SIGTERM; go on with: python train.py -c auto' in stderr
    assert load_file(log / 'snapshot' / 'epoch-last.pth')['iteration'] == lines(log)[-1]['iteration'] < 8
    assert demo.call('train.py', log, '-c', 'auto').status == 0
    assert difference(log, trained) is None


def test_a_terminal_that_is_closed_stops_the_run_and_takes_no_worker_before(demo, log):
    """The system signals the whole group, as at Ctrl-C, and as torchrun's launcher or a cluster may do."""
    ours, its = pty.openpty()
    os.set_blocking(ours, False)
    process = demo.start('train.py', log, num_workers=2, terminal=its)
    os.close(its)

    def logged():
        with suppress(OSError):  # what it says must not fill the terminal
            os.read(ours, 1 << 16)
        return lines(log)

    wait_until(process, logged)
    os.close(ours)
    assert process.wait(timeout=300) == 128 + signal.SIGHUP
    assert load_file(log / 'snapshot' / 'epoch-last.pth')['iteration'] == lines(log)[-1]['iteration'] < 8


def test_a_reader_that_ends_stops_nothing(demo, log):
    """As a ``tee`` that is killed; after this line the bar of a score is drawn."""
    shell = '"$@" 2>&1 | sed -u "\\#epoch 1/2#q"; exit ${PIPESTATUS[0]}'
    process = demo.start('train.py', log, shell=shell, nepochs=2, niters_per_epoch=1, eval_every=1)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, 'epoch 1/2' in stdout.splitlines()[-1], stderr) == (0, True, '')
    assert len(lines(log)) == 2
    assert 'done; evaluate with' in next(log.glob('train_*.log')).read_text()
    assert load_file(log / 'snapshot' / 'epoch-last.pth')['iteration'] == 2


def test_under_nohup_a_closed_terminal_stops_nothing():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.number is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_copy_of_a_signal_is_the_same_stop_and_another_one_kills(monkeypatch):
    """A scheduler may send it to each process of a job, and to the launcher, which passes it on."""
    now, killed = [0.0], []
    monkeypatch.setattr(signals, 'monotonic', lambda: now[0])
    monkeypatch.setattr(os, 'kill', lambda *arguments: killed.append(arguments))
    with signals.Stop() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (stop.number, killed) == (signal.SIGTERM, [])
        now[0] = 3.0
        signal.raise_signal(signal.SIGINT)
        assert killed == [(os.getpid(), signal.SIGINT)]
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def with_checkpoint(trained: Path, log: Path, *names: str) -> Path:
    folder = log / 'snapshot'
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes((trained / 'snapshot' / name).read_bytes())
    return folder


def test_changed_settings_are_refused_unless_forced(demo, trained, log):
    with_checkpoint(trained, log, 'epoch-last.pth')
    outcome = demo.call('train.py', log, '-c', 'auto', lr=0.5, nepochs=5, log_every=2, image_every=2)
    assert outcome.status == 2
    assert 'lr: was ' in outcome.stderr and 'nepochs: was 4, is 5' in outcome.stderr
    assert 'log_every' not in outcome.stderr
    assert 'image_every' not in outcome.stderr
    assert not list(log.glob('*.log'))
    assert demo.call('train.py', log, '-c', 'auto', '--force', nepochs=5).status == 0
    assert load_file(log / 'snapshot' / 'epoch-last.pth')['iteration'] == 10


def test_forced_settings_reach_the_optimiser(demo, trained, log, monkeypatch):
    groups = []
    monkeypatch.setattr(Trainer, 'run', lambda trainer, logger: groups.extend(trainer.optimizers.each[0].param_groups))
    arguments = ('-c', trained / 'snapshot' / 'epoch-2.pth', '--force')
    assert demo.call('train.py', log, *arguments, momentum=0.5, weight_decay=0.25).status == 0
    assert {group['momentum'] for group in groups} == {0.5}
    assert {group['weight_decay'] for group in groups} == {0.0, 0.25}


def test_an_older_checkpoint_begins_a_history_of_its_own(demo, trained, log):
    folder = with_checkpoint(trained, log, 'epoch-2.pth', 'epoch-3.pth', 'epoch-last.pth')
    outcome = demo.call('train.py', log, '-c', folder / 'epoch-2.pth')
    assert outcome.status == 0, outcome.stderr
    assert [row['iteration'] for row in lines(log)] == [7, 8]
    assert sorted(path.name for path in (log / 'snapshot_1').iterdir()) == [
        '.lock',
        'epoch-2.pth',
        'epoch-3.pth',
        'epoch-last.pth',
    ]
    assert_same_model(log / 'snapshot' / 'epoch-last.pth', trained / 'snapshot' / 'epoch-last.pth')


def test_a_changed_list_is_refused(demo, trained, log, data):
    with_checkpoint(trained, log, 'epoch-last.pth')
    source = data / 'config_new' / 'subset_train' / 'train_aug_labeled_1-2.txt'
    source.write_text(''.join(source.read_text().splitlines(keepends=True)[::-1]))
    outcome = demo.call('train.py', log, '-c', 'auto', dataset_path=data)
    assert outcome.status == 2
    assert 'the labelled list' in outcome.stderr


@pytest.mark.parametrize('damage', ['truncated', 'a flipped bit'])
def test_a_damaged_last_checkpoint_is_named_and_the_newest_good_one_used(demo, trained, log, damage):
    folder = with_checkpoint(trained, log, 'epoch-2.pth', 'epoch-3.pth')
    content = bytearray((folder / 'epoch-3.pth').read_bytes())
    if damage == 'truncated':
        del content[len(content) // 2 :]
    else:
        content[len(content) // 2] ^= 1
    for name in ('epoch-3.pth', 'epoch-last.pth'):
        (folder / name).write_bytes(content)
    outcome = demo.call('train.py', log, '-c', 'auto')
    assert outcome.status == 0, outcome.stderr
    assert str(folder / 'epoch-last.pth') in outcome.stdout
    assert f'going on from iteration 6 of {folder / "epoch-2.pth"}' in outcome.stdout
    assert_same_model(log / 'snapshot' / 'epoch-last.pth', trained / 'snapshot' / 'epoch-last.pth')


def test_checkpoints_that_are_all_damaged_are_not_passed_over(demo, log):
    (log / 'snapshot').mkdir(parents=True)
    (log / 'snapshot' / 'epoch-last.pth').write_bytes(b'nothing')
    outcome = demo.call('train.py', log, '-c', 'auto')
    assert outcome.status == 2
    assert 'none of its 1 checkpoints can be read' in outcome.stderr


def test_the_number_of_snapshots_is_bounded(demo, log, small):
    assert demo.call('train.py', log, snapshot_iter=1, keep_snapshots=2).status == 0
    assert sorted(path.name for path in (log / 'snapshot').iterdir()) == [
        '.lock',
        'epoch-2.pth',
        'epoch-3.pth',
        'epoch-last.pth',
    ]
