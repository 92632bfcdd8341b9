"""The two recipes of the paper, number by number, and what each experiment's scripts hand to furnace."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from recipes import EXPERIMENTS, ROOT, load
from tiny import COLORS, NAMES

from furnace.datasets.classes import CITYSCAPES, PASCAL_VOC, Classes
from furnace.datasets.lists import cityscapes_items, voc_items
from furnace.engine import eval_command, train_command
from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, CrossEntropy, OhemCrossEntropy

pytestmark = pytest.mark.usefixtures('clean')

# As published; under them, what this code adds and leaves off, so that the rest is as published.
SHARED = {
    'background': 255, 'image_mean': [0.485, 0.456, 0.406], 'image_std': [0.229, 0.224, 0.225],
    'train_scale_array': [0.5, 0.75, 1, 1.5, 1.75, 2.0], 'seed': 12345, 'backbone': 'resnet50',
    'cutmix_mask_prop_range': [0.25, 0.5], 'cutmix_boxmask_n_boxes': 3, 'cutmix_boxmask_fixed_aspect_ratio': False,
    'cutmix_boxmask_by_size': False, 'cutmix_boxmask_outside_bounds': False, 'cutmix_boxmask_no_invert': False,
    'lr_power': 0.9, 'momentum': 0.9, 'weight_decay': 1e-4, 'warm_up_epoch': 0, 'bn_eps': 1e-5, 'bn_momentum': 0.1,
    'snapshot_iter': 2, 'eval_scale_array': [1], 'eval_flip': False, 'eval_stride_rate': 2 / 3,
    'method': 'cpcl', 'reweight': True, 'cutmix': True, 'eval_whole': False, 'eval_every': 0, 'max_bad_steps': 0,
    'keep_snapshots': None,
}  # fmt: skip
OWN = {
    'exp_city': {
        'num_classes': 19, 'image_height': 800, 'image_width': 800, 'eval_crop_size': 800, 'batch_size': 16,
        'lr': 0.01, 'unsup_weight': 5.0, 'num_train_imgs': 2975, 'num_eval_imgs': 500, 'ohem_thresh': 0.7,
        'ohem_min_kept': 800_000,
    },
    'exp_voc': {
        'num_classes': 21, 'image_height': 512, 'image_width': 512, 'eval_crop_size': 512, 'batch_size': 8,
        'lr': 0.005, 'unsup_weight': 1.0, 'num_train_imgs': 10582, 'num_eval_imgs': 1449, 'supervision': 'semi',
    },
}  # fmt: skip
# Where things lie, how fast they run, and what is derived (tested in test_config.py).
OTHER = {
    'volna', 'dataset_path', 'img_root_folder', 'gt_root_folder', 'pretrained_model', 'log_dir', 'snapshot_dir',
    'device', 'train_source', 'unsup_source', 'eval_source', 'test_source', 'demo_source', 'labeled_ratio', 'nepochs',
    'max_samples', 'niters_per_epoch', 'num_unsup_imgs', 'num_workers', 'cache_dir', 'amp', 'compile',
    'grad_checkpoint', 'deterministic', 'checkpoint_minutes', 'log_every', 'image_every', 'eval_batch_size',
}  # fmt: skip


@pytest.mark.parametrize('experiment', OWN)
def test_numbers(experiment):
    config = load(experiment)
    assert {name: value for name, value in config.items() if name not in OTHER} == SHARED | OWN[experiment]


@pytest.fixture
def handed(monkeypatch):
    """Run a script of an experiment; what it hands to furnace, without its own path."""

    def call(experiment: str, script: str) -> list:
        given = []
        monkeypatch.setattr(train_command, 'train', lambda *arguments: given.extend(arguments))
        monkeypatch.setattr(eval_command, 'evaluate', lambda *arguments: given.extend(arguments))
        monkeypatch.setattr(sys, 'argv', [script])
        with pytest.raises(SystemExit):
            runpy.run_path(str(ROOT / experiment / script), run_name='__main__')
        assert Path(given[0]) == ROOT / experiment / script
        return given[1:]

    return call


ITEMS = {'exp_voc': voc_items}
CLASSES = {'exp_city': CITYSCAPES, 'exp_voc': PASCAL_VOC}


@pytest.mark.parametrize('experiment', EXPERIMENTS)
def test_scripts(experiment, handed, tmp_path):
    config = load(experiment, f'dataset_path={tmp_path}')
    (tmp_path / 'classes.json').write_text(json.dumps({'names': NAMES, 'colors': COLORS}))
    items, classes, criterion = handed(experiment, 'train.py')
    assert handed(experiment, 'eval.py')[0] is items is ITEMS.get(experiment, cityscapes_items)
    assert handed(experiment, 'eval.py')[1](config) == classes(config)
    assert classes(config) == CLASSES.get(experiment, Classes(NAMES, COLORS))

    loss = criterion(config)
    assert loss.ignore_index == 255
    if experiment == 'exp_city':
        assert type(loss) is OhemCrossEntropy
        assert (loss.thresh, loss.min_kept) == (0.7, 800_000)
        assert loss.class_weights.tolist() == pytest.approx(CITYSCAPES_WEIGHTS)
    else:
        assert type(loss) is CrossEntropy
        assert loss.class_weights is None
