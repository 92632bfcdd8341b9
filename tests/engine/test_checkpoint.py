"""Checkpoints: what -e names, writing that leaves no half files, reading that runs no code."""

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from furnace.base_model import load_file
from furnace.engine import checkpoint
from furnace.utils.errors import RunError, UserError


@pytest.fixture
def folder(tmp_path):
    """Snapshots of epochs 2, 4, 10 and 20 and the last, beside files that are none."""
    for name in ('epoch-2.pth', 'epoch-4.pth', 'epoch-10.pth', 'epoch-20.pth', 'epoch-last.pth', '.tmp-1-epoch-6.pth',
                 'epoch-x.pth', 'epoch-8.pth.old', 'other.pth'):  # fmt: skip
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ('text', 'names'),
    [
        ('last', ['last']),
        ('4', ['4']),
        ('4-10', ['4', '10']),
        ('3-19', ['4', '10']),
        ('4-4', ['4']),
        ('2-', ['2', '4', '10', '20']),
        ('5-', ['10', '20']),
        ('0-99', ['2', '4', '10', '20']),
    ],
)
def test_select(folder, text, names):
    assert checkpoint.select(text, folder) == [folder / f'epoch-{name}.pth' for name in names]


def test_select_file(folder):
    path = folder / 'other.pth'
    assert checkpoint.select(str(path), folder / 'elsewhere') == [path]


@pytest.mark.parametrize('text', ['abc', '', '-', '-5', '4-5-6', '4,5', 'epoch-4', '1.5', 'Last'])
def test_select_other_forms(folder, text):
    with pytest.raises(UserError) as caught:
        checkpoint.select(text, folder)
    assert str(caught.value) == f'-e {text}: expected last, best, a file.pth, an epoch (30), or a range (20-34, 20-)'


def test_select_range_backwards(folder):
    with pytest.raises(UserError, match=r'^-e 20-10: the range ends before it begins; write -e 10-20$'):
        checkpoint.select('20-10', folder)


@pytest.mark.parametrize('text', ['5-9', '21-30', '21-'])
def test_select_empty_range(folder, text):
    with pytest.raises(UserError) as caught:
        checkpoint.select(text, folder)
    assert str(caught.value) == (f'-e {text}: {folder} has no epoch in this range; there are epochs 2, 4, 10, 20')


def test_select_missing_epoch(folder):
    with pytest.raises(UserError) as caught:
        checkpoint.select('5', folder)
    assert str(caught.value) == f'{folder}/epoch-5.pth: no such checkpoint; there are epochs 2, 4, 10, 20'


@pytest.mark.parametrize('text', ['last', '3', 'none.pth'])
def test_select_without_any(tmp_path, text):
    with pytest.raises(UserError, match=r'no such checkpoint; train.py writes them$'):
        checkpoint.select(text, tmp_path / 'snapshot')


def test_set_aside_keeps_every_earlier_run(tmp_path):
    folder = tmp_path / 'snapshot'
    for run in range(1, 4):
        folder.mkdir()
        (folder / 'epoch-last.pth').write_text(str(run))
        assert checkpoint.set_aside(folder) == tmp_path / f'snapshot_{run}'
        assert not folder.exists()
    assert [(tmp_path / f'snapshot_{run}' / 'epoch-last.pth').read_text() for run in range(1, 4)] == ['1', '2', '3']


def test_set_aside_leaves_a_link_and_stays_on_its_disk(tmp_path):
    disk = tmp_path / 'disk'
    (disk / 'big').mkdir(parents=True)
    link = tmp_path / 'snapshot'
    link.symlink_to('disk/big')
    for run in (1, 2):
        (link / 'epoch-last.pth').write_text(str(run))
        assert checkpoint.set_aside(link) == disk / f'big_{run}'
        assert link.is_symlink() and list(link.iterdir()) == []
        assert (disk / f'big_{run}' / 'epoch-last.pth').read_text() == str(run)
    (tmp_path / 'losses.jsonl').symlink_to('disk/losses')
    (disk / 'losses').write_text('former')
    assert checkpoint.set_aside(tmp_path / 'losses.jsonl') == disk / 'losses_1'
    (tmp_path / 'losses.jsonl').write_text('new')
    assert [(disk / name).read_text() for name in ('losses_1', 'losses')] == ['former', 'new']


