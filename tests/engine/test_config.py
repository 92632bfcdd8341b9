"""Configuration: derived values, mistakes in the file, and its ways out."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from recipes import EXPERIMENTS, ROOT, load

from furnace.engine.config import ENVIRONMENT, Config, load_config, plain
from furnace.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('clean')

# The names that users know from CPS and CPCL.
KNOWN = [
    'volna', 'log_dir', 'snapshot_dir', 'dataset_path', 'img_root_folder', 'gt_root_folder', 'pretrained_model',
    'device', 'seed', 'labeled_ratio', 'nepochs', 'train_source', 'unsup_source', 'eval_source', 'test_source',
    'demo_source', 'cutmix_mask_prop_range', 'cutmix_boxmask_n_boxes', 'cutmix_boxmask_fixed_aspect_ratio',
    'cutmix_boxmask_by_size', 'cutmix_boxmask_outside_bounds', 'cutmix_boxmask_no_invert', 'num_classes',
    'background', 'image_mean', 'image_std', 'image_height', 'image_width', 'num_train_imgs', 'num_eval_imgs',
    'num_unsup_imgs', 'lr', 'batch_size', 'lr_power', 'momentum', 'weight_decay', 'bn_eps', 'bn_momentum',
    'unsup_weight', 'max_samples', 'niters_per_epoch', 'num_workers', 'train_scale_array', 'warm_up_epoch',
    'eval_stride_rate', 'eval_scale_array', 'eval_flip', 'eval_crop_size', 'snapshot_iter', 'backbone', 'method',
]  # fmt: skip


@pytest.mark.parametrize('experiment', EXPERIMENTS)
def test_known_names(experiment):
    assert set(KNOWN) <= set(load(experiment))


def test_folders_are_of_the_checkout():
    config = load('exp_voc')
    assert config.volna == str(ROOT)
    assert config.dataset_path == str(ROOT / 'DATA' / 'pascal_voc')
    assert config.log_dir == str(ROOT / 'exp_voc' / 'log')
    assert config.snapshot_dir == str(ROOT / 'exp_voc' / 'log' / 'snapshot')
    assert config.pretrained_model == str(ROOT / 'DATA' / 'pytorch-weight' / 'resnet50_v1c.pth')


@pytest.mark.parametrize(
    ('ratio', 'epochs', 'samples', 'iterations'),
    [(16, 32, 9921, 1240), (8, 34, 9260, 1157), (4, 40, 7937, 992), (2, 60, 5291, 661)],
)
def test_voc_follows_the_ratio(ratio, epochs, samples, iterations):
    config = load('exp_voc', f'labeled_ratio={ratio}')
    subset = ROOT / 'DATA' / 'pascal_voc' / 'subset_train_aug'
    assert (config.nepochs, config.max_samples, config.niters_per_epoch) == (epochs, samples, iterations)
    assert config.train_source == str(subset / f'train_aug_labeled_1-{ratio}.txt')
    assert config.unsup_source == str(subset / f'train_aug_unlabeled_1-{ratio}.txt')


@pytest.mark.parametrize(
    ('ratio', 'epochs', 'iterations'), [(16, 128, 174), (8, 137, 162), (4, 160, 139), (2, 240, 93)]
)
def test_city_follows_the_ratio(ratio, epochs, iterations):
    config = load('exp_city', f'labeled_ratio={ratio}')
    subset = ROOT / 'DATA' / 'city' / 'config_new' / 'subset_train'
    assert (config.nepochs, config.niters_per_epoch) == (epochs, iterations)
    assert config.train_source == str(subset / f'train_aug_labeled_1-{ratio}.txt')
    assert config.unsup_source == str(subset / f'train_aug_unlabeled_1-{ratio}.txt')


@pytest.mark.parametrize(
    ('supervision', 'labeled'),
    [('few', 'subset_train_aug/train_pseudoseg_labeled_1-4.txt'), ('full', 'train.txt')],
)
def test_voc_other_supervision(supervision, labeled):
    config = load('exp_voc', f'supervision={supervision}', 'labeled_ratio=4')
    data = ROOT / 'DATA' / 'pascal_voc'
    assert config.train_source == str(data / labeled)
    assert config.unsup_source == str(data / 'train_aug.txt')
    assert config.nepochs == 40


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('C.lr = 0.01 0.02', 'invalid syntax'),
        ('C.lr = undefined', "name 'undefined' is not defined"),
        ('C.lr = C.learning', 'learning'),
        ('C.lr = 1 / 0', 'division by zero'),
        ('C.lr = [1][3]', 'out of range'),
        ('import no_such_module', 'no_such_module'),
        ("C.lr = open('/no/such/file')", '/no/such/file'),
    ],
)
def test_mistake_in_the_file_is_told_with_its_line(tmp_path, monkeypatch, line, says):
    text = (ROOT / 'exp_demo' / 'config.py').read_text().splitlines()
    number = next(i for i, line in enumerate(text, 1) if line.startswith('C.lr = '))
    text[number - 1] = line
    path = tmp_path / 'config.py'
    path.write_text('\n'.join(text))
    monkeypatch.setenv('volna', str(ROOT))
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f'{path}: line {number}: ')
    assert says in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    'name',
    ['reweight', 'cutmix', 'cutmix_boxmask_fixed_aspect_ratio', 'cutmix_boxmask_by_size',
     'cutmix_boxmask_outside_bounds', 'cutmix_boxmask_no_invert', 'compile', 'grad_checkpoint', 'deterministic',
     'eval_flip', 'eval_whole'],
)  # fmt: skip
def test_a_word_is_not_taken_for_true(tmp_path, monkeypatch, name):
    lines = (ROOT / 'exp_demo' / 'config.py').read_text().splitlines()
    path = tmp_path / 'config.py'
    path.write_text('\n'.join(f"C.{name} = 'no'" if line.startswith(f'C.{name} = ') else line for line in lines))
    monkeypatch.setenv('volna', str(ROOT))
    with pytest.raises(UserError, match=f"^{name} = 'no': choose one of True, False$"):
        load_config(path)


def test_a_file_with_numbers_of_its_own(tmp_path, monkeypatch):
    """Without what niters_per_epoch is made of in others; pixels that OHEM keeps are whole ones."""
    text = (ROOT / 'exp_demo' / 'config.py').read_text()
    path = tmp_path / 'config.py'
    path.write_text(f'{text}\nC.niters_per_epoch = 3\ndel C.max_samples, C.num_train_imgs\n')
    monkeypatch.setenv('volna', str(ROOT))
    assert load_config(path).niters_per_epoch == 3
    path.write_text(f'{text}\nC.ohem_thresh, C.ohem_min_kept = 0.7, 5e4\n')
    with pytest.raises(UserError, match=r'^ohem_min_kept = 50000\.0: '):
        load_config(path)


@pytest.mark.parametrize('name', ['method', 'log_every', 'image_std', 'cutmix', 'eval_whole'])
def test_setting_deleted_from_the_file(tmp_path, monkeypatch, name):
    lines = (ROOT / 'exp_demo' / 'config.py').read_text().splitlines(keepends=True)
    path = tmp_path / 'config.py'
    path.write_text(''.join(line for line in lines if not line.startswith(f'C.{name} =')))
    monkeypatch.setenv('volna', str(ROOT))
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert str(caught.value) == f'{path}: sets no C.{name}'


@pytest.mark.parametrize('experiment', EXPERIMENTS)
def test_import_in_the_folder(experiment):
    """As users' own scripts do it: from config import config."""
    command = 'from config import config; print(config.num_classes, config.snapshot_dir)'
    environment = {name: value for name, value in os.environ.items() if name not in (*ENVIRONMENT, 'PYTHONPATH')}
    result = subprocess.run(
        [sys.executable, '-c', command],
        cwd=ROOT / experiment,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    classes = {'exp_city': 19, 'exp_voc': 21, 'exp_camvid': 11, 'exp_demo': 8}[experiment]
    assert result.stdout.split() == [str(classes), str(ROOT / experiment / 'log' / 'snapshot')], result.stderr


def test_a_checkout_of_another_project_gives_its_data_but_no_code(tmp_path):
    """The variable volna of people who use CPS names their checkout of it."""
    (tmp_path / 'furnace').mkdir()
    (tmp_path / 'furnace' / '__init__.py').touch()
    result = subprocess.run(
        [sys.executable, '-c', 'from config import config; import furnace; print(config.volna, furnace.__file__)'],
        cwd=ROOT / 'exp_demo',
        env=os.environ | {'volna': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.stdout.split() == [str(tmp_path), str(ROOT / 'furnace' / '__init__.py')], result.stderr


def test_import_ignores_overrides_of_other_files():
    """Importing config.py as a module applies no command line; what is assigned stays assigned."""
    spec = importlib.util.spec_from_file_location('plain_import', ROOT / 'exp_voc' / 'config.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.config is module.C
    module.config.lr = 3.0
    assert module.config['lr'] == module.config.lr == 3.0


def test_plain_values_for_a_checkpoint(tmp_path):
    """What users put into config.py (CPS has NumPy arrays there) must not make their own checkpoint unreadable."""
    config = Config()
    config.image_mean = np.array([0.5, 0.25])
    config.lr = np.float64(0.5)
    config.path = Path('/a')
    config.nested = {'a': (1, None, True)}
    torch.save(plain(config), tmp_path / 'x.pth')
    assert torch.load(tmp_path / 'x.pth', weights_only=True) == {
        'image_mean': [0.5, 0.25],
        'lr': 0.5,
        'path': '/a',
        'nested': {'a': [1, None, True]},
    }
