"""What the benchmark makes of a GPU: what fits, peaks, utilisation; the CPU answers in its place."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from furnace.tools import benchmark
from furnace.tools.bench import memory, profile, recipes, step, work
from furnace.tools.bench.measure import Spread

CPU = torch.device('cpu')


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
    monkeypatch.setattr(memory.gc, 'collect', lambda: None)
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
        raise RuntimeError('CUDA error: CUBLAS_STATUS_ALLOC_FAILED')

    assert memory.cuda_peak(full, CPU) is None


def test_no_kernel_is_a_lack_of_memory_only_where_there_is_none(monkeypatch):
    def without_kernel():
        raise RuntimeError('FIND was unable to find an engine to execute this computation')

    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (5, 100))
    assert memory.cuda_peak(without_kernel, CPU) is None
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda: (50, 100))
    with pytest.raises(RuntimeError, match='unable to find an engine'):
        memory.cuda_peak(without_kernel, CPU)


def test_utilisation_of_a_known_gpu(fake_cuda):
    a = torch.randn(10, 10)
    step_row, share = step._rows_of(
        'title', SimpleNamespace(device=torch.device('cuda'), ours=lambda: a @ a), {'ours': [1.0], 'plain': [2.0]}
    )
    assert '2e-09 TFLOP' in step_row.note
    assert share.ours.median == pytest.approx(100 * 2000 / 989e12)
    assert share.plain.median == pytest.approx(50 * 2000 / 989e12)


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
