"""The benchmark's command line and instruments, on images and networks as small as they can be."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from furnace.datasets.images import read_image
from furnace.tools import benchmark
from furnace.tools.bench import evaluation, measure, memory, plain, profile, recipes, step, work
from furnace.tools.bench.measure import Row, Spread

CPU = torch.device('cpu')


class Branch(nn.Module):
    """The parts that parameter groups are made from."""

    def __init__(self, num_classes):
        super().__init__()
        self.backbone, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.classifier = nn.Conv2d(4, num_classes, 1)

    def forward(self, x):
        return self.classifier(self.head(self.backbone(x))).float()  # as the real one


class Network(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.branches = nn.ModuleList(Branch(C.num_classes) for _ in (1, 2))

    def forward(self, x, step=1):
        return self.branches[step - 1](x)


class Tiny(recipes.Recipe):
    def config(self, *overrides):
        least = dict.fromkeys(('image_height', 'image_width', 'eval_crop_size'), 32) | {'num_workers': 0}
        return super().config(*(f'{name}={value}' for name, value in least.items()), *overrides)


@pytest.fixture
def tiny(monkeypatch):
    """Both recipes and the quick plan, made tiny, in one process."""
    for name, recipe in recipes.RECIPES.items():
        small = Tiny(**{**vars(recipe), 'image_size': (36, 48), 'shrink': 1})
        monkeypatch.setitem(recipes.RECIPES, name, small)
    for module in (work, evaluation):
        monkeypatch.setattr(module, 'build_network', Network)
    monkeypatch.setattr(memory, 'ProcessPoolExecutor', lambda number, context: ThreadPoolExecutor(number))
    quick = {**benchmark.QUICK, 'memory_side': 16, 'step_side': 16, 'list_lengths': (10, 20)}
    monkeypatch.setattr(benchmark, 'QUICK', quick)


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


@pytest.mark.parametrize(
    'name, peak',
    [
        ('NVIDIA H100 80GB HBM3', 989e12),
        ('NVIDIA H200', 989e12),
        ('NVIDIA A100-SXM4-80GB', 312e12),
        ('NVIDIA A100-PCIE-40GB', 312e12),
        ('NVIDIA H100 PCIe', None),
        ('NVIDIA H100 NVL', None),
        ('NVIDIA H200 NVL', None),
        ('Tesla T4', None),
    ],
)
def test_peaks_of_known_gpus_alone(name, peak):
    assert step.peak_of(name) == peak


def test_a_plain_step_that_does_not_fit_leaves_ours(tiny, tmp_path, monkeypatch):
    def too_much(self):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(work.Work, 'plain', too_much)
    plan = recipes.Plan((recipes.RECIPES['voc'],), CPU, tmp_path, rounds=1, images=1, step_side=16, waits=1)
    *_, row = step.rows(plan)
    assert row.ours.median > 0 and row.plain is None and row.ratio is None
    assert 'does not fit' in row.note


def test_a_profile_that_does_not_fit(tiny, tmp_path, monkeypatch):
    def too_much(self):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(work.Work, 'ours', too_much)
    (row,) = profile.rows(recipes.Plan((recipes.RECIPES['voc'],), CPU, tmp_path, step_side=16))
    assert (row.ours, row.note) == (None, 'does not fit')


@pytest.fixture
def fake_cuda(monkeypatch):
    """Calls of a GPU that the CPU answers; a batch of b images reserves 2b - 0.5 GiB, more than 40 GiB do not fit."""
    batch = []

    def reserved(device):
        if 2 * batch[-1] > 40:
            raise torch.OutOfMemoryError
        return 2 * batch[-1] * 2**30 - 2**29

    made = work.random_batch
    monkeypatch.setattr(work, 'random_batch', lambda C, device: batch.append(C.batch_size) or made(C, device))
    monkeypatch.setattr(torch.cuda, 'synchronize', reserved)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: None)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', reserved)
    monkeypatch.setattr(torch.cuda, 'max_memory_reserved', reserved)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'NVIDIA H200')


def test_what_fits_on_a_card(tiny, fake_cuda):
    found = memory._fits(recipes.RECIPES['voc'], CPU)
    assert [row.ours.median for row in found] == [2, 6, 8, 16, 16]  # below 7, 15, 23, 47, 79 GiB
    allocated, reserved = memory._on_gpu(recipes.RECIPES['voc'], CPU)  # batch 8
    assert (allocated.ours, allocated.plain, reserved.ratio) == (Spread.of([15872]), Spread.of([15872]), 1)


def test_a_peak_without_the_trials_before_it(monkeypatch):
    """Kernels are tried out in the first calls, with all the memory that there is."""
    now, peak = [0], [0]

    def call():
        now[0] += 1
        peak[0] = max(peak[0], 100 if now[0] < 3 else 7)

    monkeypatch.setattr(torch.cuda, 'synchronize', lambda device: None)
    monkeypatch.setattr(torch.cuda, 'empty_cache', lambda: None)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda device: peak.__setitem__(0, 0))
    for name in ('max_memory_allocated', 'max_memory_reserved'):
        monkeypatch.setattr(torch.cuda, name, lambda device: peak[0] * memory.MIB)
    assert memory.cuda_peak(call, CPU) == (7, 7)

    def full():
        raise RuntimeError('FIND was unable to find an engine to execute this computation')

    assert memory.cuda_peak(full, CPU) is None


def test_utilisation_of_a_known_gpu(fake_cuda):
    a = torch.randn(10, 10)
    step_row, share = step._rows_of(
        'title', SimpleNamespace(device=torch.device('cuda'), ours=lambda: a @ a), {'ours': [1.0], 'plain': [2.0]}
    )
    assert '2e-09 TFLOP' in step_row.note
    assert share.ours.median == pytest.approx(100 * 2000 / 989e12)
    assert share.plain.median == pytest.approx(50 * 2000 / 989e12)


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
        raise RuntimeError('no such kernel')

    def row(plan):
        return [Row('eval', 'x', 'ms', Spread.of([1.0]))]

    monkeypatch.setattr(benchmark, 'PARTS', {'step': broken, 'eval': row})
    assert benchmark.main(['--quick', '--json', str(tmp_path)]) == 1
    shown, content = capsys.readouterr(), json.loads((tmp_path / 'benchmark_cpu.json').read_text())
    assert shown.err.endswith('error: step: could not be measured; the reason stands above\n')
    assert 'RuntimeError: no such kernel' in shown.err and '\neval  x ' in shown.out
    assert ([row['what'] for row in content['rows']], content['failed']) == (['x'], ['step'])


def test_on_a_gpu_its_figures_come_first(monkeypatch, tmp_path):
    assert set(benchmark.ON_GPU) == set(benchmark.PARTS)
    seen, plans = [], []
    parts = {name: lambda plan, name=name: seen.append(name) or plans.append(plan) or [] for name in benchmark.PARTS}
    monkeypatch.setattr(benchmark, 'PARTS', parts)
    monkeypatch.setattr(benchmark, '_device', lambda text: torch.device('cuda', 0))
    monkeypatch.setattr(benchmark, 'machine', lambda device: dict.fromkeys(('device', 'cpu', 'torch_threads', 'torch')))
    monkeypatch.setattr(benchmark, 'set_up', lambda device, deterministic: None)
    for options, small, waits in ([], False, 40), (['--quick'], True, 20):
        seen.clear()
        assert benchmark.main(['--device', 'cuda:0', *options]) == 0
        assert seen[0] == 'step' and seen[-1] == 'data'
        assert (plans[-1].small, plans[-1].waits) == (small, waits)
        C, title = step.configured(replace(plans[-1], folder=tmp_path), recipes.RECIPES['city'])
        assert (C.image_height, C.backbone) == ((33, 'resnet18') if small else (800, 'resnet50')), title


def test_what_was_measured_before_a_failure_is_kept(tmp_path, monkeypatch, capsys):
    def interrupted(plan):
        raise KeyboardInterrupt

    parts = {'data': lambda plan: [Row('data', 'x', 'ms', Spread.of([1.0]))], 'memory': interrupted}
    monkeypatch.setattr(benchmark, 'PARTS', parts)
    assert benchmark.main(['--quick', '--json', str(tmp_path)]) == 130
    (row,) = json.loads((tmp_path / 'benchmark_cpu.json').read_text())['rows']
    assert row['what'] == 'x'
    assert '\ndata  x ' in capsys.readouterr().out
