"""Weights from files: everything fits or is named; the forms in which other projects write them."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from furnace.base_model import DualNetwork, load_network
from furnace.base_model.weights.load import load_backbone
from furnace.utils.errors import UserError


def backbone():
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


@pytest.fixture
def state():
    torch.manual_seed(1)
    return {name: torch.rand(value.shape) for name, value in backbone().state_dict().items() if value.ndim}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'weights.pth'


def assert_filled(module, state):
    own = module.state_dict()
    for name, value in state.items():
        assert torch.equal(own[name], value), name
    assert own['1.num_batches_tracked'] == 0


@pytest.mark.parametrize(
    'form',
    [
        lambda state: state,
        lambda state: {**state, 'fc.weight': torch.rand(5, 2), 'fc.bias': torch.rand(5)},
        lambda state: {**state, '1.num_batches_tracked': torch.tensor(0)},
        lambda state: {f'module.{name}': value for name, value in {**state, 'fc.bias': torch.rand(5)}.items()},
        lambda state: {'state_dict': state, 'epoch': 3},
        lambda state: {'state_dict': {f'module.{name}': value for name, value in state.items()}},
        lambda state: {'model': state},
    ],
    ids=['bare', 'fc', 'counters', 'module', 'state_dict', 'both', 'model'],
)
def test_pretrained_forms(path, state, form):
    torch.save(form(state), path)
    module = backbone()
    load_backbone(module, path)
    assert_filled(module, state)


def test_pretrained_safetensors(tmp_path, state):
    path = tmp_path / 'weights.safetensors'
    safetensors.torch.save_file({**state, 'fc.weight': torch.rand(5, 2)}, path)
    module = backbone()
    assert load_backbone(module, path) == ['fc']
    assert_filled(module, state)


def told(path, content):
    torch.save(content, path)
    module = backbone()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_backbone(module, path)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])
    return str(caught.value)


def test_pretrained_problems_are_counted_and_named(path, state):
    del state['0.weight']
    state['2.weight'] = torch.rand(5, 4, 1, 1)
    state |= {f'extra{i}': torch.rand(1) for i in range(5)}
    assert told(path, state) == (
        f'{path}: does not fit this network: 1 missing (0.weight); 5 unexpected (extra0, extra1, extra2, …); '
        '1 misshapen (2.weight (5, 4, 1, 1) instead of (2, 4, 1, 1))'
    )


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda value: value.long(), r'1 not of floating point \(2.bias\)'),
        (lambda value: value.bool(), r'1 not of floating point \(2.bias\)'),
        (lambda value: value / 0, '1 tensors hold NaN or infinite values: 2.bias'),
        (lambda value: value * float('nan'), '1 tensors hold NaN or infinite values: 2.bias'),
    ],
)
def test_pretrained_values_that_are_none(path, state, change, words):
    torch.save({**state, '2.bias': change(state['2.bias'])}, path)
    with pytest.raises(UserError, match=words):
        load_backbone(backbone(), path)


def test_pretrained_two_tensors_of_one_name(path, state):
    text = f'{path}: holds 0.weight twice, under two names'
    assert told(path, {**state, 'module.backbone.0.weight': state['0.weight']}) == text


def test_pretrained_value_that_is_no_tensor(path, state):
    assert '1 missing (0.weight)' in told(path, {**state, '0.weight': 3})


def test_pretrained_other_content(path):
    assert 'entry "state_dict" is a list' in told(path, {'state_dict': [1]})
    assert '1 unexpected (7)' in told(path, {7: torch.rand(1)})


def test_pretrained_missing_file(path):
    with pytest.raises(UserError, match='no such file'):
        load_backbone(backbone(), path)


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(1)
    return DualNetwork(3, 'resnet18')


@pytest.fixture
def other():
    torch.manual_seed(2)
    return DualNetwork(3, 'resnet18').state_dict()


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_network(network, other, prefix):
    """The form of CPS: other optimiser names, the wrapper's prefix."""
    model = {f'{prefix}{name}': value for name, value in other.items()}
    load_network(network, {'model': model, 'optimizer_l': {}, 'optimizer_r': {}, 'epoch': 33}, 'x.pth')
    own = network.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], value) for name, value in other.items())


def refused(network, content):
    with pytest.raises(UserError) as caught:
        load_network(network, content, Path('x.pth'))
    return str(caught.value)


@pytest.mark.parametrize('content', [{}, {'state_dict': {}}, {'model': None}, {'model': [1]}])
def test_not_a_checkpoint(network, content):
    assert refused(network, content) == 'x.pth: has no entry "model": not a checkpoint of this project, CPCL or CPS'


def test_a_classifier_without_dimensions(network):
    with pytest.raises(UserError, match=r'x\.pth: '):
        load_network(network, {'model': {'branch1.classifier.weight': torch.tensor(1.0)}}, 'x.pth')


def test_other_class_count(network):
    with torch.device('meta'):
        model = DualNetwork(5, 'resnet18').state_dict()
    assert refused(network, {'model': model}) == (
        'x.pth: trained for 5 classes, the configuration says num_classes = 3'
    )


@pytest.mark.parametrize(('name', 'blocks'), [('resnet50', 16), ('resnet101', 33)])
def test_other_depth(network, name, blocks):
    with torch.device('meta'):
        model = DualNetwork(3, name).state_dict()
    assert refused(network, {'model': model}) == (
        f'x.pth: its backbone has {blocks} residual blocks, the configured one 8; '
        'set C.backbone to the one it was trained with'
    )


def test_depths_of_one_class_are_told_apart():
    with torch.device('meta'):
        network, other = DualNetwork(3, 'resnet101'), DualNetwork(3, 'resnet50')
    assert '16 residual blocks, the configured one 33' in refused(network, {'model': other.state_dict()})


def test_a_branch_missing(network, other):
    model = {name: value for name, value in other.items() if name.startswith('branch1.')}
    text = refused(network, {'model': model})
    assert text.startswith(f'x.pth: does not fit this network: {len(other) - len(model)} missing (branch2.')
