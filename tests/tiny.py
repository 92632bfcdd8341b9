"""A tiny data set, and the command lines of exp_demo run on it: as real processes, or quickly inside this one."""

import contextlib
import fcntl
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from furnace.engine.config import ENVIRONMENT

DEMO = Path(__file__).resolve().parents[1] / 'exp_demo'
NAMES = ('left', 'right', 'below')
COLORS = ((250, 40, 10), (10, 190, 60), (50, 20, 210))  # of the label maps
PAINT = ((190, 60, 20), (40, 170, 90), (60, 70, 200))  # of the images
SETTINGS = {
    'num_classes': 3,
    'labeled_ratio': 2,
    'image_height': 33,
    'image_width': 33,
    'batch_size': 2,
    'nepochs': 4,
    'niters_per_epoch': 2,
    'num_workers': 0,
    'log_every': 1,
    'eval_crop_size': 48,
    'lr': 0.01,
    'unsup_weight': 1.0,
    'eval_scale_array': [1],
    'eval_whole': False,
    'device': 'cpu',
}


STREAMS = ('stdin', 'stdout', 'stderr')


class Outcome(NamedTuple):
    status: int
    stdout: str
    stderr: str


def told(outcome: Outcome) -> str:
    """The text of the one line on standard error."""
    assert outcome.status == 2
    assert outcome.stdout == ''
    assert outcome.stderr.startswith('error: ')
    assert outcome.stderr.count('\n') == 1
    return outcome.stderr.removeprefix('error: ').rstrip('\n')


def wait_until(process: subprocess.Popen, condition: Callable[[], object]) -> None:
    """Until ``condition`` is true. An AssertionError, with what it said, where ``process`` ends before.

    It looks every few milliseconds: to look all the time would take a core from the process.
    """
    while not condition():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.005)
            raise AssertionError(f'ended early: {process.communicate()[1]}')


def _draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label = np.zeros((48, 64), np.uint8)
    label[:, rng.integers(20, 44) :] = 1
    label[rng.integers(24, 36) :] = 2
    image = np.asarray(PAINT)[label] + rng.integers(-20, 21, (48, 64, 3))
    label[:2] = 255
    return image.astype(np.uint8), label


def write_data(root: Path) -> None:
    """12 images for training (lists for 1/2 and 1/4) and 3 for validation, in the layout of Cityscapes."""
    rng = np.random.default_rng(1)
    subset = root / 'config_new' / 'subset_train'
    subset.mkdir(parents=True)
    for split, count in (('train', 12), ('val', 3)):
        lines = []
        for folder in ('images', 'segmentation'):
            (root / folder / split).mkdir(parents=True)
        for i in range(count):
            image, label = _draw(rng)
            names = f'/images/{split}/{split}_{i:02d}.png', f'/segmentation/{split}/{split}_{i:02d}_gtFine.png'
            for name, array in zip(names, (image, label), strict=True):
                Image.fromarray(array).save(f'{root}{name}')
            lines.append('\t'.join(names) + '\n')
        (root / 'config_new' / f'{split}.txt').write_text(''.join(lines))
        if split == 'train':
            for ratio in (2, 4):
                cut = count // ratio
                (subset / f'train_aug_labeled_1-{ratio}.txt').write_text(''.join(lines[:cut]))
                bare = [line.split('\t')[0] + '\n' for line in lines[cut:]]
                (subset / f'train_aug_unlabeled_1-{ratio}.txt').write_text(''.join(bare))
    (root / 'classes.json').write_text(json.dumps({'names': NAMES, 'colors': COLORS}))


def _as_in_a_terminal() -> None:
    """Of a new process: standard input is its terminal; SIGHUP counts, also where the tests run under nohup."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Demo:
    """exp_demo on the tiny data set, everything it writes below ``root``.

    Arguments with a ``=`` that are given as keywords override ``SETTINGS``.
    """

    def __init__(self, root: Path):
        self.root, self.data = root, root / 'data'
        write_data(self.data)

    def _arguments(self, log: Path, arguments: tuple, settings: dict) -> list[str]:
        settings = {'dataset_path': self.data, 'log_dir': log, **SETTINGS, **settings}
        return [*map(str, arguments), *(f'{name}={value}' for name, value in settings.items())]

    def start(
        self,
        script: str,
        log: Path,
        *arguments,
        shell: str = '',
        terminal: int | None = None,
        **settings,
    ) -> subprocess.Popen:
        """The script as a process of its own; options of Python may stand before its name.

        Args:
            shell: a bash command that runs it as ``"$@"``.
            terminal: a descriptor of the terminal that it runs in, in a process group of its own.
        """
        pipe = subprocess.PIPE
        streams = {'stdout': pipe, 'stderr': pipe} if terminal is None else dict.fromkeys(STREAMS, terminal)
        environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
        prefix = ['bash', '-c', shell, 'bash'] if shell else []
        return subprocess.Popen(
            [*prefix, sys.executable, '-W', 'ignore', *script.split(), *self._arguments(log, arguments, settings)],
            cwd=DEMO,
            env={**environment, 'OMP_NUM_THREADS': '1'},
            start_new_session=terminal is not None,
            preexec_fn=terminal and _as_in_a_terminal,
            text=True,
            **streams,
        )

    def process(self, script: str, log: Path, *arguments, **settings) -> Outcome:
        """The script as a process of its own, to its end."""
        process = self.start(script, log, *arguments, **settings)
        try:
            stdout, stderr = process.communicate(timeout=300)
        finally:
            process.kill()
        return Outcome(process.returncode, stdout, stderr)

    def call(self, script: str, log: Path, *arguments, **settings) -> Outcome:
        """The same inside this process: quicker, as PyTorch is there already."""
        stdout, stderr = io.StringIO(), io.StringIO()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a process of its own: sums depend on it in their last bits
        with pytest.MonkeyPatch.context() as patch:
            for variable in ENVIRONMENT:
                patch.delenv(variable, raising=False)
            patch.setattr(sys, 'argv', [script, *self._arguments(log, arguments, settings)])
            patch.setattr(sys, 'path', sys.path.copy())
            patch.delitem(sys.modules, 'config', raising=False)
            with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                try:
                    runpy.run_path(str(DEMO / script), run_name='__main__')
                except SystemExit as stop:
                    status = stop.code
        torch.set_num_threads(threads)
        return Outcome(status, stdout.getvalue(), stderr.getvalue())
