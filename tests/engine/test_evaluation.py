"""eval.py as users run it: scores, logs and pictures."""

import json
import os
import re

import numpy as np
import pytest
from PIL import Image
from recipes import ROOT
from tiny import told

from furnace.engine import eval_command
from furnace.engine.config import load_config
from furnace.engine.evaluator import best

PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[:3] = (250, 40, 10), (10, 190, 60), (50, 20, 210)
PALETTE[255] = 255


def mean_iou(confusion):
    """By definition, class for class."""
    confusion, ious = np.array(confusion), []
    for c in range(len(confusion)):
        union = confusion[c, :].sum() + confusion[:, c].sum() - confusion[c, c]
        if union:
            ious.append(confusion[c, c] / union)
    return np.mean(ious)


@pytest.fixture(scope='module')
def evaluated(trained, demo, tmp_path_factory):
    """`eval.py -e last -s -p DIR -v`: its outcome and the pictures' folder."""
    pictures = tmp_path_factory.mktemp('pictures') / 'new'
    outcome = demo.process(
        'eval.py', demo.root / 'last', '-e', 'last', '-s', '-p', pictures, '-v', snapshot_dir=trained / 'snapshot'
    )
    assert outcome.status == 0, outcome.stderr
    return outcome, demo.root / 'last', pictures


def results(log):
    return json.loads((log / 'val_last.json').read_text())['results']


def test_files_of_an_evaluation(evaluated):
    outcome, log, _ = evaluated
    path = next(path for path in log.glob('val_*.log') if not path.is_symlink())
    assert re.fullmatch(r'val_\d{4}(_\d\d){5}\.log', path.name)
    assert (log / 'val_last.log').is_symlink()
    assert (log / 'val_last.log').resolve() == path
    assert (log / 'val_last.json').resolve() == path.with_suffix('.json')
    for line in outcome.stdout.splitlines():
        assert line in path.read_text()
    assert not (log / 'pred_imgs').exists()


def test_scores(evaluated, demo, trained):
    outcome, log, pictures = evaluated
    (result,) = results(log)
    assert (result['checkpoint'], result['epoch']) == (str(trained / 'snapshot' / 'epoch-last.pth'), 3)
    assert result['trained'] == {'method': 'cpcl', 'backbone': 'resnet18', 'labeled_ratio': 2, 'seed': 12345}
    assert (result['branch'], result['images'], list(result['iou'])) == (1, 3, ['left', 'right', 'below'])
    # Counted anew from the written predictions.
    confusion = np.zeros((3, 3), int)
    for i in range(3):
        label = np.array(Image.open(demo.data / f'segmentation/val/val_0{i}_gtFine.png'))
        prediction = np.array(Image.open(pictures / f'raw/val_0{i}.png'))
        for true in range(3):
            for guess in range(3):
                confusion[true, guess] += ((label == true) & (prediction == guess)).sum()
    assert result['confusion'] == confusion.tolist()
    assert confusion.sum() == 3 * 46 * 64  # without the two void rows
    assert result['mean_iou'] == pytest.approx(mean_iou(confusion))
    assert result['pixel_accuracy'] == pytest.approx(confusion.trace() / confusion.sum())
    assert re.search(rf'^mean IoU +{100 * result["mean_iou"]:.2f}$', outcome.stdout, re.MULTILINE)


def test_running_score(evaluated):
    outcome, log, _ = evaluated
    assert f'mean IoU {100 * results(log)[0]["mean_iou"]:.2f}' in outcome.stderr


def test_pictures(evaluated, demo):
    _, _, pictures = evaluated
    names = [f'val_0{i}.png' for i in range(3)]
    assert sorted(path.name for path in pictures.iterdir()) == ['color', 'raw', *names]
    for name in names:
        image = np.array(Image.open(demo.data / 'images' / 'val' / name))
        label = np.array(Image.open(demo.data / 'segmentation' / 'val' / name.replace('.', '_gtFine.')))
        with Image.open(pictures / 'raw' / name) as file:
            assert file.mode == 'L'
            ids = np.array(file)
        assert ids.shape == (48, 64)
        assert ids.max() < 3
        with Image.open(pictures / 'color' / name) as file:
            assert file.mode == 'P'
            np.testing.assert_array_equal(np.array(file), ids)
            np.testing.assert_array_equal(np.array(file.convert('RGB')), PALETTE[ids])
        panels = np.array(Image.open(pictures / name))
        assert panels.shape == (48, 3 * 64 + 2 * 8, 3)
        np.testing.assert_array_equal(panels[:, :64], image)
        np.testing.assert_array_equal(panels[:, 72:136], PALETTE[ids])
        np.testing.assert_array_equal(panels[:, 144:], PALETTE[label])
        assert (panels[:2, 144:] == 255).all()  # void
    assert len(np.unique([np.array(Image.open(pictures / 'raw' / name)) for name in names])) > 1


def test_one_epoch(evaluated, demo, trained, log):
    outcome = demo.call('eval.py', log, '-e', '3', snapshot_dir=trained / 'snapshot')
    assert outcome.status == 0, outcome.stderr
    assert results(log)[0]['confusion'] == results(evaluated[1])[0]['confusion']
    assert 'best' not in outcome.stdout
    assert not (log / 'pred_imgs').exists()


