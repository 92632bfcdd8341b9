"""train.py as users run it: what it leaves behind, and that a run can be repeated."""

import hashlib
import json
import os
import re

import numpy as np
import pytest
import torch
from ends import assert_same_model
from full import full_disk
from tensorboardX.proto import event_pb2
from tiny import NAMES, SETTINGS

from furnace.base_model import load_file
from furnace.engine import checkpoint
from furnace.engine.trainer import Trainer

STATE = ('bad_steps', 'classes', 'config', 'lists', 'processes', 'run', 'scaler', 'validation', 'amp')
SHORT = {'nepochs': 1, 'niters_per_epoch': 1}


def logged_iterations(log):
    """The lines of a training's losses.jsonl, by iteration."""
    rows = [json.loads(line) for line in (log / 'losses.jsonl').read_text().splitlines()]
    return {row.pop('iteration'): row for row in rows}


def events(folder):
    """Scalars by (tag, step) in the event files of a folder."""
    scalars = {}
    for path in folder.glob('events.out.tfevents.*'):
        content = path.read_bytes()
        while content:
            # A record: its length (8 bytes), a checksum (4), the event, a checksum (4).
            length = int.from_bytes(content[:8], 'little')
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            scalars |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return scalars


def test_files_of_a_training(trained):
    # Every second epoch after nepochs // 6 = 0, and the last.
    assert sorted(os.listdir(trained / 'snapshot')) == ['.lock', 'epoch-2.pth', 'epoch-3.pth', 'epoch-last.pth']
    assert re.fullmatch(r'train_\d{4}(_\d\d){5}\.log', next(trained.glob('train_*.log')).name)
    assert {path.name for path in trained.iterdir() if path.is_dir()} == {'snapshot', 'tb'}


def test_checkpoint_content(trained, demo):
    for name, epoch in (('epoch-2', 2), ('epoch-3', 3), ('epoch-last', 3)):
        content = load_file(trained / 'snapshot' / f'{name}.pth')
        assert set(content) == {'model', 'optimizer_1', 'optimizer_2', 'epoch', 'iteration', *STATE}
        assert (content['epoch'], content['iteration']) == (epoch, 2 * (epoch + 1))
    assert content['config']['dataset_path'] == str(demo.data)
    assert content['classes'] == json.loads((demo.data / 'classes.json').read_text())
    for k in (1, 2):
        # The rate of the last step, for every group: the schedule reached the optimiser.
        rates = [group['lr'] for group in content[f'optimizer_{k}']['param_groups']]
        assert rates == pytest.approx([0.01 * (1 / 8) ** 0.9] * 6)
    assert_same_model(trained / 'snapshot' / 'epoch-3.pth', trained / 'snapshot' / 'epoch-last.pth')
    first, last = load_file(trained / 'snapshot' / 'epoch-2.pth')['model'], content['model']
    assert all(not torch.equal(first[name], last[name]) for name in first if 'conv' in name)


def test_log_and_event_files_hold_the_same_losses(trained):
    lines = logged_iterations(trained)
    assert list(lines) == list(range(1, 9))
    names = {'loss', 'sup_1', 'sup_2', 'overlap', 'inter', 'union', 'lr'}
    scalars = events(trained / 'tb')
    watched = {'speed/images_per_second', 'speed/data_wait', 'speed/memory_gib', *(f'disagreement/{n}' for n in NAMES)}
    tags = {f'train/{name}' for name in names} | watched
    assert set(scalars) == {(tag, step) for tag in tags for step in lines}
    for step, figures in lines.items():
        assert {name: scalars[f'train/{name}', step] for name in names} == pytest.approx(figures, rel=1e-6)
        assert sum(scalars[f'disagreement/{name}', step] for name in NAMES) == pytest.approx(1, abs=1e-5)
        assert scalars['speed/images_per_second', step] > 0
        assert 0 < scalars['speed/data_wait', step] < 1
        assert 0.1 < scalars['speed/memory_gib', step] < 50
    for figures in lines.values():
        parts = figures['sup_1'] + figures['sup_2'] + figures['inter'] + figures['union']
        assert figures['loss'] == pytest.approx(parts, rel=1e-5)
        assert 0 < figures['overlap'] <= 1
    assert [figures['lr'] for figures in lines.values()] == pytest.approx([0.01 * (1 - i / 8) ** 0.9 for i in range(8)])


