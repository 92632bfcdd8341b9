"""Several processes against one."""

import json
import re
import sys
from contextlib import nullcontext

import process_step
import pytest
import torch
from place import SmallNetwork
from torch import nn

from furnace.engine import train_command, trainer
from furnace.engine.distributed import World, launch, synchronized
from furnace.seg_opr.loss import CrossEntropy

TORCHRUN = '-m torch.distributed.run --standalone --nproc_per_node=2'


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """Losses and gradients of one process, by method."""
    output = tmp_path_factory.mktemp('alone') / 'result.pth'
    process_step.run(output, 'cpcl', 'supervised')
    return torch.load(output, weights_only=True)


def test_losses_and_gradients_equal_those_of_one_process(tmp_path, alone, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    output, devices = tmp_path / 'result.pth', [torch.device('cpu')] * 3
    assert launch([sys.executable, process_step.__file__, str(output), 'cpcl', 'supervised'], devices) == 0
    results = torch.load(output, weights_only=True)
    for method in 'cpcl', 'supervised':
        result, want = results[method], alone[method]
        assert (result['size'], want['size']) == (3, 1)
        assert result['losses'].keys() == want['losses'].keys()
        for name, value in want['losses'].items():
            assert result['losses'][name].item() == pytest.approx(value.item(), rel=1e-9), name
        for name, gradient in want['gradients'].items():
            assert (result['gradients'][name] - gradient).norm() <= 1e-9 * gradient.norm(), name


def test_two_processes_leave_one_log_and_evaluate_as_one(demo, trained, trained_by_two, log):
    rows = [json.loads(line) for line in (trained_by_two / 'losses.jsonl').read_text().splitlines()]
    assert [row['iteration'] for row in rows] == list(range(1, 9))
    assert len(list(trained_by_two.glob('*.log'))) == 1

    scores = []
    for run, script in ((demo.process, f'{TORCHRUN} eval.py'), (demo.call, 'eval.py')):
        outcome = run(script, log, '--branch', 'both', '--report', snapshot_dir=trained / 'snapshot')
        assert outcome.status == 0, outcome.stderr
        results = json.loads((log / 'val_last.json').read_text())['results']
        worst = re.findall('alt="(val_.+?)"', (log / 'report/index.html').read_text())
        scores.append((worst, [(result['branch'], result['confusion'], result['agreement']) for result in results]))
    assert scores[0] == scores[1]
    assert len(scores[0][0]) == 3


def test_scores_while_two_train_are_those_of_what_they_save(demo, trained_by_two, log):
    outcome = demo.call('eval.py', log, '-e', 'best', snapshot_dir=trained_by_two / 'snapshot')
    assert outcome.status == 0, outcome.stderr
    found = json.loads((log / 'val_last.json').read_text())['results'][0]['mean_iou']
    assert found == json.loads((trained_by_two / 'scores.jsonl').read_text())['mean_iou']


def test_the_supervised_loss_knows_that_the_batch_is_shared(demo, log, small, monkeypatch):
    shared = []
    monkeypatch.setattr(train_command, 'joined', lambda device: nullcontext((World(0, 2), device)))
    monkeypatch.setattr(World, 'most', lambda world, *values: list(values))
    monkeypatch.setattr(trainer, 'replicate', lambda network, world: (network, None))
    monkeypatch.setattr(trainer.Trainer, 'run', lambda trainer, logger: None)
    monkeypatch.setattr(CrossEntropy, 'share', lambda criterion, processes: shared.append(processes))
    assert demo.call('train.py', log, batch_size=4).status == 0
    assert shared == [2]


def test_batchnorm_is_synchronized_on_several_gpus_and_keeps_its_names():
    def network():
        return SmallNetwork(3)

    gpu, cpu = torch.device('cuda'), torch.device('cpu')
    for device, size, kind in ((gpu, 2, nn.SyncBatchNorm), (gpu, 1, nn.BatchNorm2d), (cpu, 2, nn.BatchNorm2d)):
        found = synchronized(network(), device, World(0, size))
        assert type(found.branch1.backbone.bn1) is type(found.branch2.backbone.bn1) is kind
        assert list(found.state_dict()) == list(network().state_dict())


def test_a_batch_that_cannot_be_shared_out_names_two_sizes_that_can(refused, monkeypatch):
    monkeypatch.setattr(train_command, 'joined', lambda device: nullcontext((World(0, 2), device)))
    monkeypatch.setattr(World, 'most', lambda world, *values: list(values))
    assert refused('train.py', batch_size=5) == 'batch_size = 5: does not divide by the 2 processes; 4 and 6 do'
