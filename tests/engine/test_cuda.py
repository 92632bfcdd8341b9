"""What only a GPU can show; skipped where there is none."""

import contextlib
import json

import pytest
import torch

from furnace.base_model import load_file
from furnace.engine.trainer import Trainer
from furnace.seg_opr.loss import CITYSCAPES_WEIGHTS, OhemCrossEntropy
from furnace.tools.bench.memory import cuda_peak
from furnace.tools.bench.recipes import VOC
from furnace.tools.bench.work import Work

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')]
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs two CUDA devices')


def rows(log):
    """The logged losses, one dict an iteration."""
    return [json.loads(line) for line in (log / 'losses.jsonl').read_text().splitlines()]


def train(demo, log, *arguments, **settings):
    outcome = demo.call('train.py', log, *arguments, **{'device': '0', **settings})
    assert outcome.status == 0, outcome.stderr
    return rows(log)


def test_losses_in_bfloat16_stay_near_those_in_float32(demo, log, no_checkpoints):
    """In the first step; later ones part, as with any rounding. Small batches would let BatchNorm enlarge it."""
    settings = {'batch_size': 8, 'image_height': 129, 'image_width': 129, 'nepochs': 1, 'niters_per_epoch': 1}
    ((exact,), (rounded,)) = (train(demo, log / amp, amp=amp, **settings) for amp in ('off', 'bf16'))
    for name in ('loss', 'sup_1', 'sup_2'):
        assert rounded[name] == pytest.approx(exact[name], rel=0.05), name
    assert exact['loss'] != rounded['loss']


@several
def test_two_gpus_give_the_losses_of_one(demo, log, monkeypatch):
    """SyncBatchNorm has the whole batch's statistics, and gradients are its mean: float32 sums in another order."""
    monkeypatch.setenv('NVIDIA_TF32_OVERRIDE', '0')
    found = []
    for devices in ('0', '0,1'):
        folder = log / devices.replace(',', '_')
        outcome = demo.process('train.py', folder, '-d', devices, batch_size=4, amp='off', deterministic=True)
        assert outcome.status == 0, outcome.stderr
        found.append(rows(folder))
    for name in ('loss', 'sup_1', 'sup_2', 'overlap'):
        # The first two: rounding that early steps differ by grows in every later one.
        assert [row[name] for row in found[1][:2]] == pytest.approx([row[name] for row in found[0][:2]], rel=1e-3), name


def test_a_step_holds_one_graph_at_a_time():
    """The plain version holds four; weights, gradients and momenta are the same in both and taken off."""
    config = VOC.config('batch_size=4', 'image_height=256', 'image_width=256', 'amp=bf16')
    peaks = {}
    for kind in ('ours', 'plain'):
        work = Work(config, torch.device('cuda'))
        call = {'ours': work.ours, 'plain': work.plain}[kind]
        call()  # gradients and momenta are there now
        fixed = torch.cuda.memory_allocated() / 2**20
        peaks[kind] = cuda_peak(call, work.device)[0] - fixed
        del work, call
        torch.cuda.empty_cache()
    assert 0 < peaks['ours'] < peaks['plain'] / 2


@pytest.mark.parametrize('method', ['cpcl', 'cps', 'supervised'])
@pytest.mark.parametrize('amp', ['off', 'bf16', 'fp16'])
def test_an_iteration_never_waits_for_the_device(demo, log, no_checkpoints, monkeypatch, method, amp):
    done, iterate = [], Trainer.iterate

    def watched(self, batch):
        done.append(self.iteration)
        # The first one loads kernels and chooses algorithms.
        with no_waiting() if len(done) > 1 else contextlib.nullcontext():
            return iterate(self, batch)

    monkeypatch.setattr(Trainer, 'iterate', watched)
    train(demo, log, method=method, amp=amp, max_bad_steps=1, image_every=1)
    assert len(done) == 8


def test_hard_pixels_are_found_without_waiting():
    criterion = OhemCrossEntropy(255, 0.7, 1000, CITYSCAPES_WEIGHTS).cuda()
    logits, target = torch.randn(2, 19, 64, 64, device='cuda'), torch.randint(0, 19, (2, 64, 64), device='cuda')
    with no_waiting():
        found = criterion(logits, target)
    assert found.item() == pytest.approx(criterion.cpu()(logits.cpu(), target.cpu()).item(), rel=1e-4)


@contextlib.contextmanager
def no_waiting():
    """Within it PyTorch raises an error where the host would wait for the device."""
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def test_no_waiting_catches_a_wait():
    value = torch.ones(1, device='cuda')
    with no_waiting(), pytest.raises(RuntimeError, match='synchroniz'):
        value.item()


@pytest.mark.parametrize('settings', [{'amp': 'off'}, {'amp': 'bf16'}, {'amp': 'bf16', 'compile': True}], ids=str)
def test_deterministic_training_goes_on_to_the_same_weights(demo, log, settings):
    """A run of its own process each: some of the switches count only before CUDA is first used."""
    settings = {'device': '0', 'deterministic': True, **settings}
    outcome = demo.process('train.py', log / 'whole', snapshot_iter=1, **settings)
    assert outcome.status == 0, outcome.stderr
    assert 'compile = True: does not work here' not in outcome.stdout
    checkpoint = log / 'whole' / 'snapshot' / 'epoch-2.pth'
    outcome = demo.process('train.py', log / 'resumed', '-c', checkpoint, snapshot_iter=1, **settings)
    assert outcome.status == 0, outcome.stderr
    last = [load_file(log / name / 'snapshot' / 'epoch-last.pth') for name in ('whole', 'resumed')]
    assert last[0]['iteration'] == last[1]['iteration'] == 8 > load_file(checkpoint)['iteration']
    for name, tensor in last[0]['model'].items():
        assert torch.equal(tensor, last[1]['model'][name]), name
    assert rows(log / 'whole')[-1] == rows(log / 'resumed')[-1]
