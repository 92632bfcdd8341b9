"""500 damaged inputs: each ends well or in one line, none in a traceback or a hang, and only the log folder changes.

Every mutation follows from its kind and seed; one alone:  pytest 'tests/engine/test_fuzz.py::test_mutation[lists-17]'
"""

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import signal
import struct
import sys
import zlib
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import DEMO, SETTINGS, Demo
from torch import nn

from furnace.base_model import DualNetwork
from furnace.engine import eval_command, train_command
from furnace.engine.config import load_config
from furnace.engine.trainer import Trainer

SEEDS = 50  # of each kind
SECONDS = 30  # after which a run counts as hanging
SUBSET = 'config_new/subset_train'
LISTS = {
    'train.py': (f'{SUBSET}/train_aug_labeled_1-2.txt', f'{SUBSET}/train_aug_unlabeled_1-2.txt'),
    'eval.py': ('config_new/val.txt',),
}
SCRIPTS = tuple(LISTS)
ODD = (
    '', ' ', '\t', '.', '..', '../', '-', '--', '-1',
    '0', '1', '2', '3', '1.5', '1e-9', '1e9', '1e999', '-1e999', 'nan', '9' * 20, '9' * 300, '9' * 5000, str(2**31),
    str(2**63), str(2**64), 'None', 'True', 'false', '[]', '[1', '[1, 2, 3]', '[0.5]', '[1e-9]', '[1e9]', '[1e999]',
    '["a"]', '[[1]]', '(1,)', '{}', '{1: 2}', '{[]: 1}', '(' * 300, '-' * 20_000, "__import__('os').mkdir('x')",
    'x' * 300, 'x' * 5000, 'a/' * 3000, 'a b', 'a\tb', 'a\nb', 'a\rb', '\u2028', '\x85', '\x1b[31m', 'é', 'e\u0301',
    '東京', '🙂', '\u202e', '\ufeff', '\udcff', '%s', '%', '{0}', '$HOME', '`touch x`', '; touch x', '*', '?', '\\',
    '"', "'", '#', '=', 'a=b',
)  # fmt: skip


class Hang(BaseException):
    """Not to be caught by what is tested."""


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
def place(original, demo, tmp_path, monkeypatch):
    """A copy of it to be damaged; the scripts run the small network, and never more than two iterations."""
    root = tmp_path / 'place'
    shutil.copytree(original.root, root, ignore=shutil.ignore_patterns('log'))
    (root / 'log' / 'here').mkdir(parents=True)
    monkeypatch.chdir(root / 'log' / 'here')
    for module in (train_command, eval_command):
        monkeypatch.setattr(module, 'build_network', lambda C: SmallNetwork(C.num_classes))
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


