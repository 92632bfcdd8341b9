"""Scores while training: they change nothing, keep the best, and survive an interruption."""

import json
import os
import signal

import pytest
import torch

from furnace.base_model import load_file
from furnace.engine.evaluator import Evaluator
from furnace.engine.trainer import Trainer
from furnace.utils.errors import RunError


@pytest.fixture
def means(monkeypatch, small):
    """Confusion matrices with these mean IoUs, one call after the other; without them the real ones."""
    wanted = []
    real = Evaluator.confusion

    def confusion(self, branch, title='', stopped=lambda: False):
        found = real(self, branch, title, stopped)
        if found is None or not wanted:
            return found
        right = wanted.pop(0)
        return torch.eye(3, dtype=torch.int64) * right + (1 - torch.eye(3, dtype=torch.int64)) * (100 - right)

    monkeypatch.setattr(Evaluator, 'confusion', confusion)
    return wanted


def rows(log, name):
    return [json.loads(line) for line in (log / name).read_text().splitlines()]


@pytest.mark.parametrize('whole', [False, True])
def test_for_whole_images_no_kernels_are_tried_out(demo, log, means, monkeypatch, whole):
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', True)
    score, seen = Evaluator.confusion, []

    def confusion(self, *arguments, **options):
        seen.append(torch.backends.cudnn.benchmark)
        return score(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, 'confusion', confusion)
    assert demo.call('train.py', log, eval_every=4, eval_whole=whole).status == 0
    assert seen == [not whole]
    assert torch.backends.cudnn.benchmark


def test_scores_change_no_loss(demo, trained, log):
    outcome = demo.call('train.py', log, eval_every=4)
    assert outcome.status == 0, outcome.stderr
    assert rows(log, 'losses.jsonl') == rows(trained, 'losses.jsonl')
    scores = rows(log, 'scores.jsonl')
    assert [row['iteration'] for row in scores] == [8]
    assert set(scores[0]) == {'iteration', 'mean_iou', 'pixel_accuracy', 'iou'}
    assert list(scores[0]['iou']) == ['left', 'right', 'below']
    last = load_file(log / 'snapshot' / 'epoch-last.pth')
    want = load_file(trained / 'snapshot' / 'epoch-last.pth')
    assert all(torch.equal(tensor, want['model'][name]) for name, tensor in last['model'].items())
    assert last['validation']['last'] == {'epoch': 3, 'iteration': 8, 'mean_iou': scores[-1]['mean_iou']}

    outcome = demo.call('eval.py', log)
    assert outcome.status == 0, outcome.stderr
    result = json.loads((log / 'val_last.json').read_text())['results'][0]
    assert result['mean_iou'] == scores[-1]['mean_iou']


def test_the_best_is_kept_and_told_from_the_last(demo, log, means):
    means += [90, 70, 80]
    outcome = demo.call('train.py', log, eval_every=1, keep_snapshots=1, nepochs=3, niters_per_epoch=1)
    assert outcome.status == 0, outcome.stderr
    scores = [row['mean_iou'] for row in rows(log, 'scores.jsonl')]
    assert max(scores) == scores[0]
    content = load_file(log / 'snapshot' / 'epoch-best.pth')
    assert content['epoch'] == content['validation']['best']['epoch'] == 0
    assert load_file(log / 'snapshot' / 'epoch-last.pth')['validation']['best']['epoch'] == 0
    last, best = (f'{100 * value:.2f}' for value in (scores[2], scores[0]))
    assert f'last: {last} (epoch 2); best: {best} (epoch 0), which was chosen on the same images' in outcome.stdout

    outcome = demo.call('eval.py', log, '-e', 'best')
    assert outcome.status == 0, outcome.stderr
    assert 'epoch-best.pth was chosen by its score on the validation list' in outcome.stdout


def test_every_second_epoch_and_the_last(demo, log, means):
    means += [60] * 3
    assert demo.call('train.py', log, eval_every=2, nepochs=3, niters_per_epoch=1).status == 0
    assert [row['iteration'] for row in rows(log, 'scores.jsonl')] == [2, 3]