def test_file_and_default_folder_of_pictures(evaluated, demo, trained, log):
    path = trained / 'snapshot' / 'epoch-3.pth'
    outcome = demo.call('eval.py', log, '-e', path, '-d', 'cpu', '-s', '--branch', '2')
    assert outcome.status == 0, outcome.stderr
    (result,) = results(log)
    assert (result['checkpoint'], result['branch']) == (str(path), 2)
    assert result['confusion'] != results(evaluated[1])[0]['confusion']
    assert (log / 'pred_imgs' / 'val_02.png').is_file()


def assert_best_is_named(outcome, found):
    top = max(found, key=lambda result: mean_iou(result['confusion']))
    assert (
        f'best: {top["checkpoint"]}, branch {top["branch"]}: mean IoU {100 * top["mean_iou"]:.2f}\n' in outcome.stdout
    )


def test_range_with_both_branches(evaluated, demo, trained, log):
    outcome = demo.call('eval.py', log, '-e', '2-3', '--branch', 'both', '-s', snapshot_dir=trained / 'snapshot')
    assert outcome.status == 0, outcome.stderr
    found = results(log)
    assert [(result['epoch'], result['branch']) for result in found] == [(2, 1), (2, 2), (3, 1), (3, 2)]
    assert found[2]['confusion'] == results(evaluated[1])[0]['confusion']
    assert len({str(result['confusion']) for result in found}) == 4
    assert_best_is_named(outcome, found)
    assert sorted(path.name for path in (log / 'pred_imgs').iterdir()) == [
        f'epoch-{epoch}-branch{branch}' for epoch in (2, 3) for branch in (1, 2)
    ]


def test_open_range(evaluated, demo, trained, log):
    outcome = demo.call('eval.py', log, '-e', '1-', snapshot_dir=trained / 'snapshot')
    assert outcome.status == 0, outcome.stderr
    assert [result['epoch'] for result in results(log)] == [2, 3]
    assert_best_is_named(outcome, results(log))


def test_epochs_are_scored_in_their_order(demo, trained, log):
    """Epoch 10 comes after epoch 2, not before it."""
    folder = log / 'snapshot'
    folder.mkdir(parents=True)
    for number, source in ((10, 3), (2, 2)):
        os.link(trained / 'snapshot' / f'epoch-{source}.pth', folder / f'epoch-{number}.pth')
    assert demo.call('eval.py', log, '-e', '0-').status == 0
    assert [os.path.basename(result['checkpoint']) for result in results(log)] == ['epoch-2.pth', 'epoch-10.pth']


def test_best_of_results():
    records = [{'mean_iou': value} for value in (None, 0.0, 0.5, 0.75, 0.75, 0.1)]
    assert best(records) is records[3]
    assert best(records[:2]) is records[1]


def test_options_of_the_evaluation_reach_it(evaluated, demo, trained, log):
    """Other scales, flip or windows give other predictions."""
    checkpoint_path = trained / 'snapshot' / 'epoch-last.pth'
    usual = results(evaluated[1])[0]['confusion']
    for settings in (
        {'eval_scale_array': [0.5]}, {'eval_flip': True}, {'eval_crop_size': 33}, {'eval_whole': True},
        {'eval_stride_rate': 0.25},
    ):  # fmt: skip
        assert demo.call('eval.py', log, '-e', checkpoint_path, **settings).status == 0
        assert results(log)[0]['confusion'] != usual, settings


def test_what_training_alone_needs_is_not_asked_for(demo, shallow, log):
    assert load_config(ROOT / 'exp_voc' / 'config.py', ['labeled_ratio=3'], training=False).nepochs is None
    assert demo.call('eval.py', log, '-e', shallow, batch_size=1).status == 0
    assert told(demo.call('train.py', log, batch_size=1)).startswith('batch_size = 1: ')


def test_a_folder_of_pictures_that_none_are_saved_in(refused, shallow, tmp_path):
    text = f'-p {tmp_path}: tells where pictures are saved; -s saves them'
    assert refused('eval.py', '-e', shallow, '-p', tmp_path) == text
    assert refused('eval.py', '-e', shallow, '-p', tmp_path, '--export', tmp_path / 'x.pt2') == text


@pytest.mark.parametrize('whole', [False, True])
def test_kernels_are_not_tried_out_for_images_of_many_sizes(demo, shallow, log, monkeypatch, whole):
    calls = []
    monkeypatch.setattr(eval_command, 'set_up', lambda device, deterministic, one_size: calls.append(one_size))
    assert demo.call('eval.py', log, '-e', shallow, eval_whole=whole).status == 0
    image = next((demo.data / 'images/val').iterdir())
    assert demo.call('eval.py', log, '-e', shallow, '-i', image, eval_whole=whole).status == 0
    assert calls == 2 * [not whole]


def test_second_evaluation_takes_the_link(evaluated, demo, trained, log):
    for epoch in (2, 3):
        assert demo.call('eval.py', log, '-e', epoch, snapshot_dir=trained / 'snapshot').status == 0
    assert len([path for path in log.glob('val_*.log') if not path.is_symlink()]) == 2
    assert [result['epoch'] for result in results(log)] == [3]
    assert 'epoch-3.pth' in (log / 'val_last.log').read_text()
