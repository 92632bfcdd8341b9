"""The scripts that draw the README's figures."""

import json
import os
import re
import runpy
import sys
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from full import full_disk
from PIL import Image
from tiny import COLORS, SETTINGS, Demo
from torchvision.models.resnet import BasicBlock

from furnace.base_model import BACKBONES, DualNetwork
from furnace.base_model.resnet import Backbone
from furnace.datasets.classes import Classes
from furnace.engine import step
from furnace.engine.config import load_config
from furnace.seg_opr.loss import CrossEntropy
from furnace.tools.study.plan import Run
from furnace.utils.errors import RunError, UserError
from furnace.utils.panels import save, shown

ROOT = Path(__file__).resolve().parents[2]
IMG = ROOT / 'img'
SVG = '{http://www.w3.org/2000/svg}'


def run(monkeypatch, name, *arguments):
    """The script's exit status."""
    monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(IMG / name), run_name='__main__')
    return stop.value.code


# --- the method and the network --------------------------------------------------------------------------------------

ARCHITECTURE = runpy.run_path(str(IMG / 'architecture.py'))


def within(inner, outer):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]


def apart(a, b):
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize('name', ARCHITECTURE['FIGURES'])
def test_nothing_overlaps(name):
    drawing, height = ARCHITECTURE['FIGURES'][name][0]()
    frames, texts = drawing.frames, drawing.texts
    assert len(frames) > 15 and len(texts) > len(frames)
    for i, box in enumerate(frames):
        assert all(apart(box, other) for other in frames[:i]), box
    for i, text in enumerate(texts):
        assert all(apart(text, other) for other in texts[:i]), text
        assert all(within(text, box) or apart(text, box) for box in frames), text
    assert all(within(area, (0, 0, ARCHITECTURE['WIDTH'], height)) for area in frames + texts)


def test_svg_files(monkeypatch, tmp_path):
    assert run(monkeypatch, 'architecture.py', tmp_path) == 0
    assert run(monkeypatch, 'architecture.py', tmp_path / 'none') == 2
    with monkeypatch.context() as patch:
        patch.setattr(os, 'fsync', full_disk)
        assert run(patch, 'architecture.py', tmp_path) == 1
    for name in ARCHITECTURE['FIGURES']:
        written = (tmp_path / name).read_text(encoding='utf-8')
        assert written == (IMG / name).read_text(encoding='utf-8'), (
            f'draw anew: python img/architecture.py img ({name})'
        )
        root = ElementTree.fromstring(written)
        assert root.get('width') == str(ARCHITECTURE['WIDTH'])
        assert min(int(e.get('font-size', 12)) for e in root.iter()) >= 12
        light, dark = re.split('@media', root.find(f'{SVG}style').text)
        used = {e.get('class') for e in root.iter()} - {None}
        assert all(f'.{kind}{{' in scheme for kind in used for scheme in (light, dark))


def test_every_symbol_is_there():
    root = ElementTree.parse(IMG / 'architecture.svg')
    words = set(re.findall(r'\w+', ' '.join(''.join(text.itertext()) for text in root.iter(f'{SVG}text'))))
    losses = {'sup1', 'sup2', 'Linter', 'Lunion', 'λ'}
    assert words >= losses | {'x', 'y', 'u0', 'u1', 'm', 'p1', 'p2', 'c1', 'c2', 'w'}


def test_figures_of_the_readme():
    shown = re.findall(r'!\[[^]]+\]\(([^)]+)\)', (ROOT / 'README.md').read_text(encoding='utf-8'))
    assert set(shown) == {f'img/{path.name}' for path in IMG.iterdir() if path.suffix in ('.svg', '.png')}
    assert all((ROOT / path).stat().st_size < 500_000 for path in shown)


# --- pictures from a checkpoint --------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """The overrides of exp_demo for a tiny data set, and a checkpoint of iteration 3 of a shallow network."""
    root = tmp_path_factory.mktemp('img')
    demo = Demo(root)
    torch.manual_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, 'resnet18', partial(Backbone, BasicBlock, (1, 1, 1, 1), False))
        network = DualNetwork(3, 'resnet18')
        torch.save({'model': network.state_dict(), 'iteration': 3}, root / 'x.pth')
        overrides = [f'{name}={value}' for name, value in {**SETTINGS, 'dataset_path': demo.data}.items()]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # more of them cost time on images so small
        yield root / 'x.pth', overrides, network
        torch.set_num_threads(threads)
    (root / 'x.pth').unlink()


def test_intersection_union_is_that_of_training(monkeypatch, tiny):
    _, overrides, network = tiny
    script = runpy.run_path(str(IMG / 'intersection_union.py'))
    C = load_config(ROOT / 'exp_demo' / 'config.py', overrides)
    learnt = []
    monkeypatch.setattr(step, 'pseudo_loss', lambda logits, target: learnt.append(target) or logits.mean())
    batch, inputs = script['next_batch'](C, 3)
    assert not torch.equal(batch.u0, script['next_batch'](C, 2)[0].u0)
    step.Step(network.train(), 3, CrossEntropy(255), 'cpcl', 1.0, backward=lambda loss: None)(*inputs)
    found = script['teach'](network, *inputs[2:])
    for target in learnt:
        torch.testing.assert_close(found[target.name], target.label)
        torch.testing.assert_close(found[f'{target.name}_weight'], target.weight)
    assert [target.name for target in learnt] == ['inter', 'union']
    assert 0 < (found['p1'] != found['p2']).float().mean() < 1


