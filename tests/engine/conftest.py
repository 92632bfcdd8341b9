"""exp_demo on a tiny data set."""

import json
import logging
import resource
import shutil
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from place import SmallNetwork
from tiny import COLORS, DEMO, NAMES, SETTINGS, Demo, told
from torchvision.models.resnet import BasicBlock

from furnace.base_model import BACKBONES, DualNetwork, load_file
from furnace.base_model.resnet import Backbone
from furnace.engine import checkpoint, eval_command, train_command
from furnace.engine.config import ENVIRONMENT, load_config, plain
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


# The statistics of two processes differ soon where they move fast.
BY_TWO = {'batch_size': 4, 'bn_momentum': 0.5}


@pytest.fixture(scope='session')
def trained_by_two(demo):
    """The log folder of a whole training by two processes, scored at its end; started by torchrun."""
    log = demo.root / 'trained by two'
    torchrun = '-m torch.distributed.run --standalone --nproc_per_node=2 train.py'
    outcome = demo.process(torchrun, log, **BY_TWO, eval_every=4)
    assert outcome.status == 0, outcome.stderr
    assert '2 x the CPU' in outcome.stdout
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
def clean(monkeypatch):
    """No override from outside, and nothing left behind by the config.py files."""
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, 'path', sys.path.copy())
    monkeypatch.setitem(sys.modules, 'config', None)


@pytest.fixture
def refused(demo, log):
    """Run a script with something wrong; its one line. Nothing may have been written."""

    def call(script, *arguments, **settings):
        text = told(demo.call(script, log, *arguments, **settings))
        assert not log.exists()
        return text

    return call


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


@pytest.fixture
def small_files():
    """Within it files of this process end at 4096 bytes: a write beyond that fails, as on a full disk."""

    @contextmanager
    def limited():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


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


SHALLOW = partial(Backbone, BasicBlock, (1, 1, 1, 1), False)


@pytest.fixture(scope='session')
def shallow_file(demo):
    """A checkpoint of a network of four blocks with random weights, in the place of a ResNet-18."""
    torch.manual_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, 'resnet18', SHALLOW)
        network = DualNetwork(3, 'resnet18')
    for branch in network.eval().branches:  # balanced, so that no class is everywhere, and none is sure
        with torch.no_grad():
            branch.classifier.weight *= 0.1
            branch.classifier.bias -= branch(torch.randn(2, 3, 48, 64)).mean(dim=(0, 2, 3))
    config = load_config(DEMO / 'config.py', [f'{name}={value}' for name, value in SETTINGS.items()])
    content = {'model': network.state_dict(), 'config': plain(config), 'classes': {'names': NAMES, 'colors': COLORS}}
    torch.save(content, demo.root / 'shallow.pth')
    return demo.root / 'shallow.pth'


@pytest.fixture
def shallow(shallow_file, monkeypatch):
    """That checkpoint, and ResNet-18 as shallow as it needs."""
    monkeypatch.setitem(BACKBONES, 'resnet18', SHALLOW)
    return shallow_file


HOSTILE = ('left', '<script>alert(1)</script>', '"below" onload=\'alert(2)\' & {{ 7 * 7 }}')
HOSTILE_FILE = '"><img src=x onerror=alert(3)>'


class Reported(NamedTuple):
    """What ``eval.py -e 0- --branch both --report --report-images 2 -s`` left."""

    log: Path
    data: Path
    stdout: str


@pytest.fixture(scope='session')
def reported(demo, shallow_file, tmp_path_factory):
    """A report on two checkpoints; the names of a class and of an image look like HTML."""
    root = tmp_path_factory.mktemp('reported')
    data = Path(shutil.copytree(demo.data, root / 'data'))
    (data / 'classes.json').write_text(json.dumps({'names': HOSTILE, 'colors': COLORS}))
    for path in sorted(data.glob('images/val/*.png')):
        path.rename(path.with_name(path.name.replace('val_', HOSTILE_FILE)))
    lists = data / 'config_new/val.txt'
    lists.write_text(lists.read_text().replace('/images/val/val_', f'/images/val/{HOSTILE_FILE}'))
    content = load_file(shallow_file)
    (root / 'snapshot').mkdir()
    for epoch in (0, 1):
        torch.save({**content, 'epoch': epoch, 'iteration': 2 * epoch}, root / f'snapshot/epoch-{epoch}.pth')
        for branch in (1, 2):  # the later one is worse: nearly all is class 1
            content['model'][f'branch{branch}.classifier.bias'] += torch.tensor([0.0, 0.5, 0.0])
    options = '-e', '0-', '--branch', 'both', '--report', '--report-images', '2', '-s'
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, 'resnet18', SHALLOW)
        outcome = demo.call('eval.py', root / 'log', *options, dataset_path=data, snapshot_dir=root / 'snapshot')
    assert outcome.status == 0, outcome.stderr
    return Reported(root / 'log', data, outcome.stdout)


@pytest.fixture
def small(monkeypatch):
    """A network of a few weights, where only what happens around it matters."""
    for module in (train_command, eval_command):
        monkeypatch.setattr(module, 'build_network', lambda C: SmallNetwork(C.num_classes))
