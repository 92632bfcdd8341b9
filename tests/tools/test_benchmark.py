"""The benchmark's command line and instruments, on images and networks as small as they can be."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from furnace.datasets.images import read_image
from furnace.tools import benchmark
from furnace.tools.bench import evaluation, measure, memory, plain, profile, recipes
from furnace.tools.bench.measure import Row, Spread

CPU = torch.device('cpu')


def test_every_part_for_every_recipe_in_the_table_and_the_json(tiny, tmp_path, capsys):
    path = tmp_path / 'new' / 'figures.json'
    assert benchmark.main(['--quick', '--json', str(path)]) == 0
    shown, content = capsys.readouterr().out, json.loads(path.read_text())
    assert content['command'].endswith(f'--quick --json {path}')
    assert content['machine']['torch'] == torch.__version__
    assert content['quick'] is True
    for row in content['rows']:
        assert row['what'] in shown
        assert row['ours']['least'] <= row['ours']['median'] <= row['ours']['most']
        if row['plain'] and row['ours']['median']:
            assert row['ratio'] == pytest.approx(row['plain']['median'] / row['ours']['median'])
    found = {(row['part'], row['what'].split(':')[0]) for row in content['rows']}
    for recipe in recipes.RECIPES:
        for part, what in (
            ('data', recipe),
            ('step', recipe),
            ('step', f'share of an iteration that waits for data, decoding, {recipe}'),
            ('step', f'share of an iteration that waits for data, from the cache, {recipe}'),
            ('data', f'{recipe}'),
            ('eval', f'overhead an image, {recipe}'),
        ):
            assert (part, what) in found
    assert {row['part'] for row in content['rows']} == set(benchmark.PARTS)
    for recipe in recipes.RECIPES:
        shares = [
            row['ours']['median'] for row in content['rows'] if row['part'] == 'profile' and recipe in row['what']
        ]
        assert len(shares) == len(profile.KINDS) and sum(shares) == pytest.approx(100)
        assert shares[0] > 0  # convolutions
    (saved,) = (row for row in content['rows'] if row['what'].startswith('saved activations'))
    assert 3 < saved['ratio'] <= 4.5  # four graphs against one


def test_saved_activations_by_hand():
    """Storages alive at one time, each once, without the parameters."""
    network = nn.Linear(10, 10)
    held = SimpleNamespace(networks=lambda: [network])
    x = torch.randn(100, 10, requires_grad=True)  # 4000 bytes

    def one():
        (x * x).exp().sum().backward()  # x (twice), and the exponential

    def two_in_turn():
        one()
        one()

    def two_at_once():
        ((x * x).exp().sum() + (x * x).exp().sum()).backward()

    assert memory.most_saved(one, held) == 8000
    assert memory.most_saved(two_in_turn, held) == 8000
    assert memory.most_saved(two_at_once, held) == 12000
    assert memory.most_saved(lambda: network(x).sum().backward(), held) == 4000


@pytest.mark.parametrize(
    ('operator', 'kind'),
    [
        ('aten::mkldnn_convolution', 'convolutions'),
        ('aten::cudnn_batch_norm_backward', 'BatchNorm'),
        ('aten::_fused_sgd_', 'SGD'),
        ('aten::copy_', 'copies and casts'),
        ('aten::upsample_bilinear2d', 'resizing'),
        ('aten::_log_softmax_backward_data', 'losses, labels, confidence'),
        ('aten::add_', 'rest'),
    ],
)
def test_kinds_of_work(operator, kind):
    assert profile.kind_of(operator) == kind


def test_calls_take_turns_after_a_warm_up():
    calls = []
    seconds = measure.in_turns({name: lambda name=name: calls.append(name) for name in 'AB'}, 3, CPU)
    assert ''.join(calls) == 'AB' + 'ABABAB'
    assert {name: len(values) for name, values in seconds.items()} == {'A': 3, 'B': 3}


def test_table():
    spread = Spread.of([3.0, 1.0, 2.0])
    assert spread == Spread(2.0, 1.0, 3.0, 3)
    rows = [
        Row('step', 'one', 's', spread, Spread.of([5.0]), {'forward': Spread.of([0.5])}, 'a note'),
        Row('step', 'two', 's', None, note='does not fit'),
    ]
    head, one, two = measure.table(rows).splitlines()
    assert head.split()[:6] == ['part', 'what', 'unit', 'ours', 'plain', 'plain/ours']
    assert one.split() == ['step', 'one', 's', '2', '(1–3)', '5', '2.50', 'forward', '0.5;', 'a', 'note']
    assert two.split() == ['step', 'two', 's', '–', '–', 'does', 'not', 'fit']


def test_images_a_second_of_a_network(tiny, tmp_path):
    plan = recipes.Plan((recipes.RECIPES['city'],), CPU, tmp_path, rounds=1)
    C, image = plan.recipes[0].config(), np.zeros((40, 70, 3), np.uint8)
    row = evaluation._with_network(plan, C, image, image[..., 0], 'title', 'bf16')
    assert 'bfloat16' in row.what
    assert min(row.ours.median, row.plain.median, row.beside['forward passes alone'].median) > 0


@pytest.mark.parametrize('name, least, most', [('city', 2.0e6, 2.6e6), ('voc', 80e3, 120e3)])
def test_drawn_images_have_the_size_of_real_ones(tmp_path, name, least, most):
    recipe = recipes.RECIPES[name]
    (item,) = recipes.make_images(tmp_path, recipe, 1)
    assert least < Path(item.image).stat().st_size < most
    assert read_image(item.image).shape == (*recipe.image_size, 3)


def test_own_images(tiny, tmp_path, capsys):
    (item,) = recipes.make_images(tmp_path, replace(recipes.CITY, image_size=(36, 48), shrink=1), 1)
    folder = tmp_path / 'config_new'
    folder.mkdir()
    line = '\t'.join(f'/{Path(path).name}' for path in (item.image, item.label))
    (folder / 'train.txt').write_text(f'{line}\n')
    arguments = ['data', '--quick', '--recipe', 'city', '--data', str(tmp_path)]
    assert benchmark.main(arguments) == 0
    assert f'images of {tmp_path}' in capsys.readouterr().out
    (folder / 'train.txt').write_text(line.split('\t')[0])
    assert benchmark.main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'error: {folder / "train.txt"}: ')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--device', 'banana'], '--device banana: expected cpu or cuda:0'),
        (['--device', 'cuda:99'], '--device cuda:99: PyTorch sees'),
        (['--data', 'somewhere'], '--recipe city or --recipe voc'),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert benchmark.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_without_the_plain_version(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plain, 'FOLDER', tmp_path / 'tests' / 'plain')
    for name in [name for name in sys.modules if name.split('.')[0] == 'plain']:
        monkeypatch.delitem(sys.modules, name)
    assert benchmark.main(['data']) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / 'tests' / 'plain') in line


def test_a_folder_gets_a_file_named_after_the_device(tiny, tmp_path):
    assert benchmark.main(['memory', '--quick', '--json', str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ['benchmark_cpu_memory.json']


def test_a_part_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch, capsys):
    def broken(plan):
        yield Row('step', 'w', 's', Spread.of([1.0]))
        raise RuntimeError('no such kernel')

    def row(plan):
        return [Row('eval', 'x', 'ms', Spread.of([1.0]))]

    monkeypatch.setattr(benchmark, 'PARTS', {'step': broken, 'eval': row})
    assert benchmark.main(['--quick', '--json', str(tmp_path)]) == 1
    shown, content = capsys.readouterr(), json.loads((tmp_path / 'benchmark_cpu.json').read_text())
    assert shown.err.endswith('error: step: could not be measured; the reason stands above\n')
    assert 'RuntimeError: no such kernel' in shown.err and '\neval  x ' in shown.out
    assert ([row['what'] for row in content['rows']], content['failed']) == (['w', 'x'], ['step'])


def test_what_was_measured_before_a_failure_is_kept(tmp_path, monkeypatch, capsys):
    def interrupted(plan):
        raise KeyboardInterrupt

    parts = {'data': lambda plan: [Row('data', 'x', 'ms', Spread.of([1.0]))], 'memory': interrupted}
    monkeypatch.setattr(benchmark, 'PARTS', parts)
    assert benchmark.main(['--quick', '--json', str(tmp_path)]) == 130
    (row,) = json.loads((tmp_path / 'benchmark_cpu.json').read_text())['rows']
    assert row['what'] == 'x'
    assert '\ndata  x ' in capsys.readouterr().out
