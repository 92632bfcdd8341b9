"""500 damaged inputs: each ends well or in one line, none in a traceback or a hang, and only the log folder changes.

Every mutation follows from its kind and seed; one alone:  pytest 'tests/engine/test_fuzz.py::test_mutation[lists-17]'
"""

import os
import pickle
import random
import shutil
import signal
from pathlib import Path

import pytest
import torch
from mutations import KINDS, SCRIPTS
from place import Place, SmallNetwork

from furnace.engine import train_command
from furnace.engine.trainer import Trainer

SEEDS = 40  # of each kind
SECONDS = 30  # after which a run counts as hanging


class Hang(BaseException):
    """Not to be caught by what is tested."""


@pytest.fixture(scope='module')
def original(demo, tmp_path_factory):
    """A data set whose lists are so short that every iteration reads all of it, a checkpoint and weights."""
    place = Place(tmp_path_factory.mktemp('fuzz') / 'original', demo)
    shutil.copytree(demo.data, place.data)
    for path in sorted(place.data.rglob('*.txt')):
        path.write_text(''.join(path.read_text().splitlines(keepends=True)[:2]))
    used = {name for path in place.data.rglob('*.txt') for line in path.read_text().split() for name in [line[1:]]}
    for path in place.data.rglob('*.png'):
        if str(path.relative_to(place.data)) not in used:
            path.unlink()
    place.files.mkdir()
    (place.root / 'log').mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_command, 'build_network', lambda C: SmallNetwork(C.num_classes))
        outcome = place.call('train.py')
    assert outcome.status == 0, outcome.stderr
    shutil.copy(place.log / 'snapshot' / 'epoch-1.pth', place.checkpoint)
    torch.save(SmallNetwork(3).branch1.backbone.state_dict(), place.weights)
    return place


@pytest.fixture
def place(original, demo, tmp_path, small, monkeypatch):
    """A copy of it to be damaged; the scripts run the small network, and never more than two iterations."""
    root = tmp_path / 'place'
    shutil.copytree(original.root, root, ignore=shutil.ignore_patterns('log'))
    (root / 'log' / 'here').mkdir(parents=True)
    monkeypatch.chdir(root / 'log' / 'here')
    run = Trainer.run

    def limited(trainer, logger):
        trainer.total = min(trainer.total, trainer.iteration + 2)
        run(trainer, logger)

    monkeypatch.setattr(Trainer, 'run', limited)
    yield Place(root, demo)
    shutil.rmtree(root)


@pytest.fixture
def no_hang():
    def stop(_number, _frame):
        raise Hang(f'nothing after {SECONDS} s')

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, former)


@pytest.mark.parametrize('seed', range(SEEDS))
@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
def test_mutation(place, no_hang, record_property, monkeypatch, kind, seed):
    run, before = place.call, {}

    def call(*given, **settings):
        before.update(place.digest())
        return run(*given, **settings)

    monkeypatch.setattr(place, 'call', call)
    outcome = kind(random.Random(f'{kind.__name__} {seed}'), place)
    record_property('status', outcome.status)
    told = outcome.stderr.removesuffix('\n').split('\n')[-1].split('\r')[-1]  # behind the bar
    record_property('told', told)
    assert 'Traceback' not in outcome.stderr
    assert 'Logging error' not in outcome.stderr
    outcome.stdout.encode()  # as a terminal would
    if outcome.status:
        assert outcome.status in (1, 2)
        assert told.startswith('error: ') or '.py: error: ' in outcome.stderr
        assert 'loader worker' not in told  # there is none: an error that nobody foresaw
    assert place.digest() == before


@pytest.mark.parametrize('script', SCRIPTS)
def test_no_mutation(place, script):
    """What the mutations begin with is sound."""
    before = place.digest()
    outcome = place.call(script, pretrained_model=place.weights)
    assert outcome.status == 0, outcome.stderr
    assert place.digest() == before


class Malicious:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('write', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
@pytest.mark.parametrize('way', ['-c', '-c auto', '-e', '-e last', 'pretrained_model'])
def test_code_in_a_file_is_not_run(place, way, write):
    target, path = place.root / 'log' / 'run-by-the-file', place.files / 'x.pth'
    if way.endswith((' auto', ' last')):
        path = place.log / 'snapshot' / 'epoch-last.pth'
        path.parent.mkdir(parents=True)
    content = torch.load(place.checkpoint, weights_only=True)
    write({**content, 'extra': Malicious(target)}, path)
    settings = {'pretrained_model': path} if way == 'pretrained_model' else {}
    option = () if settings else tuple(way.split()) if ' ' in way else (way, path)
    outcome = place.call('eval.py' if way.startswith('-e') else 'train.py', *option, **settings)
    assert outcome.status == 2
    assert outcome.stdout == ''
    refusal = 'none of its 1 checkpoints can be read' if way == '-c auto' else 'refused, it holds more than tensors'
    assert refusal in outcome.stderr
    assert not target.exists()
