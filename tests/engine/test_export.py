"""eval.py --export: the file computes what the network does, at any size and batch."""

import importlib.util
import json

import numpy as np
import onnxruntime
import pytest
import torch
from full import full_disk
from tiny import COLORS, NAMES
from torch.torch_version import TorchVersion

import furnace
from furnace.engine import eval_command

SIZES = ((1, 64, 96), (3, 33, 50), (2, 17, 130))
CLASSES = {'names': list(NAMES), 'colors': [list(color) for color in COLORS]}


def run_onnx(path):
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (images,) = session.get_inputs()
    assert (images.name, images.type) == ('images', 'tensor(float)')
    assert [size if isinstance(size, int) else None for size in images.shape] == [None, 3, None, None]  # None: free
    assert [i.name for i in session.get_outputs()] == ['logits']
    classes = json.loads(session.get_modelmeta().custom_metadata_map['classes'])
    return lambda images: session.run(None, {'images': images.numpy()})[0], classes


def run_pt2(path):
    extra = {'classes.json': ''}
    program = torch.export.load(path, extra_files=extra)
    return lambda images: program.module()(images).detach().numpy(), json.loads(extra['classes.json'])


@pytest.mark.parametrize(
    ('suffix', 'branch', 'run'),
    [
        pytest.param('.onnx', 1, run_onnx, marks=pytest.mark.skipif(torch.__version__ < (2, 7), reason='PyTorch 2.6')),
        ('.pt2', 2, run_pt2),
    ],
)
def test_equal_to_the_network(demo, log, shallow, tmp_path, suffix, branch, run):
    path = tmp_path / 'new' / f'model{suffix}'
    outcome = demo.call('eval.py', log, '-e', shallow, '--export', path, '--branch', branch)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.endswith(f'shallow.pth, branch {branch}: {path}\n')
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not log.exists()
    forward, classes = run(path)
    assert classes == CLASSES
    model = furnace.load(shallow, branch=branch)
    for batch, height, width in SIZES:
        images = torch.rand(batch, 3, height, width)
        with torch.inference_mode():
            want = model(images).numpy()
        assert want.std() > 0.1
        np.testing.assert_allclose(forward(images), want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ('name', 'says'),
    [
        ('model.pth', 'expected a file name that ends in .onnx or .pt2'),
        ('model', 'expected a file name that ends in .onnx or .pt2'),
        (None, 'expected a file name that ends in .onnx or .pt2'),
        ('there.pt2', 'is there already; --force writes over a file'),
        ('folder.pt2', 'is there already'),
        ('model.onnx', 'needs onnxscript: pip install onnx onnxscript'),
        ('there.pt2/x.pt2', 'the folder cannot be made'),
    ],
)
def test_refused(demo, log, shallow, tmp_path, monkeypatch, name, says):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'onnxscript' else find(name))
    (tmp_path / 'there.pt2').write_text('there')
    (tmp_path / 'folder.pt2').mkdir()
    outcome = demo.call('eval.py', log, '-e', shallow, '--export', tmp_path / name if name else '')
    assert (outcome.status, outcome.stdout) == (2, '')
    assert outcome.stderr.startswith('error: ')
    assert says in outcome.stderr
    assert outcome.stderr.count('\n') == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ['folder.pt2', 'there.pt2']
    assert (tmp_path / 'there.pt2').read_text() == 'there'


def test_onnx_of_an_old_pytorch_is_refused(demo, log, shallow, tmp_path, monkeypatch):
    """2.6 writes no program for all sizes."""
    monkeypatch.setattr(torch, '__version__', TorchVersion('2.6.1+cu124'))
    outcome = demo.call('eval.py', log, '-e', shallow, '--export', tmp_path / 'x.onnx')
    says = f'--export {tmp_path}/x.onnx: needs PyTorch 2.7, this is 2.6.1+cu124; .pt2 does not'
    assert (outcome.status, outcome.stderr) == (2, f'error: {says}\n')


def test_gradient_checkpointing_stays_out(demo, log, shallow, tmp_path, monkeypatch):
    """Strict export, which older PyTorch does, fails with it."""
    build, seen = eval_command.build_network, []
    monkeypatch.setattr(eval_command, 'build_network', lambda C: seen.append(C.grad_checkpoint) or build(C))
    monkeypatch.setattr(eval_command, 'export', lambda model, target: None)
    assert demo.call('eval.py', log, '-e', shallow, '--export', tmp_path / 'x.pt2', grad_checkpoint=True).status == 0
    assert seen == [False]


def test_forced_and_whole_or_not_at_all(demo, log, shallow, tmp_path, monkeypatch):
    path = tmp_path / 'model.pt2'
    path.write_text('there')

    def save(program, file, **_):
        file.write_text('half')
        full_disk()

    arguments = ('-e', shallow, '--export', path, '--force')
    with monkeypatch.context() as patch:
        patch.setattr(torch.export, 'export', lambda *_, **__: None)
        patch.setattr(torch.export, 'save', save)
        outcome = demo.call('eval.py', log, *arguments)
        assert outcome.status == 1
        assert outcome.stderr.startswith(f'error: {path}: cannot be written: No space left on device; make room')
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [('model.pt2', 'there')]
        patch.setattr(torch.export, 'save', lambda program, file, **_: file.write_text('new'))
        assert demo.call('eval.py', log, *arguments).status == 0
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [('model.pt2', 'new')]
