"""Several processes against one."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from furnace.engine.distributed import launch

SCRIPT = Path(__file__).with_name('process_step.py')
TORCHRUN = '-m torch.distributed.run --standalone --nproc_per_node=2'


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """Losses and gradients of one process, by method."""
    results = {}
    for method in ('cpcl', 'supervised'):
        output = tmp_path_factory.mktemp('alone') / 'result.pth'
        subprocess.run([sys.executable, SCRIPT, output, method], check=True)
        results[method] = torch.load(output, weights_only=True)
    return results


@pytest.mark.parametrize('size, method', [(2, 'cpcl'), (3, 'cpcl'), (2, 'supervised')])
def test_losses_and_gradients_equal_those_of_one_process(tmp_path, alone, monkeypatch, size, method):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    output, devices = tmp_path / 'result.pth', [torch.device('cpu')] * size
    assert launch([sys.executable, str(SCRIPT), str(output), method], devices) == 0
    result, want = torch.load(output, weights_only=True), alone[method]
    assert (result['size'], want['size']) == (size, 1)
    assert result['losses'].keys() == want['losses'].keys()
    for name, value in want['losses'].items():
        assert result['losses'][name].item() == pytest.approx(value.item(), rel=1e-9), name
    for name, gradient in want['gradients'].items():
        assert (result['gradients'][name] - gradient).norm() <= 1e-9 * gradient.norm(), name


def test_the_status_of_a_process_that_fails_is_told(capfd):
    command = [sys.executable, '-c', 'import sys; sys.exit(2)']
    assert launch(command, [torch.device('cpu')] * 2) == 2


def test_two_processes_train_and_evaluate_as_one(demo, trained, log):
    outcome = demo.process(f'{TORCHRUN} train.py', log, batch_size=4)
    assert outcome.status == 0, outcome.stderr
    assert '2 x the CPU' in outcome.stdout
    assert [path.name for path in log.glob('*.log')] == [next(log.glob('train_*.log')).name]
    rows = [json.loads(line) for line in (log / 'losses.jsonl').read_text().splitlines()]
    assert [row['iteration'] for row in rows] == list(range(1, 9))

    scores = []
    for script in (f'{TORCHRUN} eval.py', 'eval.py'):
        outcome = demo.process(script, log, '--branch', 'both', '--report', snapshot_dir=trained / 'snapshot')
        assert outcome.status == 0, outcome.stderr
        results = json.loads((log / 'val_last.json').read_text())['results']
        worst = re.findall('alt="(val_.+?)"', (log / 'report/index.html').read_text())
        scores.append((worst, [(result['branch'], result['confusion'], result['agreement']) for result in results]))
    assert scores[0] == scores[1]
    assert len(scores[0][0]) == 3


def test_a_batch_that_cannot_be_shared_out_names_two_sizes_that_can(demo, log):
    outcome = demo.process(f'{TORCHRUN} train.py', log, batch_size=5)
    assert outcome.status != 0
    errors = [line for line in outcome.stderr.splitlines() if line.startswith('error:')]
    assert errors == ['error: batch_size = 5: does not divide by the 2 processes; 4 and 6 do']
    assert not log.exists()
