import json

import pytest
from raw import COLORS, make_city, make_image, make_label, make_voc

from furnace.datasets.prepare.__main__ import main


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """These tests write thousands of small files, and none of them cuts the power; see tests/utils/test_files.py."""
    monkeypatch.setattr('os.fsync', lambda _: None)


@pytest.fixture
def src(tmp_path):
    """Six labelled training frames of two sequences, one without a label, and two of val."""
    src = tmp_path / 'src'
    for split, names in ('train', ('a_1', 'a_2', 'a_3', 'b_1', 'b_2', 'b_3')), ('val', ('c_1', 'c_2')):
        for name in names:
            make_image(src / f'images/{split}/{name}.png')
            make_label(src / f'labels/{split}/{name}_gtFine.png')
    make_image(src / 'images/train/sub/a_9.JPG')
    (src / 'classes.json').write_text(json.dumps({'names': ['x', 'y', 'z'], 'colors': COLORS, 'ignore_index': 255}))
    return src


@pytest.fixture
def command(capsys):
    """Runs ``prepare`` with arguments of any type and returns (status, stdout, last line of stderr)."""

    def command(*arguments):
        status = main([*map(str, arguments)])
        out, err = capsys.readouterr()
        return status, out, err.strip().splitlines()[-1] if err else ''

    return command


@pytest.fixture
def run(command, src, tmp_path):
    """Runs ``prepare folder``, as ``command``."""
    return lambda *options, dst='dst': command('folder', src, tmp_path / dst, *options)


@pytest.fixture
def raw_city(tmp_path):
    return make_city(tmp_path / 'raw')


@pytest.fixture
def city(command, raw_city, tmp_path):
    return lambda *options, src=(raw_city,), dst='dst': command('city', *src, tmp_path / dst, *options)


@pytest.fixture
def raw_voc(tmp_path):
    return make_voc(tmp_path / 'raw')


@pytest.fixture
def voc(command, raw_voc, tmp_path):
    """With SegmentationClassAug, where no sources are given."""

    def voc(*options, src=(raw_voc / 'VOCdevkit', raw_voc / 'SegmentationClassAug'), dst='dst'):
        return command('voc', *src, tmp_path / dst, *options)

    return voc
