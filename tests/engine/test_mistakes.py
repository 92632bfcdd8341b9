"""Mistakes of the user: one line that says what is wrong, exit status 2, and nothing written where it shows at once."""

import errno
import logging
import os
import re

import pytest
import torch
from full import full_disk
from tiny import told

from furnace.base_model import DualNetwork, load_file
from furnace.engine import eval_command, train_command


def test_as_a_process(demo, log):
    outcome = demo.process('train.py', log, labelled_ratio=4)
    assert told(outcome) == 'labelled_ratio: no such setting in exp_demo/config.py; did you mean labeled_ratio?'
    outcome = demo.process('eval.py', log, '-e', '20-10')
    assert told(outcome) == '-e 20-10: the range ends before it begins; write -e 10-20'
    assert not log.exists()


# Settings


def test_wrong_type(refused):
    text = 'num_classes=many: expected a value of type int, such as 8'
    assert refused('train.py', num_classes='many') == refused('eval.py', num_classes='many') == text


@pytest.mark.parametrize('script', ['train.py', 'eval.py'])
def test_not_an_override(refused, script):
    assert refused(script, 'labeled_ratio').startswith('labeled_ratio: expected NAME=VALUE')


@pytest.mark.parametrize('script', ['train.py', 'eval.py'])
@pytest.mark.parametrize('device', ['7', 'gpu'])
def test_device(refused, monkeypatch, script, device):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    assert refused(script, '-d', device).startswith(f'-d {device}: ')


@pytest.mark.parametrize('script', ['train.py', 'eval.py'])
def test_several_devices_are_started_once_each(demo, log, monkeypatch, trained, script):
    started = []
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 4)
    for module in (train_command, eval_command):
        monkeypatch.setattr(module, 'launch', lambda words, devices: started.append((words, devices)) or 3)
    outcome = demo.call(script, log, '-d', '1-3', snapshot_dir=trained / 'snapshot')
    assert outcome.status == 3
    words, devices = started[0]
    assert words[1].endswith(script)
    assert words[2:4] == ['-d', '1-3']
    assert [device.index for device in devices] == [1, 2, 3]


@pytest.mark.parametrize('script', ['train.py', 'eval.py'])
def test_unknown_option(demo, log, script):
    outcome = demo.call(script, log, '--epoch-count', '3')
    assert outcome.status == 2
    assert f'{script}: error: ' in outcome.stderr
    assert not log.exists()


# Checkpoints and weights


@pytest.mark.parametrize('text', ['abc', '5-', 'none.pth', '0', 'last'])
def test_checkpoint_that_is_not_there(refused, text):
    assert 'expected last' in (line := refused('eval.py', '-e', text)) or 'train.py writes them' in line


@pytest.fixture(params=['eval', 'train'])
def load(request, refused):
    """Evaluate a checkpoint, or go on from it."""
    if request.param == 'eval':
        return lambda path, **settings: refused('eval.py', '-e', path, **settings)
    return lambda path, **settings: refused('train.py', '-c', path, **settings)


def test_checkpoint_of_another_class_count(load, trained, data):
    path = trained / 'snapshot' / 'epoch-3.pth'
    (data / 'classes.json').write_text('{"names": ["a", "b"], "colors": [[1, 2, 3], [4, 5, 6]]}')
    text = f'{path}: trained for 3 classes, the configuration says num_classes = 2'
    assert load(path, dataset_path=data, num_classes=2) == text


def test_checkpoint_of_another_depth(load, trained):
    path = trained / 'snapshot' / 'epoch-3.pth'
    assert load(path, backbone='resnet50') == (
        f'{path}: its backbone has 8 residual blocks, the configured one 16; '
        'set C.backbone to the one it was trained with'
    )


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (b'', 'cannot be read as a PyTorch checkpoint; is it complete?'),
        (bytes(range(256)) * 4, 'refused, it holds more than tensors and plain values, or is damaged'),
        ({'weights': torch.ones(3)}, 'has no entry "model": not a checkpoint of this project, CPCL or CPS'),
        ({'model': {}}, 'does not fit this network: '),
        ([1], 'holds a list, not a dict of tensors'),
    ],
    ids=['empty', 'bytes', 'other', 'no tensors', 'list'],
)
def test_file_that_is_no_checkpoint(load, tmp_path, content, says):
    path = tmp_path / 'x.pth'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    assert load(path).startswith(f'{path}: {says}')