# Damage


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flipped, cut, inserted, removed, repeated or exchanged bytes."""
    first, second = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    before, middle, after = content[:first], content[first:second], content[second:]
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 2, 50])):
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return rng.choice(
        [
            bytes(flipped), bytes(flipped), before, before + after, before + rng.randbytes(rng.choice([1, 9])) + after,
            before + 2 * middle + after, after + middle + before, bytes(reversed(content)), b'', content + content,
            before + bytes(second - first) + after,
        ]
    )  # fmt: skip


def damaged_text(rng: random.Random, text: str) -> bytes:
    """Lines or words exchanged, repeated, removed or replaced; another encoding or line end; bytes."""
    lines = text.splitlines(keepends=True)
    number = rng.randrange(len(lines))
    way = rng.randrange(8)
    if way == 0:
        rng.shuffle(lines)
    elif way == 1:
        lines.insert(number, rng.choice(lines) * rng.choice([1, 20]))
    elif way == 2:
        del lines[number]
    elif way == 3:
        lines[number] = rng.choice(ODD) + '\n'
    elif way == 4:
        at = rng.randrange(len(lines[number]))
        lines[number] = lines[number][:at] + rng.choice(ODD) + lines[number][at + rng.randrange(3) :]
    elif way == 5:
        lines = [
            line.replace(rng.choice('/\t_.0"[,'), rng.choice(['', '/', '\t', '//', '../', '0', '\0'])) for line in lines
        ]
    elif way == 6:
        lines = [line.replace('\n', rng.choice(['\r\n', '\r', '\n\n', '\x0b', ' '])) for line in lines]
    else:
        return damaged_bytes(rng, text.encode())
    encoding = rng.choice(['utf-8'] * 6 + ['utf-8-sig', 'utf-16', 'utf-32', 'cp500', 'latin-1'])
    return ''.join(lines).encode(encoding, 'surrogatepass' if encoding.startswith('utf') else 'replace')


def picture(rng: random.Random, path: Path) -> bytes:
    """The picture in ``path`` in another form: mode, size, format, turned, or with another header."""
    with Image.open(path) as image:
        image.load()
    way = rng.randrange(4)
    if way == 0:  # a header that does not fit, under its right checksum
        content = bytearray(path.read_bytes())
        width, height = rng.choice([(0, 48), (64, 0), (65, 48), (64, 49), (2**31 - 1, 1), (1, 10**6), (2**31, 2**31)])
        depth, kind = rng.choice([(8, 0), (8, 2), (8, 3), (16, 0), (1, 0), (2, 0), (4, 3), (8, 6), (3, 9)])
        content[16:29] = struct.pack('>IIBBBBB', width, height, depth, kind, 0, 0, rng.choice([0, 0, 1]))
        content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
        return bytes(content)
    if way == 1:
        image = image.convert(
            rng.choice(['1', 'L', 'P', 'RGB', 'RGBA', 'LA', 'I', 'I;16' if image.mode == 'L' else 'L'])
        )
    elif way == 2:
        image = image.resize(rng.choice([(1, 1), (1, 48), (64, 1), (3000, 1), (65, 48), (48, 64), (128, 96)]), 0)
    elif way == 3 and image.mode == 'L':
        image = image.point(lambda v: rng.choice([v, v, v, 254, 3, 255]))
    stream = io.BytesIO()
    for kind in (rng.choice(['PNG', 'PNG', 'GIF', 'BMP', 'TIFF', 'JPEG', 'WEBP', 'PPM', 'ICO', 'TGA', 'SGI']), 'PNG'):
        try:
            image.save(
                stream,
                kind,
                **(
                    {'exif': b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\6\0\0\0'}
                    if way == 3 and kind in ('JPEG', 'PNG', 'WEBP')
                    else {}
                ),
            )
            break
        except (OSError, ValueError):  # a mode that this format does not have
            stream = io.BytesIO()
    return stream.getvalue()


def other_thing(rng: random.Random, path: Path, place: Place) -> None:
    """In the place of ``path``: nothing, a folder, a link, or another file."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    way = rng.randrange(7)
    if way == 1:
        path.mkdir(parents=True)
    elif way == 2:
        path.mkdir(parents=True)
        (path / 'x').touch()
    elif way == 3:
        path.symlink_to(rng.choice([path.name, 'none', '..', '.']))
    elif way == 4:
        path.write_bytes(b'')
    elif way > 4:
        others = [p for p in (*place.data.rglob('*'), *place.files.iterdir()) if p.is_file() and p != path]
        shutil.copy(rng.choice(sorted(others)), path)


def damaged_content(rng: random.Random, content: dict) -> dict:
    """A checkpoint in which one value, at any depth, is another or missing or has another name."""
    inner = content
    while True:
        name = rng.choice(list(inner))
        if not (isinstance(inner[name], dict) and inner[name]) or rng.random() < 0.25:
            break
        inner = inner[name]
    values = [
        None, -1, 0, 3, 10**30, -(10**30), 0.5, float('nan'), float('inf'), '', 'x', '3', [], [1], {}, {'a': 1}, True,
        b'x', torch.ones(3), torch.tensor(3), torch.tensor(float('nan')), torch.ones(4, 3, 3, 3, dtype=torch.complex64),
        torch.zeros(0), torch.eye(4).to_sparse(), torch.ones(4, device='meta'), torch.Size([1]), torch.float16, {1: 2},
    ]  # fmt: skip
    way = rng.randrange(4)
    old = inner[name]
    if way == 0:
        del inner[name]
    elif way == 1:
        inner[rng.choice([*ODD, 0, None, (1, 2), f'module.{name}'])] = inner.pop(name)
    elif way == 2 and isinstance(old, torch.Tensor):
        dtype = rng.choice([torch.float64, torch.int8, torch.bool, torch.complex64, torch.bfloat16])
        inner[name] = rng.choice(
            [old.to(dtype), old[None], old.flatten(), old.clone().fill_(0), old.to_sparse(), old.to('meta')]
        )
    else:
        inner[name] = rng.choice(values)
    return content