def test_set_aside_leaves_other_folders(tmp_path):
    assert checkpoint.set_aside(tmp_path / 'none') is None
    (tmp_path / 'empty').mkdir()
    assert checkpoint.set_aside(tmp_path / 'empty') is None
    assert (tmp_path / 'empty').is_dir()


def test_save_and_load(tmp_path):
    content = {'model': {'a': torch.arange(3.0)}, 'epoch': 3, 'config': {'lr': 0.1, 'lists': [None, True, 'x']}}
    path = tmp_path / 'new' / 'folder' / 'epoch-3.pth'
    checkpoint.save(content, path)
    loaded = load_file(path)
    torch.testing.assert_close(loaded.pop('model'), content.pop('model'), rtol=0, atol=0)
    assert loaded == content
    assert os.listdir(path.parent) == ['epoch-3.pth']


def test_failed_write_leaves_the_former_file(tmp_path, small_files):
    path = tmp_path / 'epoch-last.pth'
    checkpoint.save({'a': 1}, path)
    before = path.read_bytes()
    with small_files(), pytest.raises(RunError, match='the checkpoint cannot be written: File too large'):
        checkpoint.save({'a': torch.rand(10_000)}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['epoch-last.pth']


def test_a_read_only_disk_is_told(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, 'Read-only file system')

    for function in ('builtins.open', 'os.link', 'shutil.copyfile', 'os.unlink'):
        monkeypatch.setattr(function, refuse)
    path = tmp_path / 'epoch-last.pth'
    for save in (lambda: checkpoint.save({}, path), lambda: checkpoint.save_also_as(tmp_path / 'x', path.name)):
        with pytest.raises(UserError) as caught:
            save()
        assert str(caught.value) == f'{path}: the checkpoint cannot be written: Read-only file system'


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    """The names of unfinished files, as another process leaves them where it never gets to delete any."""
    with monkeypatch.context() as patch:
        patch.setattr(os, 'getpid', lambda: 1)
        patch.setattr(os, 'replace', lambda *_: None)
        patch.setattr(Path, 'unlink', lambda self, missing_ok=False: None)
        checkpoint.save({'a': 1}, tmp_path / 'epoch-2.pth')
        checkpoint.save_also_as(tmp_path / '.tmp-1-epoch-2.pth', 'epoch-last.pth')
    checkpoint.save({'a': 2}, tmp_path / 'epoch-2.pth')  # by this process, which touches nothing of another's
    assert sorted(os.listdir(tmp_path)) == ['.tmp-1-epoch-2.pth', '.tmp-1-epoch-last.pth', 'epoch-2.pth']
    checkpoint.require_own(tmp_path, tmp_path.parent)
    checkpoint.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ['epoch-2.pth']


@pytest.mark.parametrize('stop', [KeyboardInterrupt, RuntimeError])
def test_interrupted_write_leaves_the_former_file(tmp_path, monkeypatch, stop):
    path = tmp_path / 'epoch-last.pth'
    checkpoint.save({'a': 1}, path)
    before = path.read_bytes()

    def write_some(content, file):
        file.write(b'half')
        raise stop

    monkeypatch.setattr(torch, 'save', write_some)
    with pytest.raises(stop):
        checkpoint.save({'a': 2}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ['epoch-last.pth']


def test_interrupt_is_told_as_one(tmp_path, monkeypatch):
    """PyTorch turns Ctrl-C inside its writer into a RuntimeError."""

    def interrupted(descriptor):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise RuntimeError('unexpected pos') from None

    monkeypatch.setattr(os, 'fsync', interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({'a': 2}, tmp_path / 'x.pth')


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='/file/snapshot: the folder cannot be made: Not a directory'):
        checkpoint.save({'a': 1}, tmp_path / 'file' / 'snapshot' / 'epoch-1.pth')


def test_second_name_outlives_changes(tmp_path):
    path, last = tmp_path / 'epoch-2.pth', tmp_path / 'epoch-last.pth'
    checkpoint.save({'a': 0}, last)
    checkpoint.save({'a': 1}, path)
    checkpoint.save_also_as(path, last.name)
    assert load_file(last) == {'a': 1}
    checkpoint.save({'a': 2}, last)
    assert load_file(path) == {'a': 1}
    assert sorted(os.listdir(tmp_path)) == ['epoch-2.pth', 'epoch-last.pth']


def test_second_name_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'link', refuse)
    path = tmp_path / 'epoch-2.pth'
    checkpoint.save({'a': 1}, path)
    checkpoint.save_also_as(path, 'epoch-last.pth')
    assert load_file(tmp_path / 'epoch-last.pth') == load_file(path) == {'a': 1}
    assert sorted(os.listdir(tmp_path)) == ['epoch-2.pth', 'epoch-last.pth']


def test_second_name_does_not_go_into_a_link_that_was_left(tmp_path):
    """By a killed process of the same number."""
    for epoch in (1, 2):
        checkpoint.save({'a': epoch}, tmp_path / f'epoch-{epoch}.pth')
    os.link(tmp_path / 'epoch-1.pth', tmp_path / f'.tmp-{os.getpid()}-epoch-last.pth')
    checkpoint.save_also_as(tmp_path / 'epoch-2.pth', 'epoch-last.pth')
    assert [load_file(tmp_path / f'epoch-{name}.pth')['a'] for name in (1, 2, 'last')] == [1, 2, 2]


@pytest.mark.parametrize('name', ['notes.txt', 'x/epoch-1.pth'])
def test_a_folder_with_other_files_is_refused(tmp_path, name):
    path = tmp_path / 'snapshot' / name
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(UserError, match='/snapshot: holds other files than checkpoints; '):
        checkpoint.require_own(tmp_path / 'snapshot', tmp_path / 'log')
    with pytest.raises(UserError, match='is not a folder; '):
        checkpoint.require_own(path, tmp_path / 'log')


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('write', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, write):
    target, path = tmp_path / 'run', tmp_path / 'x.pth'
    write({'model': Malicious(target)}, path)
    with pytest.raises(UserError) as caught:
        load_file(path)
    assert str(caught.value) == f'{path}: refused, it holds more than tensors and plain values, or is damaged'
    assert not target.exists()


@pytest.mark.parametrize('zipped', [True, False])
def test_truncated_file(tmp_path, zipped):
    path = tmp_path / 'x.pth'
    torch.save({'a': torch.rand(10), 'b': [1, 2]}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole), 41):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            load_file(path)
        assert str(caught.value).startswith(f'{path}: ')
        assert '\n' not in str(caught.value)


def test_random_bytes(tmp_path, recwarn):
    path = tmp_path / 'x.pth'
    generator = torch.Generator().manual_seed(1)
    for _ in range(300):
        size = int(torch.randint(200, (), generator=generator))
        path.write_bytes(bytes(torch.randint(256, (size,), generator=generator).tolist()))
        with pytest.raises(UserError, match=f'^{path}: '):
            load_file(path)
    assert not recwarn  # PyTorch's own warnings would stand beside the one line


@pytest.mark.parametrize('content', [[1, 2], 3, torch.ones(2)])
def test_not_a_dict(tmp_path, content):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(UserError, match=f'holds a {type(content).__name__}, not a dict of tensors'):
        load_file(tmp_path / 'x.pth')


def test_missing_file(tmp_path):
    for path in (tmp_path / 'x.pth', tmp_path):
        with pytest.raises(UserError, match='no such file'):
            load_file(path)