def test_weights_alone_are_not_enough_to_go_on(refused, tmp_path):
    """A checkpoint of CPS can be scored, but names its optimisers otherwise."""
    path = tmp_path / 'x.pth'
    torch.save({'model': DualNetwork(3, 'resnet18').state_dict(), 'optimizer_l': {}, 'iteration': 3}, path)
    assert (
        refused('train.py', '-c', path)
        == f"{path}: holds no state that training can go on from (KeyError('optimizer_1'))"
    )


def test_nothing_to_go_on_from(refused, tmp_path):
    assert refused('train.py', '-c', tmp_path / 'none.pth') == f'{tmp_path}/none.pth: no such file'


def test_names_for_another_class_count(refused, trained):
    text = 'num_classes = 4, but there are names for 3 classes'
    assert refused('eval.py', num_classes=4, snapshot_dir=trained / 'snapshot') == text
    assert refused('train.py', num_classes=4) == text


def test_class_names_missing(refused, data, trained):
    (data / 'classes.json').unlink()
    text = refused('eval.py', dataset_path=data, snapshot_dir=trained / 'snapshot')
    assert text.startswith(f'{data}/classes.json: no such file')


def test_pretrained_weights_missing(refused, tmp_path):
    text = f'{tmp_path}/none.pth: no such file'
    assert refused('train.py', pretrained_model=tmp_path / 'none.pth') == text


def test_pretrained_weights_of_another_network(refused, trained):
    path = trained / 'snapshot' / 'epoch-3.pth'
    assert refused('train.py', pretrained_model=path).startswith(f'{path}: does not fit this network: ')


# Folders


def test_log_folder_that_cannot_be_made(demo, tmp_path, trained):
    (tmp_path / 'file').touch()
    log = tmp_path / 'file' / 'log'
    text = f'{log}: the folder cannot be made: Not a directory'
    assert told(demo.call('train.py', log)) == text
    assert told(demo.call('eval.py', log, snapshot_dir=trained / 'snapshot')) == text


def test_other_folders_that_cannot_be_made(demo, log, tmp_path, trained, no_work):
    """Told before the work, not after the first epoch."""
    (tmp_path / 'file').touch()
    for script, arguments in (
        ('train.py', (f'snapshot_dir={tmp_path}/file/x',)),
        ('eval.py', ('-s', '-p', tmp_path / 'file' / 'x', f'snapshot_dir={trained}/snapshot')),
    ):
        outcome = demo.call(script, log, *arguments)
        assert outcome.status == 2
        assert outcome.stderr == f'error: {tmp_path}/file/x: the folder cannot be made: Not a directory\n'
    assert no_work == []


def test_results_that_cannot_be_written(demo, log, shallow, monkeypatch):
    monkeypatch.setattr(os, 'fsync', full_disk)
    outcome = demo.call('eval.py', log, '-e', shallow)
    assert outcome.status == 1
    line = outcome.stderr.splitlines()[-1]
    assert re.fullmatch(rf'error: {log}/val_[0-9_]+\.json: cannot be written: No space left on device; make .*', line)


def test_a_log_that_cannot_be_opened(demo, log, shallow, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(errno.EACCES, 'Permission denied', path)

    monkeypatch.setattr(logging, 'FileHandler', refuse)
    text = told(demo.call('eval.py', log, '-e', shallow))
    assert re.fullmatch(rf'{log}/val_[0-9_]+\.log: Permission denied', text)


def test_evaluation_does_not_change_the_checkpoint(demo, log, trained):
    path = trained / 'snapshot' / 'epoch-3.pth'
    before = path.stat().st_mtime_ns
    assert demo.call('eval.py', log, '-e', path).status == 0
    assert path.stat().st_mtime_ns == before
    assert load_file(path)['epoch'] == 3
