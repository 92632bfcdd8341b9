"""train.py -c: going on from a checkpoint."""

import weakref

import torch
from ends import assert_same_model
from tiny import told

from furnace.base_model import load_file
from furnace.engine import train_command
from furnace.engine.trainer import Trainer


def test_go_on_from_a_file(trained, demo, log):
    """From another folder: what the own one holds is kept."""
    (log / 'snapshot').mkdir(parents=True)
    (log / 'snapshot' / 'epoch-last.pth').write_text('of another run')
    outcome = demo.call('train.py', log, '-c', trained / 'snapshot' / 'epoch-2.pth')
    assert outcome.status == 0, outcome.stderr
    assert 'going on from iteration 6' in outcome.stdout
    assert_same_model(trained / 'snapshot' / 'epoch-last.pth', log / 'snapshot' / 'epoch-last.pth')
    assert (log / 'snapshot_1' / 'epoch-last.pth').read_text() == 'of another run'


def test_a_checkpoint_is_not_kept_in_memory(trained, demo, log, monkeypatch):
    kept = []

    def load(path):
        content = load_file(path)
        kept.extend(map(weakref.ref, content['model'].values()))
        return content

    monkeypatch.setattr(train_command, 'load_file', load)
    monkeypatch.setattr(Trainer, 'run', lambda trainer, logger: kept.append([ref() is None for ref in kept]))
    assert demo.call('train.py', log, '-c', trained / 'snapshot' / 'epoch-2.pth').status == 0
    assert len(kept[-1]) > 100 and all(kept[-1])


def test_go_on_from_a_released_checkpoint(trained, demo, log, tmp_path):
    """It tells neither settings nor lists: with --force these are taken for its own."""
    content = load_file(trained / 'snapshot' / 'epoch-2.pth')
    path = tmp_path / 'released.pth'
    released = {name: content[name] for name in ('model', 'optimizer_1', 'optimizer_2', 'epoch', 'iteration')}
    torch.save({**released, 'iteration': 1}, path)  # within the epoch
    text = told(demo.call('train.py', log, '-c', path))
    assert text.startswith(f'{path}: tells neither settings nor lists') and '--force goes on after its epoch 2' in text
    outcome = demo.call('train.py', log, '-c', path, '--force')
    assert outcome.status == 0, outcome.stderr
    assert 'going on from iteration 6' in outcome.stdout
    assert_same_model(trained / 'snapshot' / 'epoch-last.pth', log / 'snapshot' / 'epoch-last.pth')
    torch.save({**released, 'epoch': 3}, path)
    text = f'{path}: nothing is left to train after it; set more epochs than 4'
    assert told(demo.call('train.py', log, '-c', path, '--force')) == text
    for epoch in ({}, {'epoch': -1}):
        torch.save({**{name: released[name] for name in ('model', 'optimizer_1', 'optimizer_2')}, **epoch}, path)
        assert told(demo.call('train.py', log, '-c', path, '--force')).startswith(f'{path}: tells no epoch')


def test_finished_training_is_left_alone(trained, demo, log, no_work):
    finished, last = trained / 'snapshot' / 'epoch-last.pth', log / 'snapshot' / 'epoch-last.pth'
    text = told(demo.call('train.py', log, '-c', finished))  # to another folder, where it would leave nothing
    assert text == f'{finished}: nothing is left to train after it; set more epochs than 4'
    last.parent.mkdir(parents=True)
    last.hardlink_to(finished)
    for which in 'auto', last:
        outcome = demo.call('train.py', log, '-c', which)
        assert (outcome.status, no_work) == (0, []), outcome.stderr
    assert [path.name for path in log.glob('snapshot*')] == ['snapshot']
