"""Settings from the command line and the environment: what follows them, how they are read, mistakes in one line."""

import pytest
from recipes import ROOT, load

from furnace.engine.config import Config, overriding, parse, read_overrides
from furnace.utils.errors import UserError

pytestmark = pytest.mark.usefixtures('clean')


def refused(experiment, *arguments):
    """The one line with which the settings are refused."""
    with pytest.raises(UserError) as caught:
        load(experiment, *arguments)
    text = str(caught.value)
    assert '\n' not in text
    return text


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
        'num_workers=-1', 'image_every=-1', 'cutmix_boxmask_n_boxes=0', 'train_scale_array=[]',
        'train_scale_array=[1,0]', "eval_scale_array=['a']", 'eval_stride_rate=0', 'eval_stride_rate=1.5',
        'image_mean=[0.5]', 'image_std=[0,1,1]', 'cutmix_mask_prop_range=[0.5]', 'log_dir=None', 'snapshot_dir=None',
        'device=None', 'img_root_folder=None', 'train_source=None', 'pretrained_model=', 'momentum=1.5',
        'bn_momentum=7.0', 'cutmix_mask_prop_range=[0.5,3]', 'num_train_imgs=0', 'max_samples=-5',
    ],
)  # fmt: skip
def test_values_that_cannot_work(argument):
    # Named at the start, or with the line in which config.py needs it.
    text = refused('exp_voc', argument)
    name = argument.split('=')[0]
    if argument == 'supervision=all':
        assert text == "supervision = 'all': choose one of semi, few, full"
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