def damage_weights(rng: random.Random, path: Path, place: Place) -> None:
    if (way := rng.randrange(5)) == 0:
        other_thing(rng, path, place)
    elif way == 1:
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    else:
        content = damaged_content(rng, torch.load(path, weights_only=True))
        torch.save(content, path, _use_new_zipfile_serialization=rng.random() < 0.8)


# Mutations: each damages something, runs a script and returns its outcome


def lists(rng, place):
    script = rng.choice(SCRIPTS)
    path = place.data / rng.choice(LISTS[script])
    if rng.random() < 0.2:
        other_thing(rng, path, place)
    else:
        path.write_bytes(damaged_text(rng, path.read_text()))
    return place.call(script, *(['-s'] if script == 'eval.py' else []))


def pictures(rng, place, kind):
    script, split = rng.choice([('train.py', 'train'), ('eval.py', 'val')])
    path = rng.choice(sorted((place.data / kind / split).iterdir()))
    if (way := rng.randrange(6)) == 0:
        other_thing(rng, path, place)
    elif way < 3:
        path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    else:
        path.write_bytes(picture(rng, path))
        if way == 5:
            path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    return place.call(script, *(['-s'] if script == 'eval.py' else []), labeled_ratio=2)


def images(rng, place):
    return pictures(rng, place, 'images')


def labels(rng, place):
    return pictures(rng, place, 'segmentation')


def checkpoints(rng, place):
    damage_weights(rng, place.checkpoint, place)
    if place.checkpoint.is_file() and rng.random() < 0.3:
        snapshots = place.log / 'snapshot'
        snapshots.mkdir(parents=True)
        shutil.copy(place.checkpoint, snapshots / rng.choice(['epoch-last.pth', 'epoch-0.pth']))
        return place.call(*rng.choice([('train.py', '-c', 'auto'), ('eval.py', '-e', 'last'), ('eval.py', '-e', '0-')]))
    force = ['--force'] if rng.random() < 0.5 else []
    return place.call(*rng.choice([('eval.py', '-e', place.checkpoint), ('train.py', '-c', place.checkpoint, *force)]))


def weights(rng, place):
    damage_weights(rng, place.weights, place)
    return place.call('train.py', pretrained_model=place.weights)


def classes(rng, place):
    path = place.data / 'classes.json'
    content = json.loads(path.read_text())
    if (way := rng.randrange(5)) == 0:
        other_thing(rng, path, place)
    elif way == 1:
        path.write_bytes(damaged_text(rng, json.dumps(content, indent=1)))
    elif way == 2:
        path.write_text(rng.choice(['[' * 100_000, '{"names":' * 9999, 'null', '{}', '9' * 5000]))
    else:
        values = [*ODD, None, -1, 256, 2**64, 1e999, 0.5, True, [], {}, ['a', 'b', 'c'], [[1, 2, 3]] * 3, [0] * 300]
        value, name = rng.choice(values), rng.choice(list(content))
        if way == 3:
            content[name] = value
        else:
            content[name][rng.randrange(3)] = value
        path.write_text(json.dumps(content))
    return place.call('eval.py', *rng.choice([(), ('-s',), ('-v', '--branch', 'both')]))