def test_same_run_again_with_workers(trained, demo, log):
    """Another process, batches made by two workers: the same weights to the last bit."""
    assert demo.process('train.py', log, num_workers=2).status == 0
    assert_same_model(trained / 'snapshot' / 'epoch-last.pth', log / 'snapshot' / 'epoch-last.pth')
    assert logged_iterations(log) == logged_iterations(trained)


def test_another_seed_gives_other_losses(trained, demo, log, no_checkpoints):
    assert demo.call('train.py', log, **SHORT, seed=1).status == 0
    assert logged_iterations(log)[1]['loss'] != logged_iterations(trained)[1]['loss']


def test_training_without_continue_keeps_what_an_earlier_one_left(demo, log, small, monkeypatch):
    monkeypatch.setattr(checkpoint, 'save', lambda content, path: path.write_text(str(content['iteration'])))
    assert demo.call('train.py', log, **SHORT).status == 0
    (log / 'scores.jsonl').touch()
    outcome = demo.call('train.py', log, nepochs=2, niters_per_epoch=1)
    assert outcome.status == 0, outcome.stderr
    assert f'what an earlier run left is kept in {log}/snapshot_1' in outcome.stdout
    assert (log / 'snapshot_1' / 'epoch-last.pth').read_text() == '1'
    assert (log / 'snapshot' / 'epoch-last.pth').read_text() == '2'
    assert len(list(log.glob('train_*.log'))) == 2
    assert (log / 'losses.jsonl_1').read_text().startswith('{"iteration": 1,')
    assert ('train/loss', 1) in events(log / 'tb_1')
    assert (log / 'scores.jsonl_1').is_file()


def test_what_a_checkpoint_claims_was_written_before(demo, log, small, monkeypatch):
    found = []
    monkeypatch.setattr(checkpoint, 'save_also_as', lambda path, name: None)
    monkeypatch.setattr(checkpoint, 'save', lambda content, path: found.append(set(events(log / 'tb'))))
    assert demo.call('train.py', log, nepochs=2, niters_per_epoch=1, eval_every=2).status == 0
    one, two, scored = found
    assert ('train/loss', 1) in one and ('train/loss', 2) in two
    assert scored - two == {('val/mean_iou', 2), ('val/pixel_accuracy', 2)}


def test_snapshot_rule(demo, log, no_work):
    assert demo.call('train.py', log, nepochs=13, niters_per_epoch=1, snapshot_iter=2).status == 0
    kept = [name for name, _ in no_work if name != 'epoch-last.pth']
    assert kept == [f'epoch-{epoch}.pth' for epoch in (4, 6, 8, 10, 12)]
    assert len([name for name, _ in no_work if name == 'epoch-last.pth']) == 13


def test_last_epoch_is_kept(demo, log, no_work):
    assert demo.call('train.py', log, nepochs=12, niters_per_epoch=1, snapshot_iter=3).status == 0
    assert [name for name, _ in no_work if name != 'epoch-last.pth'] == [
        f'epoch-{epoch}.pth' for epoch in (3, 6, 9, 11)
    ]
    assert no_work[-1] == ('epoch-last.pth', 'epoch-11.pth')


def test_log_every(demo, log, no_work):
    assert demo.call('train.py', log, nepochs=2, niters_per_epoch=5, log_every=3).status == 0
    # Every third iteration, and the last of each epoch.
    assert list(logged_iterations(log)) == [3, 5, 6, 9, 10]


METHODS = {
    'cpcl': {'overlap', 'inter', 'union'},
    'cps': {'overlap', 'cps_1', 'cps_2'},
    'supervised': set(),
    'intersection': {'overlap', 'inter_1', 'inter_2'},
    'union': {'overlap', 'union_1', 'union_2'},
}


@pytest.mark.parametrize(
    ('method', 'settings'),
    [(method, {}) for method in METHODS]
    + [('cpcl', {'reweight': False}), ('cpcl', {'cutmix': False}), ('cps', {'cutmix': False}), ('cpcl', {'lr': 0.0})],
)
def test_methods(demo, log, small, no_checkpoints, method, settings):
    outcome = demo.call('train.py', log, nepochs=1, method=method, labeled_ratio=4, **settings)
    assert outcome.status == 0, outcome.stderr
    lines = logged_iterations(log)
    assert list(lines) == [1, 2]
    for figures in lines.values():
        assert set(figures) == {'loss', 'sup_1', 'sup_2', 'lr'} | METHODS[method]
        assert np.isfinite(list(figures.values())).all()
    unlabeled = 'no' if method == 'supervised' else '9'
    assert f'{method}, resnet18, on the CPU: 3 labelled and {unlabeled} unlabelled images' in outcome.stdout
    assert ', 1 epochs of 2 iterations, batch 2, float32, weights: None\n' in outcome.stdout
    assert re.search(r'^epoch 1/1, \d+ s, \S+ images/s, data wait \d+%: loss ', outcome.stdout, re.MULTILINE)


