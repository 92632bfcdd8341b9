"""A fenced folder in which a script meets a damaged file: the tests may run as root, and try paths of the system."""

import hashlib
import os
import sys
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import torch.nn.functional as F
from tiny import DEMO, Demo
from torch import nn

from furnace.base_model import DualNetwork


class Escape(BaseException):
    """A write outside the log folder: stopped before it happens."""


WRITING = {  # events of Python's audit, and which of their arguments are written to
    'open': slice(1), 'os.mkdir': slice(1), 'os.remove': slice(1), 'os.rmdir': slice(1), 'os.truncate': slice(1),
    'os.rename': slice(2), 'os.link': slice(1, 2), 'os.symlink': slice(1, 2), 'shutil.rmtree': slice(1),
}  # fmt: skip


class Fence:
    """Within it, what this process writes, renames, makes or removes must lie in ``folder``.

    Paths of the system are tried too, and the tests may run as root: a digest afterwards would come too late.
    """

    folder: Path | None = None

    def __call__(self, event: str, given: tuple) -> None:
        if self.folder is None or event not in WRITING or (event == 'open' and not self._writes(given)):
            return
        for path in given[WRITING[event]]:
            if isinstance(path, int):
                continue
            path = os.path.abspath(os.fsdecode(path))
            if event == 'os.mkdir' and os.path.exists(path):  # refused by the system
                continue
            real = os.path.realpath(path) if event == 'open' else os.path.realpath(os.path.dirname(path)) + '/'
            if '__pycache__' not in path and not f'{real}/'.startswith(f'{self.folder}/'):
                raise Escape(f'{event} {path}')

    @staticmethod
    def _writes(given: tuple) -> bool:
        return bool(given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))

    @contextmanager
    def around(self, folder: Path):
        self.folder = os.path.realpath(folder)
        try:
            yield
        finally:
            self.folder = None


fence = Fence()
sys.addaudithook(fence)


class Branch(nn.Module):
    """The parts of a branch by which training and loading know it, quick enough to run 500 times."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.backbone = nn.Sequential(OrderedDict(conv1=nn.Conv2d(3, 4, 3, 4, 1, bias=False), bn1=nn.BatchNorm2d(4)))
        self.head = nn.Conv2d(4, 4, 1)
        self.classifier = nn.Conv2d(4, num_classes, 1)

    def forward(self, x):
        return F.interpolate(self.classifier(self.head(self.backbone(x)).relu()), size=x.shape[-2:])


class SmallNetwork(DualNetwork):
    def __init__(self, num_classes: int):
        nn.Module.__init__(self)
        self.branch1, self.branch2 = Branch(num_classes), Branch(num_classes)


class Place:
    """A folder for one mutation: ``data``, ``files`` (checkpoint and weights), and ``log``, where alone runs write."""

    def __init__(self, root: Path, demo: Demo):
        self.root, self.demo = root, demo
        self.data, self.files, self.log = root / 'data', root / 'files', root / 'log' / 'run'
        self.checkpoint, self.weights = self.files / 'epoch-0.pth', self.files / 'weights.pth'

    def call(self, script: str, *arguments, **settings):
        settings = {'dataset_path': self.data, 'niters_per_epoch': 1, 'nepochs': 2, 'snapshot_iter': 1, **settings}
        if script == 'eval.py' and not any(str(argument).startswith('-e') for argument in arguments):
            arguments = ('-e', self.checkpoint, *arguments)
        # A last option without its value takes the seed, not the data set.
        with fence.around(self.root / 'log'):
            return self.demo.call(script, self.log, *arguments, 'seed=1', **settings)

    def digest(self) -> dict[str, str]:
        """What lies outside the log folder, and in exp_demo: names with a hash, a link's goal or nothing."""
        found = {}
        for top in (self.root, DEMO):
            for folder, folders, files in os.walk(top):
                folders[:] = [f for f in folders if f not in ('log', '__pycache__')]
                for path in (Path(folder, name) for name in (*folders, *files)):
                    if path.is_symlink():
                        found[str(path)] = os.readlink(path)
                    else:
                        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        return found
