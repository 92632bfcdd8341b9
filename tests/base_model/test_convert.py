"""The names of other projects, and ``python -m furnace.base_model.weights convert``."""

import os
import runpy
import sys

import pytest
import torch
from full import full_disk

from furnace.base_model.resnet import BACKBONES
from furnace.base_model.weights import load_file
from furnace.base_model.weights.__main__ import main
from furnace.base_model.weights.names import backbone_name

# The deep stem in OpenMMLab's names, in the order of this project's.
STEM = {'conv1.0': 'stem.0', 'conv1.1': 'stem.1', 'conv1.3': 'stem.3', 'conv1.4': 'stem.4', 'conv1.6': 'stem.6',
        'bn1': 'stem.7'}  # fmt: skip


@pytest.fixture(scope='module')
def state():
    """resnet50 in this project's names: true shapes, each tensor of one number of its own, stored once."""
    with torch.device('meta'):
        shapes = {name: value.shape for name, value in BACKBONES['resnet50']().state_dict().items()}
    return {name: torch.tensor(float(i)).expand(shape) for i, (name, shape) in enumerate(shapes.items())}


def openmmlab(state):
    names = {name: name.rpartition('.') for name in state}
    return {f'{STEM.get(layer, layer)}.{tensor}': state[name] for name, (layer, _, tensor) in names.items()}


def whole_network(state):
    heads = {'decode_head.conv_seg.weight': torch.rand(2), 'auxiliary_head.conv_seg.bias': torch.rand(1)}
    return {'meta': {}, 'state_dict': {**{f'backbone.{name}': value for name, value in state.items()}, **heads}}


FORMS = {
    'timm': (lambda state: {**state, 'fc.weight': torch.rand(2, 2)}, ', without fc'),
    'CPS': (lambda state: {'model': state}, ''),
    'OpenMMLab': (lambda state: {'state_dict': openmmlab(state)}, ''),
    'mmsegmentation': (lambda state: whole_network(openmmlab(state)), ', without auxiliary_head, decode_head'),
}


@pytest.mark.parametrize('form', FORMS)
def test_convert(tmp_path, state, form, capsys, monkeypatch):
    src, dst = tmp_path / 'src.pth', tmp_path / 'dst.pth'
    write, left_out = FORMS[form]
    torch.save(write(state), src)
    monkeypatch.delitem(sys.modules, main.__module__)
    monkeypatch.setattr(sys, 'argv', ['', 'convert', str(src), str(dst)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module('furnace.base_model.weights', run_name='__main__')
    assert stop.value.code == 0
    line = capsys.readouterr().out
    assert line.startswith(f'{dst}: resnet50 from {src} (SHA-256 ') and line.endswith(f'){left_out}\n')
    result = load_file(dst)
    assert list(result) == list(state)
    assert all(torch.equal(value, state[name].to(value.dtype)) for name, value in result.items())
    assert sorted(os.listdir(tmp_path)) == ['dst.pth', 'src.pth']


def refused(capsys, *arguments):
    assert main(['convert', *map(str, arguments)]) == 2
    return capsys.readouterr().err.removeprefix('error: ').rstrip('\n')


def test_stem_of_other_width(tmp_path, state, capsys):
    """open-mmlab's resnet50_v1c."""
    narrow = dict(state)
    for name, value in state.items():
        if name.startswith(('conv1.', 'bn1.')) and value.ndim:
            narrow[name] = value[: len(value) // 2]
        if name in ('conv1.3.weight', 'conv1.6.weight'):
            narrow[name] = narrow[name][:, :32]
    src, dst = tmp_path / 'v1c.pth', tmp_path / 'dst.pth'
    torch.save(openmmlab(narrow), src)
    text = refused(capsys, src, dst)
    assert text.startswith(f'{src}: does not fit this network: ')
    assert '(conv1.0.weight (32, 3, 3, 3) instead of (64, 3, 3, 3), ' in text
    assert text.endswith('; its stem has convolutions of 32-32-64 channels, this one of 64-64-128')
    assert not dst.exists()


def test_plain_stem(tmp_path, state, capsys):
    src = tmp_path / 'resnet50.pth'
    stem = {'conv1.weight': torch.rand(64, 3, 7, 7), 'bn1.weight': torch.rand(64)}
    torch.save({**{name: value for name, value in state.items() if name.startswith('layer')}, **stem}, src)
    text = refused(capsys, src, tmp_path / 'dst.pth')
    assert text.endswith('; its stem has convolutions of 64 channels, this one of 64-64-128')


def test_destination_is_kept_unless_forced(tmp_path, state, capsys, monkeypatch):
    src, dst = tmp_path / 'src.pth', tmp_path / 'dst.pth'
    torch.save(state, src)
    dst.write_bytes(b'mine')
    assert refused(capsys, src, dst) == f'{dst}: is there already; --force replaces it'

    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full_disk)
        assert main(['convert', str(src), str(dst), '--force']) == 1
        error = capsys.readouterr().err
        assert error.startswith(f'error: {dst}: cannot be written: No space left on device; make room')
    assert dst.read_bytes() == b'mine'
    assert sorted(os.listdir(tmp_path)) == ['dst.pth', 'src.pth']
    assert main(['convert', str(src), str(dst), '--force']) == 0
    assert load_file(dst).keys() == state.keys()


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('x.safetensors', '{}/x.safetensors: the name must end in .pth'),
        ('no/x.pth', '{}/no: no such folder; make it first'),
        ('', '{}: is a folder; give the name of a file in it'),
    ],
)
def test_destination_that_cannot_be(tmp_path, capsys, name, says):
    assert refused(capsys, 'src.pth', tmp_path / name) == says.format(tmp_path)


@pytest.mark.parametrize(
    ('theirs', 'ours'),
    [
        ('module.backbone.stem.6.weight', ('conv1.6.weight', None)),
        ('stem.7.running_var', ('bn1.running_var', None)),
        ('conv1.1.bias', ('conv1.1.bias', None)),
        ('layer1.0.downsample.1.weight', ('layer1.0.downsample.1.weight', None)),
        ('stem.70.weight', ('stem.70.weight', None)),
        ('head.fc.bias', ('head.fc.bias', 'head')),
        ('fcx.weight', ('fcx.weight', None)),
        (7, ('7', None)),
    ],
)
def test_names(theirs, ours):
    assert backbone_name(theirs) == ours
