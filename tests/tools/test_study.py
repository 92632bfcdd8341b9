"""Studies: what a plan says is trained once, and the tables are those of its results."""

import json
import resource
import shutil
import signal
import subprocess

import pytest
from tiny import DEMO, SETTINGS, write_data

from furnace.engine.devices import parse_devices
from furnace.tools.study import train
from furnace.tools.study.__main__ import main
from furnace.tools.study.plan import ROOT, Plan, Run
from furnace.tools.study.tables import best, by_class, by_ratio, differences, last, spread, tables
from furnace.utils.errors import RunError

SHORT = {'nepochs': 2, 'niters_per_epoch': 1, 'eval_every': 1}
VARIANTS = {'supervised': {'method': 'supervised'}, 'CPCL': {'method': 'cpcl'}}


OVERRIDES = ['nepochs=2', 'niters_per_epoch=1', 'eval_every=1', 'method=cpcl', 'labeled_ratio=2', 'seed=1']


def write_plan(folder, **changes):
    path = folder / 'plan.json'
    plan = {'experiment': 'exp_demo', 'settings': SHORT, 'variants': VARIANTS, 'ratios': [2], 'seeds': [1]}
    path.write_text(json.dumps(plan | changes))
    return path


def row(run, last, best=None, iou=None):
    scores = [{'mean_iou': value, 'iou': iou} for value in (best or last, last)]
    return {**run._asdict(), 'scores': scores, 'seconds': 1800, 'machine': {'device': 'A GPU', 'cpu': 'a CPU'}}


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
        assert found['machine']['device'] == 'CPU' and found['seconds'] > 1
    # What is done is not trained again, and its checkpoints are not kept.
    assert not [*(tmp_path / 'logs').rglob('*.pth'), *(tmp_path / 'logs').rglob('seconds.txt')]
    assert main(train) == 0
    assert '0 runs to train, 2 done' in capsys.readouterr().out
    assert main(['tables', str(path)]) == 0
    text = capsys.readouterr().out
    assert f'| CPCL        | {100 * rows[-1]["scores"][-1]["mean_iou"]:.2f} |' in text
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


def test_why_a_run_failed_is_told(tmp_path):
    plan = Plan(write_plan(tmp_path, settings=SHORT | {'dataset_path': str(tmp_path / 'nothing')}))
    with pytest.raises(RunError, match=r'status 2: error: .*nothing.*no such file.*CPCL_1-2_1/output\.txt'):
        train.train(plan, Run('CPCL', 2, 1), tmp_path, parse_devices('cpu')[0], 1, train.Processes())


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
assert 'batch_size' not in os.environ
signal.signal(signal.SIGTERM, lambda *_: sys.exit('saved'))
signal.alarm(60)  # where nothing comes, the test fails
os.kill(os.getppid(), signal.{})
signal.pause()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_training_too(tmp_path, capsys, monkeypatch, number):
    monkeypatch.setenv('batch_size', '1')  # would stand above the plan, and be refused
    (tmp_path / 'exp').mkdir()
    shutil.copy(DEMO / 'config.py', tmp_path / 'exp')
    (tmp_path / 'exp' / 'train.py').write_text(STOPS_THE_STUDY.format(number.name))
    path = write_plan(tmp_path, experiment=str(tmp_path / 'exp'))
    former = signal.getsignal(number)
    assert main(['run', str(path), '-d', 'cpu', '--logs', str(tmp_path / 'logs')]) == 128 + number
    assert capsys.readouterr().err == f'stopped by {number.name}; the same command goes on\n'
    (output,) = tmp_path.rglob('output.txt')  # the second run is not begun
    assert output.read_text() == 'saved\n'
    assert path.with_suffix('.jsonl').read_text() == ''
    assert signal.getsignal(number) is former


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


ROWS = {
    Run('A', 8, 1): row(Run('A', 8, 1), 0.30, 0.40, {'sky': 0.5, 'car': None}),
    Run('A', 8, 2): row(Run('A', 8, 2), 0.32, 0.36, {'sky': 0.7, 'car': 0.2}),
    Run('A', 4, 1): row(Run('A', 4, 1), 0.50),
    Run('B', 8, 1): row(Run('B', 8, 1), 0.33, None, {'sky': 0.5, 'car': 0.25}),
    Run('B', 8, 2): row(Run('B', 8, 2), 0.34, None, {'sky': 0.5, 'car': 0.25}),
    Run('B', 8, 3): row(Run('B', 8, 3), 0.90, None, {'sky': 0.5, 'car': 0.25}),
}


def test_means_and_spread():
    assert by_ratio(ROWS, last)[:2] == [
        ['mean IoU, %', '1/8', '1/4'],
        ['A', '31.00 ± 1.41 (2 of 3)', '50.00 (1 of 3)'],
    ]
    assert by_ratio(ROWS, best)[1] == ['A', '38.00 ± 2.83 (2 of 3)', '50.00 (1 of 3)']
    assert by_ratio(ROWS, last)[2][1:] == ['52.33 ± 32.62', '–']
    assert spread([0.5], 1) == '50.00'


def test_differences_are_those_of_the_same_seed():
    """Seed 3 has no partner."""
    assert differences(ROWS, 'A') == [['minus A, points', '1/8'], ['B', '2.50 ± 0.71']]
    assert differences({Run('A', 8, 1): ROWS[Run('A', 8, 1)]}, 'A') == []


def test_classes_that_are_not_there_do_not_count():
    assert by_class(ROWS, 8) == [
        ['IoU at 1/8, %', 'A', 'B'],
        ['sky', '60.00 ± 14.14 (2 of 3)', '50.00 ± 0.00'],
        ['car', '20.00 (1 of 3)', '25.00 ± 0.00'],
    ]


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
    assert '--jobs 0: ' in told('run', path, '--jobs', 0)
    assert 'holds no run of this plan yet' in told('tables', path)
    path.with_suffix('.jsonl').write_text(json.dumps(row(Run('CPCL', 2, 1), 0.5) | {'overrides': OVERRIDES}) + '\n')
    assert '--classes 8: the results have the ratios 2' in told('tables', path, '--classes', 8)
    assert 'cannot be read as a plan' in told('tables', tmp_path / 'nothing.json')
    path.with_suffix('.jsonl').write_text('{"variant": "CPCL"}\n')
    assert 'line 1 is no run of a study' in told('tables', path)


@pytest.mark.parametrize('path', sorted((ROOT / 'docs' / 'results').glob('*.jsonl')), ids=lambda path: path.stem)
def test_the_published_tables_are_those_of_the_logs(path):
    published = (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8')
    for part in tables(Plan(path.with_suffix('.json')), None, None).split('\n\n'):
        assert part in published