def overrides(rng, place):
    """Any value for any setting that is no path: often near its own, or another setting's."""
    config = load_config(DEMO / 'config.py')
    names = [name for name in config if not name.endswith(('_dir', '_path', '_folder', '_source'))]
    settings = {}
    for name in rng.sample(names, rng.choice([1, 1, 2])):
        value = SETTINGS.get(name, config[name])
        near = [value]
        if isinstance(value, bool):
            near = [not value]
        elif isinstance(value, int | float):
            near = [value + 1, value - 1, value * 2, value / 3, -value, 1, 0, 1e-9, [value]]
        elif isinstance(value, list):
            near = [value[:-1], value[::-1], value * 2, [v * 3 for v in value], [0.01], value[0]]
        values = (rng.choice(near), rng.choice(near), config[rng.choice(names)], rng.choice(ODD))
        settings[name] = rng.choice(values)
    return place.call(rng.choice(SCRIPTS), **{'num_workers': 0, **settings})


def paths(rng, place):
    """Other ways to a place, and places that cannot be."""
    script = rng.choice(SCRIPTS)
    file = place.root / 'log' / 'file'
    file.touch()
    good = [
        f'{place.log}/../x/./y',
        f'{place.log}//',
        '.',
        '../x',
        'a/../../b',
        './' * 1000,
        f'{file.parent}/é 東京',
        '🙂',
    ]
    bad = [file, file / 'x', 'x' * 300, 'a/' * 3000, f'{place.log}/{"x" * 300}/y', '\udcff', 'a\nb', '']
    taken = [
        '/dev/null',
        '/etc/passwd',
        '/proc',
        place.data,
        place.root,
        place.data / 'images' / '..',
        '..',
        '../..',
        file,
    ]
    way, name = rng.randrange(6), rng.choice(['log_dir', 'snapshot_dir'])
    if way < 2:
        return place.call(script, **{name: rng.choice([*good, *bad])})
    if way == 2:
        return place.call('train.py', *rng.choice([(), ('-c', 'auto')]), snapshot_dir=rng.choice(taken))
    if way == 3:
        return place.call('eval.py', '-s', '-p', rng.choice([*good, *bad]))
    name = rng.choice(
        ['dataset_path', 'img_root_folder', 'gt_root_folder', 'train_source', 'eval_source', 'pretrained_model']
    )
    return place.call(script, **{name: rng.choice([*good, *bad, *taken, *ODD])})


def arguments(rng, place):
    script = rng.choice(SCRIPTS)
    options = [
        '-c',
        '-e',
        '-d',
        '-h',
        '-v',
        '-s',
        '--branch',
        '--force',
        '--devices',
        '--epochs',
        '--x',
        '-cauto',
        '--',
    ]
    words = ['auto', 'last', '0-', '2-1', '0-9999999999999', '0,0', 'cpu', '٣', '²', 'none.pth', 'lr=1', 'lr']
    words += [f'{"x" * 300}.pth', f'{place.checkpoint}']
    chosen = [rng.choice([*options, *options, *ODD, *words]) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.5:
        option = rng.choice(['-c', '-d'] if script == 'train.py' else ['-e', '-d', '--branch'])
        chosen = [f'{option}{chosen[0]}'] if rng.random() < 0.5 else [option, chosen[0]]
    return place.call(script, *chosen)


def leftovers(rng, place):
    """What an earlier run left in the log folder, damaged."""
    assert place.call('train.py').status == 0
    assert place.call('eval.py', '-s').status == 0
    path = rng.choice(sorted(p for p in place.log.rglob('*') if p.suffix != '.png'))
    if path.is_file() and not path.is_symlink() and rng.random() < 0.6:
        damage = damaged_text if path.suffix in ('.jsonl', '.json', '.log') else damaged_bytes
        path.write_bytes(damage(rng, path.read_text() if damage is damaged_text else path.read_bytes()))
    else:
        other_thing(rng, path, place)
    return place.call(
        *rng.choice([('train.py',), ('train.py', '-c', 'auto'), ('eval.py', '-e', 'last', '-s')]), nepochs=3
    )


KINDS = (lists, images, labels, checkpoints, weights, classes, overrides, paths, arguments, leftovers)


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