def test_settings_reach_the_step(demo, log, small, no_checkpoints):
    """The first steps of runs that differ in one of them."""
    found = {}
    for name, value in {
        'log_every': 1,
        'reweight': False,
        'unsup_weight': 2.0,
        'cutmix': False,
        'warm_up_epoch': 2,
    }.items():
        assert demo.call('train.py', log / name, nepochs=4, niters_per_epoch=3, **{name: value}).status == 0
        found[name], second = (logged_iterations(log / name)[iteration] for iteration in (1, 2))
    plain = found['log_every']
    assert {figures['sup_1'] for figures in found.values()} == {plain['sup_1']}
    assert found['reweight']['union'] > plain['union']  # no pixel weighs less than 1
    unsupervised = plain['loss'] - plain['sup_1'] - plain['sup_2']
    assert found['unsup_weight']['loss'] - plain['loss'] == pytest.approx(unsupervised, rel=1e-3)
    assert found['cutmix']['union'] != plain['union']
    assert found['warm_up_epoch']['lr'] == 0
    assert second['lr'] == pytest.approx(SETTINGS['lr'] / 6)  # after one of the 6 iterations of 2 epochs


def test_supervised_needs_no_unlabelled_list(demo, log, data, no_work):
    (data / 'config_new' / 'subset_train' / 'train_aug_unlabeled_1-2.txt').unlink()
    assert demo.call('train.py', log, **SHORT, dataset_path=data, method='supervised').status == 0
    assert demo.call('train.py', log, **SHORT, dataset_path=data).status == 2


def test_fewer_images_than_a_batch(demo, log, small, data, no_checkpoints):
    subset = data / 'config_new' / 'subset_train'
    for kind in ('labeled', 'unlabeled'):
        path = subset / f'train_aug_{kind}_1-2.txt'
        path.write_text(''.join(path.read_text().splitlines(keepends=True)[:2]))
    outcome = demo.call('train.py', log, **SHORT, dataset_path=data, batch_size=3)
    assert outcome.status == 0, outcome.stderr
    for kind in ('labelled', 'unlabelled'):
        assert f'only 2 {kind} images for batches of 3: they are repeated' in outcome.stdout
    assert np.isfinite(list(logged_iterations(log)[1].values())).all()


def test_interrupt(demo, log, monkeypatch):
    def interrupted(trainer, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, 'iterate', interrupted)
    outcome = demo.call('train.py', log)
    assert outcome.status == 130
    assert outcome.stderr.endswith('interrupted\n')
    assert 'Traceback' not in outcome.stderr


def test_pretrained_weights_fill_both_backbones(demo, log, tmp_path, trained, monkeypatch):
    """A file with one branch's backbone: both branches start from it, their heads from the seed; the log names it."""
    prefix = 'branch1.backbone.'
    there = load_file(trained / 'snapshot' / 'epoch-2.pth')['model']
    weights = {name.removeprefix(prefix): value for name, value in there.items() if name.startswith(prefix)}
    path = tmp_path / 'weights.pth'
    torch.save({**weights, 'fc.weight': torch.rand(2, 2)}, path)
    seen = []

    def run(trainer, logger):
        seen.append({name: value.clone() for name, value in trainer.network.state_dict().items()})

    monkeypatch.setattr(Trainer, 'run', run)
    outcome = demo.call('train.py', log, pretrained_model=path)
    assert outcome.status == 0
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f', weights: {path} (SHA-256 {sha256}), without fc\n' in outcome.stdout
    for name, value in weights.items():
        for branch in (1, 2):
            assert torch.equal(seen[0][f'branch{branch}.backbone.{name}'], value), name
    heads = [seen[0][f'branch{branch}.classifier.weight'] for branch in (1, 2)]
    assert not torch.equal(*heads)


def test_full_disk_while_training(demo, log, small, monkeypatch):
    monkeypatch.setattr(torch, 'save', full_disk)
    outcome = demo.call('train.py', log, **SHORT)
    assert outcome.status == 1
    says = f'{log}/snapshot/epoch-0.pth: the checkpoint cannot be written: No space left on device; make room'
    assert outcome.stderr.splitlines()[-1].startswith(f'error: {says}')
