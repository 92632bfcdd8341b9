"""Configuration: derived values, overrides, the environment, and mistakes told in one line."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from furnace.engine.config import ENVIRONMENT, Config, load_config, overriding, parse, plain, read_overrides
from furnace.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ('exp_city', 'exp_voc', 'exp_camvid', 'exp_demo')
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


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No override from outside, and nothing left behind by the config.py files."""
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, 'path', sys.path.copy())
    monkeypatch.setitem(sys.modules, 'config', None)


def load(experiment, *arguments):
    return load_config(ROOT / experiment / 'config.py', arguments)


def refused(experiment, *arguments):
    """The one line with which the settings are refused."""
    with pytest.raises(UserError) as caught:
        load(experiment, *arguments)
    text = str(caught.value)
    assert '\n' not in text
    return text


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


def test_recipes():
    """Values of the two recipes in which they differ, and some they share."""
    city, voc = load('exp_city'), load('exp_voc')
    for config, expected in ((city, (19, 800, 16, 0.01, 5, 800)), (voc, (21, 512, 8, 0.005, 1, 512))):
        found = config.num_classes, config.image_height, config.batch_size, config.lr, config.unsup_weight
        assert (*found, config.eval_crop_size) == expected
        assert config.image_width == config.image_height
        assert (config.lr_power, config.momentum, config.weight_decay, config.seed) == (0.9, 0.9, 1e-4, 12345)
        assert config.train_scale_array == [0.5, 0.75, 1, 1.5, 1.75, 2.0]
        assert (config.eval_scale_array, config.eval_flip, config.snapshot_iter) == ([1], False, 2)
    assert city.ohem_min_kept == 800_000


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


def test_derived_value_may_be_overridden():
    config = load('exp_voc', 'labeled_ratio=16', 'niters_per_epoch=7', 'train_source=/a.txt', 'nepochs=3')
    assert (config.niters_per_epoch, config.train_source, config.nepochs) == (7, '/a.txt', 3)
    assert config.max_samples == 9921


def test_what_is_derived_follows_an_override():
    config = load('exp_city', 'dataset_path=/data', 'batch_size=4', 'log_dir=/log', 'backbone=resnet101')
    assert config.eval_source == '/data/config_new/val.txt'
    assert config.img_root_folder == '/data'
    assert (config.niters_per_epoch, config.ohem_min_kept) == (2604 // 4, 200_000)
    assert config.snapshot_dir == '/log/snapshot'
    assert config.pretrained_model.endswith('resnet101_v1c.pth')


def test_overrides_do_not_outlive_the_call():
    load('exp_demo', 'labeled_ratio=2')
    config = Config()
    config.labeled_ratio = 5
    assert config.labeled_ratio == 5
    assert load('exp_demo').labeled_ratio == 16


def test_override_stands_whatever_is_assigned():
    with overriding({'lr': '0.5'}):
        config = Config()
        config.lr = 0.1
        config.lr = 0.2
        assert config.lr == config['lr'] == 0.5
        config['lr'] = 0.3
        assert config.lr == config['lr'] == 0.5


def test_environment(monkeypatch):
    values = {'volna': '/v', 'snapshot_dir': '/s', 'learning_rate': '0.5', 'batch_size': '4', 'snapshot_iter': '9'}
    for variable, value in values.items():
        monkeypatch.setenv(variable, value)
    config = load('exp_voc')
    assert (config.volna, config.dataset_path, config.snapshot_dir) == ('/v', '/v/DATA/pascal_voc', '/s')
    assert (config.lr, config.batch_size, config.snapshot_iter) == (0.5, 4, 9)
    assert config.niters_per_epoch == 9260 // 4


def test_command_line_wins_over_environment(monkeypatch):
    monkeypatch.setenv('learning_rate', '0.5')
    monkeypatch.setenv('batch_size', '4')
    config = load('exp_voc', 'lr=0.25')
    assert (config.lr, config.batch_size) == (0.25, 4)


def test_empty_environment_variable_is_none(monkeypatch):
    monkeypatch.setenv('batch_size', '')
    assert load('exp_voc').batch_size == 8


def test_wrong_environment(monkeypatch):
    monkeypatch.setenv('batch_size', 'many')
    assert refused('exp_voc').startswith('batch_size=many: expected a value of type int')


@pytest.mark.parametrize(
    ('text', 'default', 'value'),
    [
        ('8', 1, 8),
        ('-8', 1, -8),
        ('0.5', 1.0, 0.5),
        ('2', 1.0, 2.0),
        ('1e-4', 1.0, 1e-4),
        ('True', False, True),
        ('true', False, True),
        ('false', True, False),
        ('0', True, False),
        ('1', False, True),
        ('[1, 0.5]', [1], [1, 0.5]),
        ('(1,2)', [1], [1, 2]),
        ('1,2', [1], [1, 2]),
        ('a b=c', 'x', 'a b=c'),
        ('7', 'x', '7'),
        ('', 'x', ''),
        ('None', 'x', None),
        ('None', None, None),
        ('x.pth', None, 'x.pth'),
        ('7', None, 7),
    ],
)
def test_parse(text, default, value):
    found = parse('name', text, default)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ('text', 'default'),
    [
        ('0.5', 1), ('True', 1), ('x', 1), ('', 1), ('None', 1), ('x', 1.0), ('True', 1.0), ('2', True),
        ('yes', True), ('3', [1]), ('x', [1]), ('{}', [1]),
    ],
)  # fmt: skip
def test_parse_refuses(text, default):
    with pytest.raises(UserError, match=f'^name={text}: expected a value of type {type(default).__name__}'):
        parse('name', text, default)


