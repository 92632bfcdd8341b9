import json

import numpy as np
import pytest
from PIL import Image
from raw import contents, make_label
from samples import save

from furnace.datasets.classes import PASCAL_VOC
from furnace.datasets.images import read_label
from furnace.datasets.prepare.colors import read_ids
from furnace.utils.errors import UserError

TABLE = {color: i for i, color in enumerate(PASCAL_VOC.colors)}


def _paint(path, colors):
    """The ids of a label map, replaced by their colours."""
    with Image.open(path) as label:
        save(path, np.array(colors, np.uint8)[np.asarray(label)])


def test_every_colour_gives_its_id(tmp_path):
    ids = np.random.default_rng(1).integers(21, size=(30, 40)).astype(np.uint8)
    path = save(tmp_path / 'x.png', np.array(PASCAL_VOC.colors, np.uint8)[ids])
    found = read_ids(path, TABLE, None)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize('color', [(0, 0, 1), (255, 255, 255), (128, 0, 1), (0, 128, 0)])
def test_unknown_colours(tmp_path, color):
    table = {key: i for key, i in TABLE.items() if key != color}
    pixels = np.zeros((3, 4, 3), np.uint8)
    pixels[1, 2:] = color
    path = save(tmp_path / 'x.png', pixels)
    with pytest.raises(UserError, match='2 pixels') as error:
        read_ids(path, table, None)
    assert str(path) in str(error.value)
    assert str(color) in str(error.value)
    ids = read_ids(path, table, 255)
    np.testing.assert_array_equal(ids, np.where((pixels == color).all(2), 255, 0))


@pytest.mark.parametrize('mode', ['L', 'P'])
def test_ids_stay_ids(tmp_path, mode):
    make_label(tmp_path / 'x.png', mode=mode)
    np.testing.assert_array_equal(read_ids(tmp_path / 'x.png', TABLE, None), read_label(tmp_path / 'x.png', 3))


def test_folder_by_colours(run, src, tmp_path):
    run()
    colors = json.loads((src / 'classes.json').read_text())['colors']
    for path in (src / 'labels').rglob('*.png'):
        _paint(path, colors + [[7, 7, 7]] * 253)
    status, out, error = run(dst='other')
    assert (status, out) == (2, '')
    for word in 'labels/train/a_1_gtFine.png', '(7, 7, 7)', '--unknown-void':
        assert word in error
    assert run('--unknown-void', dst='other')[0] == 0
    assert contents(tmp_path / 'other') == contents(tmp_path / 'dst')


def test_folder_by_colours_with_another_ignore_index(run, src, tmp_path):
    content = json.loads((src / 'classes.json').read_text())
    (src / 'classes.json').write_text(json.dumps({**content, 'ignore_index': 11}))
    for path in (src / 'labels').rglob('*.png'):
        _paint(path, content['colors'] + [[7, 7, 7]] * 253)
    assert run('--unknown-void')[0] == 0
    assert set(np.unique(read_label(tmp_path / 'dst/segmentation/val/c_1.png', 3))) == {0, 1, 2, 255}


def test_a_colour_of_two_classes_tells_neither(run, src):
    content = json.loads((src / 'classes.json').read_text())
    (src / 'classes.json').write_text(json.dumps({**content, 'colors': [[9, 9, 9]] * 3}))
    assert run()[0] == 0  # ids need no colours
    make_label(src / 'labels/val/c_1_gtFine.png', (0,))
    _paint(src / 'labels/val/c_1_gtFine.png', [[9, 9, 9]])
    status, _, error = run('--force')
    assert status == 2
    assert '(9, 9, 9)' in error


def test_colours_without_a_table(run, src):
    (src / 'classes.json').unlink()
    make_label(src / 'labels/val/c_1_gtFine.png', mode='RGB')
    status, _, error = run()
    assert status == 2
    assert '--classes' in error
