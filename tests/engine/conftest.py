"""exp_demo on a tiny data set."""

import logging
import shutil
from pathlib import Path

import pytest
from tiny import Demo

from furnace.engine import checkpoint
from furnace.engine.guard import Record
from furnace.engine.trainer import Trainer


@pytest.fixture(scope='session')
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp('demo')
    yield Demo(root)
    shutil.rmtree(root)  # checkpoints of some 250 MB each


@pytest.fixture(scope='session')
def trained(demo):
    """The log folder of a whole training of 4 epochs, run as a process."""
    log = demo.root / 'trained'
    outcome = demo.process('train.py', log)
    assert outcome.status == 0, outcome.stderr
    return log


@pytest.fixture
def log(demo, request):
    """A log folder for one test; removed after it."""
    folder = demo.root / 'logs' / request.node.name.replace('/', '_')
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data(demo, tmp_path):
    """A copy of the data set, to be damaged."""
    return Path(shutil.copytree(demo.data, tmp_path / 'data'))


@pytest.fixture
def no_work(monkeypatch):
    """Iterations that do nothing, and the names of the checkpoints they would lead to."""
    saved = []

    def iterate(trainer, batch):
        trainer.rate = 0.0
        trainer.latest = Record(trainer.iteration, False, {'loss': 0.0})
        trainer.iteration += 1
        return 0

    monkeypatch.setattr(Trainer, 'iterate', iterate)
    monkeypatch.setattr(checkpoint, 'save', lambda content, path: saved.append((path.name, content['epoch'])))
    monkeypatch.setattr(checkpoint, 'save_also_as', lambda path, name: saved.append((name, path.name)))
    return saved


@pytest.fixture(autouse=True)
def close_logs():
    """Each run has a logger of its own; its file is closed after the test."""
    yield
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith('furnace.') and isinstance(logger, logging.Logger):
            for handler in logger.handlers:
                handler.close()


@pytest.fixture
def no_checkpoints(monkeypatch):
    """Training that saves nothing, where only its losses matter."""
    monkeypatch.setattr(checkpoint, 'save', lambda content, path: None)
    monkeypatch.setattr(checkpoint, 'save_also_as', lambda path, name: None)