def test_equals_sign_in_a_value():
    assert read_overrides(['log_dir=a=b']) == {'log_dir': 'a=b'}


@pytest.mark.parametrize('argument', ['labeled_ratio', '8', '=8', 'a b=8', '-x=8'])
def test_not_an_override(argument):
    assert refused('exp_demo', argument) == f'{argument}: expected NAME=VALUE, such as labeled_ratio=8'


def test_unknown_name():
    assert refused('exp_demo', 'labelled_ratio=8') == (
        'labelled_ratio: no such setting in exp_demo/config.py; did you mean labeled_ratio?'
    )
    assert refused('exp_demo', 'zzz=8') == 'zzz: no such setting in exp_demo/config.py'


def test_ratio_without_recommended_epochs():
    assert refused('exp_voc', 'labeled_ratio=3').startswith('nepochs: none is recommended for labeled_ratio = 3')
    assert load('exp_voc', 'labeled_ratio=3', 'nepochs=50').nepochs == 50


@pytest.mark.parametrize(
    'argument',
    [
        'backbone=resnet34', 'method=mean_teacher', 'background=0', 'supervision=all', 'nepochs=0',
        'labeled_ratio=-1', 'niters_per_epoch=0', 'batch_size=1', 'image_height=0', 'image_width=0',
        'snapshot_iter=0', 'log_every=0', 'eval_crop_size=0', 'eval_batch_size=0', 'num_classes=1', 'lr=-0.1',
        'lr=1e999', 'momentum=-1.0', 'seed=-1', 'weight_decay=-1.0', 'unsup_weight=-1', 'warm_up_epoch=-1',
        'num_workers=-1', 'cutmix_boxmask_n_boxes=0', 'train_scale_array=[]', 'train_scale_array=[1,0]',
        "eval_scale_array=['a']", 'eval_stride_rate=0', 'eval_stride_rate=1.5', 'image_mean=[0.5]',
        'image_std=[0,1,1]', 'cutmix_mask_prop_range=[0.5]', 'log_dir=None', 'snapshot_dir=None',
        'device=None', 'img_root_folder=None', 'train_source=None',
    ],
)  # fmt: skip
def test_values_that_cannot_work(argument):
    # Named at the start, or with the line in which config.py needs it.
    text = refused('exp_voc', argument)
    name = argument.split('=')[0]
    if argument == 'supervision=all':
        assert text == "train_source = None: must be the path of a list; supervision is 'semi', 'few' or 'full'"
    elif argument == 'log_dir=None':
        assert text.startswith(f'{ROOT}/exp_voc/config.py: line ')
    else:
        assert text.startswith(f'{name} = ')


@pytest.mark.parametrize('value', ['2.5', 'ten', 'True'])
def test_epochs_without_a_default_are_checked_too(value):
    assert refused('exp_voc', 'labeled_ratio=3', f'nepochs={value}').startswith('nepochs = ')


def test_pretrained_model_is_a_path_a_known_name_or_none():
    assert load('exp_voc', 'pretrained_model=None').pretrained_model is None
    assert load('exp_demo', 'pretrained_model=a.pth').pretrained_model == 'a.pth'
    assert refused('exp_demo', 'pretrained_model=3').startswith('pretrained_model = 3')
    assert load('exp_voc', 'pretrained_model=hf:timm/resnet50s.gluon_in1k').pretrained_model.startswith('hf:')
    assert refused('exp_demo', 'pretrained_model=hf:net').startswith("pretrained_model = 'hf:net': ")
    assert load('exp_demo', 'pretrained_model=torchvision').pretrained_model == 'torchvision'
    assert 'use hf:timm/resnet50s.gluon_in1k' in refused('exp_voc', 'pretrained_model=torchvision')


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


@pytest.mark.parametrize('name', ['method', 'log_every', 'image_std'])
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
