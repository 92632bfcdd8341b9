"""Files that appear whole or not at all."""

import os
import stat

import pytest

from furnace.utils.files import replacing


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
