"""Data sets as they are downloaded, small; and what the preparation of one leaves."""

import numpy as np
from PIL import Image


def make_image(path, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (10, 20, 30)).save(path)


def make_label(path, ids=(0, 1, 2, 255), size=(8, 6), mode='L'):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.array(ids, np.uint8), size[::-1]))
    if mode == 'P':
        image.putpalette(np.arange(768)[::-1].astype(np.uint8).tobytes())
    elif mode != 'L':
        image = image.convert(mode)
    image.save(path)


def snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns, path.is_symlink())
        for path in folder.rglob('*')
        if path.is_file()
    }


def lines_of(path):
    return path.read_bytes().decode().splitlines()


def refused(result, tmp_path, *words):
    """One line, status 2, and nothing beside the source."""
    status, out, error = result
    assert status == 2
    assert out == ''
    assert error.startswith('error: ')
    for word in words:
        assert word in error
    assert [path.name for path in tmp_path.iterdir()] == ['src']
