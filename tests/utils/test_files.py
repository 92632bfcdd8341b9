"""Walks that lose no file, and files that appear whole or not at all."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from furnace.utils.errors import RunError, UserError
from furnace.utils.files import files_below, replacing, write_json, write_text


def test_the_file_is_replaced_when_all_is_written(tmp_path):
    path = tmp_path / 'x.pth'
    path.write_bytes(b'old')
    mask = os.umask(0o022)
    try:
        with replacing(path) as file:
            file.write(b'new')
            assert path.read_bytes() == b'old'
            assert file.name.endswith('x.pth')
    finally:
        os.umask(mask)
    assert path.read_bytes() == b'new'
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ['x.pth']


@pytest.mark.parametrize('error', [OSError, KeyboardInterrupt])
@pytest.mark.parametrize('before', [[], ['x.pth']])
def test_after_a_failure_all_is_as_before(tmp_path, before, error):
    for name in before:
        (tmp_path / name).write_bytes(b'old')
    with pytest.raises(error), replacing(tmp_path / 'x.pth') as file:
        file.write(b'half')
        raise error
    assert os.listdir(tmp_path) == before
    assert all((tmp_path / name).read_bytes() == b'old' for name in before)


def test_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr('os.fsync', lambda _: seen.append((tmp_path / 'x').exists()))
    with replacing(tmp_path / 'x') as file:
        file.write(b'new')
    assert seen == [False]
    assert (tmp_path / 'x').read_bytes() == b'new'


def test_a_cleanup_that_fails_does_not_hide_why(tmp_path, monkeypatch):
    """As on a read-only disk, where nothing can be deleted either."""

    def refuse(self, missing_ok=False):
        raise OSError(errno.EROFS, 'Read-only file system')

    monkeypatch.setattr(Path, 'unlink', refuse)
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / 'x'):
        raise KeyboardInterrupt


def test_a_name_that_cannot_be_taken_is_told(tmp_path):
    (tmp_path / 'x').mkdir()
    with pytest.raises(IsADirectoryError), replacing(tmp_path / 'x'):
        pass
    assert os.listdir(tmp_path) == ['x']


@pytest.mark.parametrize(
    ('number', 'kind', 'hint'),
    [(errno.EROFS, UserError, ''), (errno.EIO, RunError, ''), (errno.ENOSPC, RunError, '; make room on the disk')],
)
def test_json_is_written_as_a_whole_or_told(tmp_path, monkeypatch, number, kind, hint):
    def fail(_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / 'x.json'
    write_json(path, {'a': 1})
    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(kind) as caught:
        write_json(path, {'a': 2})
    assert str(caught.value).startswith(f'{path}: cannot be written: {os.strerror(number)}{hint}')
    assert json.loads(path.read_text()) == {'a': 1}
    assert os.listdir(tmp_path) == ['x.json']


def test_text_goes_through_links_and_into_what_is_no_file(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/target').write_text('former')
    (tmp_path / 'link').symlink_to('a/target')
    write_text(tmp_path / 'link', 'text')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'a/target').read_text() == 'text\n'
    os.mkfifo(tmp_path / 'pipe')
    reader = os.open(tmp_path / 'pipe', os.O_RDWR | os.O_NONBLOCK)
    write_text(tmp_path / 'pipe', 'text')
    assert os.read(reader, 100) == b'text\n'
    os.close(reader)
    assert (tmp_path / 'pipe').is_fifo()


@pytest.fixture
def tree(tmp_path):
    for name in ('b/x', 'b/c/y', 'a', '.hidden/x', 'b/.x', 'but/x', 'other/z'):
        path = tmp_path / ('other/z' if name == 'other/z' else f'tree/{name}')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'tree'


def test_walk(tree):
    assert [path.relative_to(tree).as_posix() for path in files_below(tree)] == ['a', 'b/c/y', 'b/x', 'but/x']
    assert tree / 'but/x' not in files_below(tree, tree / 'but')


def test_walk_follows_links_once(tree):
    for link, target in (
        ('a_loop', tree), ('b/up', tree), ('b/c/self', tree / 'b/c'), ('0', tree / 'b'), ('l', tree.parent / 'other'),
        ('l2', tree.parent / 'other'), ('file', tree / 'a'),
    ):  # fmt: skip
        (tree / link).symlink_to(target)
    found = [path.relative_to(tree).as_posix() for path in files_below(tree)]
    assert found == ['a', 'b/c/y', 'b/x', 'but/x', 'file', 'l/z']


def test_walk_names_a_folder_that_cannot_be_read(tree, monkeypatch):
    """Patched, as root may read everything."""
    scan = os.scandir

    def refuse(path):
        if path == tree / 'b/c':
            raise PermissionError(13, 'Permission denied')
        return scan(path)

    monkeypatch.setattr('os.scandir', refuse)
    with pytest.raises(UserError, match='b/c: the folder cannot be read: Permission denied'):
        files_below(tree)
