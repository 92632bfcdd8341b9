"""Studies: what a plan says is trained once, and the tables are those of its results."""

import json
import resource
import shutil
import signal
import subprocess
from types import SimpleNamespace

import pytest
import torch
from studies import SHORT, row, write_plan
from tiny import DEMO, SETTINGS, write_data

from furnace.tools.study import train
from furnace.tools.study.__main__ import main
from furnace.tools.study.plan import Plan, Run
from furnace.tools.study.tables import last
from furnace.utils.errors import RunError

OVERRIDES = ['nepochs=2', 'niters_per_epoch=1', 'eval_every=1', 'method=cpcl', 'labeled_ratio=2', 'seed=1']


@pytest.fixture
def told(capsys):
    """Runs a command that is refused; its one line."""

    def call(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        output = capsys.readouterr()
        assert output.err.startswith('error: ') and output.err.count('\n') == 1
        return output.err

    return call


def test_a_study(tmp_path, capsys, told):
    write_data(tmp_path / 'data')
    settings = SETTINGS | SHORT | {'dataset_path': str(tmp_path / 'data')}
    path = write_plan(tmp_path, settings={name: value for name, value in settings.items() if name != 'labeled_ratio'})
    train = ['run', str(path), '--logs', str(tmp_path / 'logs'), '-d', 'cpu']
    assert main([*train, '--jobs', '2']) == 0
    rows = [json.loads(line) for line in path.with_suffix('.jsonl').read_text().splitlines()]
    assert {row['variant'] for row in rows} == {'supervised', 'CPCL'}
    for found in rows:
        assert [score['iteration'] for score in found['scores']] == [1, 2]
        assert [line['iteration'] for line in found['losses']] == [1, 2]
        assert ('inter' in found['losses'][0]) == (found['variant'] == 'CPCL')
        assert 'seed=1' in found['overrides'] and 'labeled_ratio=2' in found['overrides']
        assert found['machine']['device'] == 'CPU' and found['seconds'] > 0
    # What is done is not trained again, and its checkpoints are not kept.
    assert not [*(tmp_path / 'logs').rglob('*.pth'), *(tmp_path / 'logs').rglob('seconds.txt')]
    assert main(train) == 0
    assert '0 runs to train, 2 done' in capsys.readouterr().out
    assert main(['tables', str(path)]) == 0
    text = capsys.readouterr().out
    (cpcl,) = (row for row in rows if row['variant'] == 'CPCL')  # the lines are in the order in which runs end
    assert f'| CPCL        | {100 * last(cpcl):.2f} |' in text
    assert '| left ' in text and '2 runs, 0.0 hours of training on: ' in text

    assert 'run, CPCL, 1/2' not in text
    write_plan(tmp_path, settings=settings | {'lr': 0.5})
    assert 'was trained with' in told('tables', path)


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    path = write_plan(tmp_path, variants={'one': {}, 'two': {}})

    def fake(plan, run, folder, device, threads, processes):
        if run.variant == 'one':
            raise RunError('train.py ended with status 2')
        (folder / run.folder / 'snapshot').mkdir(parents=True)
        return row(run, 0.5)

    monkeypatch.setattr(train, 'train', fake)
    assert main(['run', str(path), '--logs', str(tmp_path / 'logs')]) == 1
    output = capsys.readouterr()
    assert output.err == 'error: 1 of 2 runs failed; the first: one, 1/2, seed 1: train.py ended with status 2\n'
    assert 'two, 1/2, seed 1: mean IoU 50.00' in output.out
    assert list(tmp_path.glob('logs/*/snapshot')) == []
    (line,) = path.with_suffix('.jsonl').read_text().splitlines()
    assert json.loads(line)['variant'] == 'two'


def test_a_training_that_starts_while_the_others_are_stopped(monkeypatch):
    processes = train.Processes()
    start = subprocess.Popen

    def slow(*arguments, **options):
        process = start(*arguments, **options)
        processes.stop()  # by the main thread, which does not know of this one yet
        return process

    monkeypatch.setattr(subprocess, 'Popen', slow)
    assert processes.run(['sleep', '60']) == -signal.SIGTERM


STOPS_THE_STUDY = """
import os, signal, sys
assert 'batch_size' not in os.environ and os.environ['volna'] == 'here'
assert sys.argv[1:3] == ['-c', 'auto'] and os.getsid(0) == os.getpid()
signal.signal(signal.SIGTERM, lambda *_: sys.exit('saved'))
signal.alarm(60)  # where nothing comes, the test fails
os.kill(os.getppid(), signal.{})
signal.pause()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_training_too(tmp_path, capsys, monkeypatch, number):
    monkeypatch.setenv('batch_size', '1')  # would stand above the plan, and be refused
    (tmp_path / 'exp').mkdir()
    shutil.copy(DEMO / 'config.py', tmp_path / 'exp')
    (tmp_path / 'exp' / 'train.py').write_text(STOPS_THE_STUDY.format(number.name))
    path = write_plan(tmp_path, experiment=str(tmp_path / 'exp'))
    monkeypatch.setenv('volna', 'here')

    def nothing(*_):
        """Under nohup SIGHUP is ignored, and SIGINT in what a shell runs with &."""

    before = signal.signal(number, nothing)
    status = main(['run', str(path), '-d', 'cpu', '--logs', str(tmp_path / 'logs')])
    former = signal.signal(number, before)
    assert (status, former) == (128 + number, nothing)
    assert capsys.readouterr().err == f'stopped by {number.name}; the same command goes on\n'
    (output,) = tmp_path.rglob('output.txt')  # the second run is not begun
    assert output.read_text() == 'saved\n'
    assert path.with_suffix('.jsonl').read_text() == ''


def test_a_signal_that_is_to_be_ignored_is(tmp_path, monkeypatch):
    """As under nohup."""
    path = write_plan(tmp_path, variants={'one': {}})

    def fake(plan, run, folder, device, threads, processes):
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
        (folder / run.folder / 'snapshot').mkdir(parents=True)
        return row(run, 0.5)

    monkeypatch.setattr(train, 'train', fake)
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(['run', str(path), '--logs', str(tmp_path / 'logs')]) == 0
    finally:
        signal.signal(signal.SIGHUP, former)


FAILS_ONCE = """
import json, pathlib, sys
log = pathlib.Path(sys.argv[-1].removeprefix('log_dir='))
if not (log / 'seconds.txt').exists():
    sys.exit('first')
for name in ('losses', 'scores'):
    (log / f'{name}.jsonl').write_text(json.dumps({'iteration': 1, 'loss': 0.5}) + '\\n')
print('second')
"""


def test_an_attempt_after_one_that_ended_adds_to_it(tmp_path, monkeypatch):
    clock = iter((0, 1, 5, 12))
    monkeypatch.setattr(train, 'time', SimpleNamespace(monotonic=lambda: next(clock)))
    (tmp_path / 'train.py').write_text(FAILS_ONCE)
    plan, run, cpu = Plan(write_plan(tmp_path, experiment=str(tmp_path))), Run('CPCL', 2, 1), torch.device('cpu')
    log = tmp_path / 'logs' / run.folder
    with pytest.raises(RunError, match=rf'^train.py ended with status 1: first \(all of it: {log}/output.txt\)$'):
        train.train(plan, run, log.parent, cpu, 1, train.Processes())
    assert train.train(plan, run, log.parent, cpu, 1, train.Processes())['seconds'] == 1 + 7
    assert (log / 'output.txt').read_text() == 'first\nsecond\n'


@pytest.mark.parametrize(('device', 'which'), [('cpu', 'cpu'), ('cuda:1', '1')])
def test_a_run_gets_its_device_and_threads(tmp_path, device, which):
    says = "import os, sys; sys.exit(' '.join([os.environ['OMP_NUM_THREADS'], *sys.argv[1:5]]))"
    (tmp_path / 'train.py').write_text(says)
    plan, run = Plan(write_plan(tmp_path, experiment=str(tmp_path))), Run('CPCL', 2, 1)
    with pytest.raises(RunError, match=rf'^train.py ended with status 1: 3 -c auto -d {which} \('):
        train.train(plan, run, tmp_path / 'logs', torch.device(device), 3, train.Processes())


@pytest.fixture
def order(monkeypatch):
    """Trainings that do nothing, in the order in which they were called for."""
    runs = []

    def fake(plan, run, folder, device, threads, processes):
        runs.append(run)
        (folder / run.folder / 'snapshot').mkdir(parents=True)
        return row(run, 0.5, iou={'sky': 0.5}) | {'overrides': plan.overrides(run)}

    monkeypatch.setattr(train, 'train', fake)
    return runs


def test_some_variants_and_their_checkpoints(tmp_path, capsys, order):
    path = write_plan(tmp_path, variants={'one': {}, 'two': {}}, seeds=[1, 2])
    logs = str(tmp_path / 'logs')
    assert main(['run', str(path), '--logs', logs, '--only', 'two', '--keep-checkpoints']) == 0
    assert order == [Run('two', 2, 1), Run('two', 2, 2)]
    assert len(list(tmp_path.glob('logs/*/snapshot'))) == 2
    path.with_suffix('.jsonl').unlink()
    order.clear()
    assert main(['run', str(path), '--logs', f'{logs}2']) == 0
    assert [run.seed for run in order] == [1, 1, 2, 2]  # cut short, it compares all variants
    capsys.readouterr()
    assert main(['tables', str(path), '--than', 'two']) == 0
    assert '| minus two, points |' in capsys.readouterr().out


def test_some_ratios(tmp_path, order):
    path = write_plan(tmp_path, variants={'one': {}}, ratios=[2, 4, 8])
    assert main(['run', str(path), '--logs', str(tmp_path / 'logs'), '--ratios', '8', '2']) == 0
    assert order == [Run('one', 2, 1), Run('one', 8, 1)]


def test_results_that_cannot_be_written_are_told_before_training(tmp_path, told):
    path = write_plan(tmp_path)
    path.with_suffix('.jsonl').mkdir()
    assert 'plan.jsonl: cannot be written: Is a directory' in told('run', path, '--logs', tmp_path / 'logs')
    assert not (tmp_path / 'logs').exists()


def test_a_result_that_cannot_be_written_is_told_and_its_log_stays(tmp_path, capsys, monkeypatch):
    path = write_plan(tmp_path, variants={'one': {}})

    def fake(plan, run, folder, device, threads, processes):
        (folder / run.folder / 'snapshot').mkdir(parents=True)
        plan.results.unlink()
        plan.results.mkdir()
        return row(run, 0.5)

    monkeypatch.setattr(train, 'train', fake)
    assert main(['run', str(path), '--logs', str(tmp_path / 'logs')]) == 1
    assert 'one, 1/2, seed 1: [Errno 21] Is a directory' in capsys.readouterr().err
    assert len(list(tmp_path.glob('logs/*/snapshot'))) == 1


def test_half_a_result_is_taken_back(tmp_path, capsys, monkeypatch):
    """The first does not fit onto the disk; the second does, and can be read."""
    path = write_plan(tmp_path, variants={'one': {}, 'two': {}})

    def fake(plan, run, folder, device, threads, processes):
        (folder / run.folder / 'snapshot').mkdir(parents=True)
        found = row(run, 0.5) | {'overrides': plan.overrides(run)}
        return found | {'losses': 1000 * ['long']} if run.variant == 'one' else found

    monkeypatch.setattr(train, 'train', fake)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert main(['run', str(path), '--logs', str(tmp_path / 'logs')]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert 'one, 1/2, seed 1: [Errno 28] No space left on device' in capsys.readouterr().err
    assert [run.variant for run in Plan(path).read()] == ['two']


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'seeds': []}, 'a plan has "experiment", "settings"'),
        ({'ratios': 8}, 'a plan has "experiment", "settings"'),
        ({'settings': SHORT | {'eval_evry': 1}}, 'eval_evry: no such setting in exp_demo/config.py; did you mean'),
        ({'settings': {'nepochs': 2}}, 'eval_every is 0; a study needs scores'),
        ({'experiment': 'exp_nothing'}, 'exp_nothing'),
        ({'variants': {'../x': {}}}, 'the variants name folders'),
        ({'variants': {'a b': {}, 'a_b': {}}}, 'several runs would have the folder a_b_1-2_1'),
        ({'seeds': [1, 1]}, 'several runs would have the folder supervised_1-2_1'),
    ],
)
def test_mistakes_in_a_plan_come_before_training(tmp_path, told, changes, says):
    assert says in told('run', write_plan(tmp_path, **changes), '--logs', tmp_path / 'logs')
    assert not (tmp_path / 'logs').exists()


def test_mistakes_in_the_arguments(tmp_path, told):
    path = write_plan(tmp_path)
    assert 'CPSL: ' in told('run', path, '--only', 'CPSL')
    assert f'8: {path} has the ratios 2' in told('run', path, '--ratios', 8)
    assert '--jobs 0: ' in told('run', path, '--jobs', 0)
    assert 'holds no run of this plan yet' in told('tables', path)
    path.with_suffix('.jsonl').write_text(json.dumps(row(Run('CPCL', 2, 1), 0.5) | {'overrides': OVERRIDES}) + '\n')
    assert '--classes 8: the results have the ratios 2' in told('tables', path, '--classes', 8)
    assert 'cannot be read as a plan' in told('tables', tmp_path / 'nothing.json')
    path.with_suffix('.jsonl').write_text('{"variant": "CPCL"}\n')
    assert 'line 1 is no run of a study' in told('tables', path)
