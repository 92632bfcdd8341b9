"""What README.md and its companions tell people to type works, or needs what a test has not; so do their examples."""

import os
import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tiny import DEMO
from torch.nn.functional import cross_entropy

from furnace.base_model import BACKBONES, load_file
from furnace.datasets.prepare.__main__ import main as prepare
from furnace.datasets.scenes import main as scenes
from furnace.engine.curves import LOSSES
from furnace.seg_opr.pseudo import TARGETS
from furnace.tools.compare import main as compare
from furnace.tools.plot import main as plot
from furnace.tools.same_losses import main as same_losses
from furnace.tools.same_losses import read_losses
from furnace.tools.study.__main__ import main as study

ROOT = Path(__file__).resolve().parents[2]
README, *OTHERS = (
    path.read_text(encoding='utf-8')
    for path in (ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md')))
)
SHORT = {'nepochs': 1, 'niters_per_epoch': 1}

# Why no test runs the others as they stand there.
NEEDS = {
    'data': [
        'python -m furnace.datasets.prepare city ~/downloads DATA/city',
        'python -m furnace.datasets.prepare voc --download ~/downloads DATA/pascal_voc',
        'python -m furnace.datasets.prepare camvid SOURCE DATA/camvid',
        'python -m furnace.tools.study run docs/results/scenes.json --jobs 2',
    ],
    'GPUs or machines': [
        'make gpu',
        'python -m pytest -m gpu',
        'python train.py -d 0-3',
        'python eval.py -e last -d 0-3',
        'torchrun --nnodes=2 --nproc_per_node=4 --rdzv_id=NAME --rdzv_backend=c10d '
        '--rdzv_endpoint=HOST:29500 train.py -c auto',
        'torchrun --max-restarts=N',
    ],
    'the network, or other software': [
        'pip install -r requirements.txt',
        'pip install -r requirements-dev.txt',
        'pip install -r requirements-export.txt',
        'pip install matplotlib',
        'pip install selenium',
        'pip install tensorboard',
        'tensorboard --logdir log/tb',
        'docker run --shm-size=8g',
        'python -m furnace.base_model.weights convert hf:timm/resnet50s.gluon_in1k '
        'DATA/pytorch-weight/resnet50_v1c.pth',
    ],
    'what test_export.py does by the same command': ['python eval.py -e last --export model.onnx'],
    'minutes': [
        'make demo',
        'make demo PYTHON=python3.12',
        'make demo VENV=DIR',
        'make demo VENV= PYTHON=python',
        'make lint',
        'make test',
        'python -m pytest',
        'python -m furnace.tools.benchmark',
        'python -m furnace.tools.benchmark --quick',
        'python -m furnace.tools.benchmark memory --device cuda:0',
        'python tests/faults.py --rounds 30',
    ],
}


FENCE = re.compile(r'^ *```(\w*)\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)


def commands() -> set[str]:
    """What is to be typed, in blocks and in running text."""
    lines = []
    for text in README, *OTHERS:
        lines += [line for language, block in FENCE.findall(text) if not language for line in block.splitlines()]
        lines += [' '.join(quote.split()) for quote in re.findall(r'`([^`]+)`', FENCE.sub('', text))]
    typed = (re.sub(r' +#.*', '', line).strip() for line in lines)
    return {line for line in typed if re.match(r'(python|make|torchrun|pip|tensorboard|docker) ', line)}


def example(word: str) -> str:
    (code,) = [block for language, block in FENCE.findall(README) if language == 'python' and word in block]
    return code


@pytest.fixture
def place(demo, shallow, tmp_path, monkeypatch):
    """A folder with what the commands name: images, a film, and a run with snapshots of epochs 20 and 21."""
    monkeypatch.chdir(tmp_path)
    content = load_file(shallow)
    Path('log/snapshot').mkdir(parents=True)
    for epoch in (20, 21):
        torch.save({**content, 'epoch': epoch, 'iteration': 2 * epoch}, f'log/snapshot/epoch-{epoch}.pth')
    for name in ('log/snapshot/epoch-last.pth', 'FILE.pth'):
        shutil.copy('log/snapshot/epoch-21.pth', name)
    shutil.copytree(demo.data / 'images/val', 'photos')
    shutil.copy('photos/val_00.png', 'street.jpg')
    film = cv2.VideoWriter('film.mp4', cv2.VideoWriter_fourcc(*'mp4v'), 5, (64, 48))
    for i in range(12):
        film.write(np.full((48, 64, 3), 20 * i, np.uint8))
    film.release()
    return tmp_path


EVALUATIONS = {
    'python eval.py -e last': 'log/val_last.log',
    'python eval.py -e last log_dir=log/supervised': 'log/supervised/val_last.log',
    'python eval.py -e 20- -v': 'log/val_last.json',
    'python eval.py -e last -s -p DIR': 'DIR/*/val_00.png',
    'python eval.py -e last --branch both': 'log/val_last.log',
    'python eval.py -e 20- --report': 'log/report/index.html',
    'python eval.py -e FILE.pth': 'log/val_last.log',
    "python eval.py -i photos street.jpg '**/*.png'": 'log/pred_imgs/images_*/label/street.png',
    'python eval.py -i film.mp4 --every 10 -p out': 'out/overlay/film/000010.png',
}


@pytest.mark.parametrize('command', EVALUATIONS)
def test_evaluation(demo, place, command):
    script, arguments, settings = split(command)
    log = Path(settings.pop('log_dir', 'log')).absolute()
    if not log.exists():
        shutil.copytree('log', log)
    outcome = demo.call(script, log, *arguments, **settings)
    assert outcome.status == 0, outcome.stderr
    assert list(place.glob(EVALUATIONS[command])), [str(path.relative_to(place)) for path in place.rglob('*')]


TRAININGS = (
    'python train.py',
    'python train.py labeled_ratio=16',
    'python train.py method=supervised log_dir=log/supervised',
    'python train.py -c auto',
)


def split(command: str) -> tuple[str, list[str], dict[str, str]]:
    """Script, options and settings of a command line."""
    _, script, *words = shlex.split(command)
    return script, [word for word in words if '=' not in word], dict(word.split('=') for word in words if '=' in word)


def test_training(demo, shallow, data, log):
    for path in (data / 'config_new/subset_train').glob('*1-4.txt'):
        shutil.copy(path, path.with_name(path.name.replace('1-4', '1-16')))
    for command in TRAININGS:
        script, options, settings = split(command)
        settings |= SHORT | {'dataset_path': data}
        settings.pop('log_dir', None)
        outcome = demo.call(script, log, *options, **settings)
        if '-c' in options:  # of the run before it
            assert (outcome.status, "method: was 'supervised', is 'cpcl'" in outcome.stderr) == (2, True)
        else:
            assert outcome.status == 0, outcome.stderr


UNCHANGED = (
    'python -m furnace.datasets.scenes DATA/demo',
    'python exp_demo/train.py log_dir=/tmp/before niters_per_epoch=5',
    'python exp_demo/train.py log_dir=/tmp/after niters_per_epoch=5',
    'python -m furnace.tools.same_losses /tmp/before /tmp/after',
)


def test_showing_that_a_change_alters_nothing(demo, shallow, tmp_path):
    folders = {f'/tmp/{name}': tmp_path / name for name in ('before', 'after')}
    drawing, *trainings, comparison = UNCHANGED
    assert run_module(scenes, f'{drawing} --train 16 --val 1 --size 32x64', {'DATA/demo': tmp_path / 'data'}) == 0
    for command, (name, folder) in zip(trainings, folders.items(), strict=True):
        assert split(command)[2]['log_dir'] == name
        assert demo.call('train.py', folder, nepochs=1, niters_per_epoch=2).status == 0
    assert run_module(same_losses, comparison, folders) == 0


def run_module(main, command: str, replaced: dict[str, Path]) -> int:
    words = shlex.split(command)
    return main([str(replaced.get(word, word)) for word in words[3:]])


def raw_folder(demo, root: Path) -> Path:
    """What ``prepare folder`` takes."""
    for ours, theirs in ('images', 'images'), ('segmentation', 'labels'):
        for split in ('train', 'val'):
            for path in sorted((demo.data / ours / split).iterdir()):
                target = root / theirs / split / path.name.replace('_gtFine', '')
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    shutil.copy(demo.data / 'classes.json', root)
    return root


PREPARATIONS = (
    'python -m furnace.datasets.prepare folder SOURCE DATA/mydata',
    'python -m furnace.datasets.prepare splits DATA/city --counts 100',
    'python -m furnace.datasets.prepare splits DATA/city --from DIR --force',
    'python -m furnace.datasets.prepare check DATA/city',
)


def test_preparation(demo, tmp_path, capsys):
    made = tmp_path / 'mydata'
    replaced = {'SOURCE': raw_folder(demo, tmp_path / 'raw'), 'DATA/mydata': made, 'DATA/city': made, '100': '5'}
    replaced['DIR'] = demo.data / 'config_new'
    for command in PREPARATIONS:
        assert run_module(prepare, command, replaced) == 0, capsys.readouterr().err
    assert 'no findings' in capsys.readouterr().out


TOOLS = {
    'python -m furnace.tools.plot exp_demo/log/supervised exp_demo/log -o curves.png': plot,
    'python -m furnace.tools.compare exp_demo/log/supervised/val_last.json exp_demo/log/val_last.json': compare,
    'python -m furnace.tools.study tables docs/results/scenes.json': study,
}


@pytest.mark.parametrize('command', TOOLS)
def test_tools(demo, trained, tmp_path, monkeypatch, command):
    if 'plot' in command:
        pytest.importorskip('matplotlib')
    log = shutil.copytree(trained, tmp_path / 'log', ignore=shutil.ignore_patterns('snapshot'))
    if 'val_last' in command:
        assert demo.call('eval.py', log, snapshot_dir=trained / 'snapshot').status == 0
    names = {'exp_demo/log/supervised': '', 'exp_demo/log': '', 'curves.png': 'curves.png'}
    monkeypatch.chdir(ROOT)
    names |= {f'exp_demo/log/{folder}val_last.json': 'val_last.json' for folder in ('', 'supervised/')}
    assert run_module(TOOLS[command], command, {word: log / name for word, name in names.items()}) == 0


EXAMPLES = ('python train.py backbone=mobilenet_v3_large pretrained_model=None', 'python train.py method=sure')


@pytest.mark.parametrize('command', EXAMPLES)
def test_a_backbone_and_a_method_of_ones_own(demo, shallow, log, monkeypatch, command):
    monkeypatch.setitem(BACKBONES, 'mobilenet_v3_large', None)
    monkeypatch.setitem(TARGETS, 'sure', None)
    for word in 'MobileNet', 'sure_targets':
        exec(example(word), {})
    _, _, setting = split(command)
    assert demo.call('train.py', log, **SHORT, **setting).status == 0
    names = set(read_losses(log / LOSSES)[0])
    assert ({'sure_1', 'sure_2'} <= names) == ('method' in setting)
    assert demo.call('eval.py', log, **setting).status == 0
    model = load_file(log / 'snapshot/epoch-last.pth')['model']
    assert any(name.startswith('branch2.backbone.high.') for name in model) == ('backbone' in setting)


def test_a_supervised_loss_of_ones_own():
    scope = {}
    exec(example('def criterion'), scope)
    logits, label = torch.randn(2, 3, 4, 5), torch.randint(3, (2, 4, 5))
    label[0, 0] = 255
    found = scope['criterion'](SimpleNamespace(background=255))(logits, label)
    assert torch.allclose(found, cross_entropy(logits, label, torch.tensor([1.0, 2.5, 4.0]), ignore_index=255))


def test_a_data_set_of_ones_own(demo, shallow, tmp_path, log, monkeypatch):
    """In a copy of an experiment whose scripts have the example in the place of ``cityscapes_items``."""
    data, folder = tmp_path / 'data', tmp_path / 'exp_mine'
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns('log', '__pycache__'))
    for name in ('train.py', 'eval.py'):
        script = folder / name
        text = script.read_text().replace('cityscapes_items)', 'items)').replace('cityscapes_items,', 'items,')
        script.write_text(text.replace('def classes', example('def items') + '\n\ndef classes'))
    for old, new in ('images', 'photos'), ('segmentation', 'masks'):
        (data / new).mkdir(parents=True)
        for path in (demo.data / old).glob('*/*.png'):
            shutil.copy(path, data / new / path.name.replace('_gtFine', ''))
    shutil.copy(demo.data / 'classes.json', data)
    for path in (demo.data / 'config_new').rglob('*.txt'):
        target = data / path.relative_to(demo.data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(''.join(f'{Path(line.split()[0]).stem}\n' for line in path.read_text().splitlines()))
    monkeypatch.setattr('tiny.DEMO', folder)
    monkeypatch.setitem(os.environ, 'volna', str(ROOT))
    monkeypatch.setattr('tiny.ENVIRONMENT', {})
    assert demo.call('train.py', log, dataset_path=data, **SHORT).status == 0
    assert demo.call('eval.py', log, dataset_path=data).status == 0


def test_every_command_is_run_or_known_to_need_more():
    run = [*EVALUATIONS, *TRAININGS, *PREPARATIONS, *TOOLS, *EXAMPLES, *UNCHANGED]
    listed = [command for commands_of in NEEDS.values() for command in commands_of]
    assert sorted(commands()) == sorted([*run, *listed])


def test_what_a_symptom_quotes_is_what_is_said():
    """Each quoted message of the troubleshooting table is in the code, words between … as they stand."""
    table = README.split('## When something is wrong')[1].split('\n## ')[0]
    symptoms = [line.split('|')[1] for line in table.splitlines()[4:] if line.startswith('|')]
    code = ''.join(path.read_text(encoding='utf-8') for path in (ROOT / 'furnace').rglob('*.py'))
    quotes = [quote for symptom in symptoms for quote in re.findall(r'`([^`]+)`', symptom)]
    assert len(quotes) > 5
    for quote in set(quotes) - {'sup_1 is nan', '-c auto', 'resnet50_v1c.pth'}:
        assert quote.strip() in code, quote