def test_a_signal_ends_the_evaluation_which_is_made_up_for(demo, log, monkeypatch, means):
    """SIGTERM comes while epoch 1 is scored."""
    means += [60, 90, 70]
    short = {'nepochs': 3, 'niters_per_epoch': 1}
    confusion = Evaluator.confusion

    def interrupted(self, branch, title='', pictures=None, stopped=lambda: False):
        if title == 'epoch 1':
            os.kill(os.getpid(), signal.SIGTERM)
        return confusion(self, branch, title, stopped)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, 'confusion', interrupted)
        assert demo.call('train.py', log, eval_every=1, **short).status == 128 + 15
    assert [row['iteration'] for row in rows(log, 'scores.jsonl')] == [1]
    outcome = demo.call('train.py', log, '-c', 'auto', eval_every=1, **short)
    assert outcome.status == 0, outcome.stderr
    assert [row['iteration'] for row in rows(log, 'scores.jsonl')] == [1, 2, 3]
    assert load_file(log / 'snapshot' / 'epoch-best.pth')['epoch'] == 1


def test_a_score_whose_save_fails_is_not_there_twice(demo, log, monkeypatch, means):
    means += [60, 90, 70]
    short = {'eval_every': 1, 'nepochs': 2, 'niters_per_epoch': 1}
    save = Trainer.save

    def failing(self, *best):
        if best:
            raise RunError('the disk is full')
        save(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, 'save', failing)
        assert demo.call('train.py', log, **short).status == 1
    assert [row['iteration'] for row in rows(log, 'scores.jsonl')] == [1]
    outcome = demo.call('train.py', log, '-c', 'auto', **short)
    assert outcome.status == 0, outcome.stderr
    assert [row['iteration'] for row in rows(log, 'scores.jsonl')] == [1, 2]


def test_without_it_there_is_no_best(demo, log, trained):
    assert not (trained / 'snapshot' / 'epoch-best.pth').exists()
    outcome = demo.call('eval.py', log, '-e', 'best', snapshot_dir=trained / 'snapshot')
    assert outcome.status == 2
    assert 'epoch-best.pth: no such checkpoint; training with C.eval_every keeps the best' in outcome.stderr


@pytest.mark.parametrize('eval_every', [0, 1])
def test_the_best_of_another_run_is_not_this_one_s(demo, log, means, eval_every):
    means += [90, 60]
    assert demo.call('train.py', log, eval_every=1, nepochs=1, niters_per_epoch=1).status == 0
    first, second = log / 'snapshot' / 'epoch-0.pth', log / 'second'
    outcome = demo.call(
        'train.py', second, '-c', first, '--force', nepochs=2, niters_per_epoch=1, eval_every=eval_every
    )
    assert outcome.status == 0, outcome.stderr
    assert load_file(first)['validation']['best']
    found = load_file(second / 'snapshot' / 'epoch-last.pth')['validation']
    assert found['best']['epoch'] == 1 if eval_every else found is None
    assert (second / 'snapshot' / 'epoch-best.pth').exists() == bool(eval_every)


def test_a_validation_list_that_cannot_be_used_is_told_before_training(demo, log, tmp_path):
    (tmp_path / 'val.txt').write_text('/images/val/nothing.png\t/segmentation/val/nothing.png\n')
    outcome = demo.call('train.py', log, eval_every=1, eval_source=tmp_path / 'val.txt')
    assert outcome.status == 2
    assert 'val.txt: 2 of 2 files are missing' in outcome.stderr
    assert not log.exists()


def test_a_best_of_another_protocol_does_not_count_and_one_of_a_break_does(demo, log, means):
    means += [90, 60, 50]
    assert demo.call('train.py', log, eval_every=1, nepochs=1, niters_per_epoch=1).status == 0
    for settings in {'eval_every': 0, 'nepochs': 2}, {'eval_every': 1, 'nepochs': 3}:
        outcome = demo.call('train.py', log, '-c', 'auto', '--force', niters_per_epoch=1, **settings)
        assert outcome.status == 0, outcome.stderr
    assert load_file(log / 'snapshot' / 'epoch-best.pth')['epoch'] == 0
    outcome = demo.call(
        'train.py', log, '-c', 'auto', '--force', eval_every=1, nepochs=4, niters_per_epoch=1, eval_flip=True
    )
    assert outcome.status == 0, outcome.stderr
    assert load_file(log / 'snapshot' / 'epoch-best.pth')['epoch'] == 3