def test_label_map():
    """Each class in its colour with its id on it, void striped."""
    label = np.full((6, 12), 2, np.uint8)
    label[:, 6:] = 255
    left, right = np.split(shown(label, Classes(('a', 'b', 'c'), COLORS).palette(), 10), 2, axis=1)
    assert (left[:10] == COLORS[2]).all()
    assert 0.02 < (left[20:40, 20:40] != COLORS[2]).any(axis=2).mean() < 0.6
    assert set(np.unique(right)) == {90, 245}


def test_picture_that_cannot_be_written(tmp_path, monkeypatch):
    picture = Image.new('RGB', (8, 8))
    for name in ('none/x.png', 'x.unknown'):
        with pytest.raises(UserError, match=rf'{name}: cannot be written: '):
            save(picture, tmp_path / name)
    (tmp_path / 'x.png').write_text('former')
    monkeypatch.setattr(Image.Image, 'save', lambda image, path, **_: path.write_text('half') and full_disk())
    with pytest.raises(RunError, match=r'x\.png: cannot be written: .*; make room'):
        save(picture, tmp_path / 'x.png')
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [('x.png', 'former')]


@pytest.mark.parametrize(
    ('name', 'arguments'), [('intersection_union.py', ['--number', '1']), ('demo.py', ['--scenes', '2'])]
)
def test_pictures(monkeypatch, tiny, tmp_path, name, arguments):
    checkpoint, overrides, _ = tiny
    out = tmp_path / 'x.png'
    assert run(monkeypatch, name, checkpoint, *overrides, *arguments, '-o', out) == 0
    with Image.open(out) as picture:
        area = {colour: count for count, colour in picture.getcolors(picture.width * picture.height)}
    legend = 30 * 30
    assert all(area.get(colour, 0) > 0 for colour in COLORS)
    assert sum(area[colour] for colour in COLORS) > 20 * legend * len(COLORS)
    assert area[90, 90, 90] > legend  # stripes: void, or where the branches differ


@pytest.mark.parametrize(
    ('name', 'arguments', 'says'),
    [
        ('intersection_union.py', ['--number', '2', '-o', 'x.png'], '--number 2: the batch has images 0 to 1'),
        ('demo.py', ['--scenes', '0', '3', '-o', 'x.png'], '--scenes 3: '),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, tiny, tmp_path, name, arguments, says):
    checkpoint, overrides, _ = tiny
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, name, checkpoint, *overrides, *arguments) == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith(f'error: {says}')
    assert stderr.count('\n') == 1
    assert list(tmp_path.iterdir()) == []


# --- charts of results -----------------------------------------------------------------------------------------------


def test_results_are_means_over_the_seeds_and_their_range():
    pytest.importorskip('matplotlib')
    script = runpy.run_path(str(IMG / 'results.py'))
    scores = {('A', 8, 1): (0.1, 0.3), ('A', 8, 2): (0.2, 0.5), ('B', 8, 1): (0.4, 0.4), ('A', 4, 1): (0.6, 0.7)}
    rows = {
        Run(*key): {'scores': [{'iteration': 10 * (i + 1), 'mean_iou': value} for i, value in enumerate(values)]}
        for key, values in scores.items()
    }
    figure = script['draw'](rows)
    first, second = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ['1/8 of the labels', '1/4 of the labels']
    np.testing.assert_allclose(first.lines[0].get_xydata(), [(10, 15), (20, 40)])
    np.testing.assert_allclose(first.lines[1].get_ydata(), [40, 40])
    assert first.lines[0].get_color() == second.lines[0].get_color() != first.lines[1].get_color()
    band = first.collections[0].get_paths()[0].vertices
    assert {(10.0, 10.0), (10.0, 20.0), (20.0, 30.0), (20.0, 50.0)} <= {tuple(map(float, p)) for p in band.round(6)}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['A', 'B']


def test_a_study_without_runs_has_no_chart(monkeypatch, tmp_path, capsys):
    plan = {'experiment': 'exp_demo', 'settings': {'lr': 1}, 'variants': {'A': {}}, 'ratios': [8], 'seeds': [1]}
    (tmp_path / 'plan.json').write_text(json.dumps(plan))
    assert run(monkeypatch, 'results.py', tmp_path / 'plan.json', tmp_path / 'x.png') == 2
    assert 'holds no such run of this plan yet' in capsys.readouterr().err


def test_a_chart_of_some_variants(monkeypatch, tmp_path, capsys):
    drawn = []

    def save(figure, path, **_):
        drawn.append(figure)
        path.write_text('a picture')

    monkeypatch.setattr(pytest.importorskip('matplotlib.figure').Figure, 'savefig', save)
    plan = IMG.parent / 'docs' / 'results' / 'scenes.json'
    assert run(monkeypatch, 'results.py', plan, tmp_path / 'x.png', '--only', 'CPCL', 'CPS') == 0
    assert {text.get_text() for text in drawn[0].legends[0].get_texts()} == {'CPCL', 'CPS'}
    assert run(monkeypatch, 'results.py', plan, tmp_path / 'x.png', '--only', 'CPCL', 'CSP') == 2
    assert capsys.readouterr().err.startswith(f'error: CSP: {plan} has the variants supervised, CPS, CPCL, ')
