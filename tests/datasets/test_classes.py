"""Names and colours of the classes: those of the data sets that are known, and those in classes.json."""

import json

import numpy as np
import pytest
from samples import refused

from furnace.datasets.classes import CITYSCAPES, PASCAL_VOC, Classes, read_classes, voc_colormap


def test_voc_colours():
    standard = """
        background 0 0 0, aeroplane 128 0 0, bicycle 0 128 0, bird 128 128 0, boat 0 0 128, bottle 128 0 128,
        bus 0 128 128, car 128 128 128, cat 64 0 0, chair 192 0 0, cow 64 128 0, diningtable 192 128 0, dog 64 0 128,
        horse 192 0 128, motorbike 64 128 128, person 192 128 128, pottedplant 0 64 0, sheep 128 64 0, sofa 0 192 0,
        train 128 192 0, tvmonitor 0 64 128"""
    _same(PASCAL_VOC, standard)
    assert voc_colormap(256)[255] == (224, 224, 192)
    assert len(set(voc_colormap(256))) == 256


def test_cityscapes_colours():
    standard = """
        road 128 64 128, sidewalk 244 35 232, building 70 70 70, wall 102 102 156, fence 190 153 153,
        pole 153 153 153, traffic-light 250 170 30, traffic-sign 220 220 0, vegetation 107 142 35,
        terrain 152 251 152, sky 70 130 180, person 220 20 60, rider 255 0 0, car 0 0 142, truck 0 0 70,
        bus 0 60 100, train 0 80 100, motorcycle 0 0 230, bicycle 119 11 32"""
    _same(CITYSCAPES, standard)


def _same(classes, standard):
    rows = [row.split() for row in standard.split(',')]
    assert classes.names == tuple(name.replace('-', ' ') for name, *_ in rows)
    assert classes.colors == tuple(tuple(map(int, color)) for _, *color in rows)
    assert len(classes) == len(rows)


def test_palette_is_indexed_by_id():
    palette = Classes(('a', 'b'), ((1, 2, 3), (4, 5, 6))).palette()
    assert (palette.shape, palette.dtype) == ((256, 3), np.uint8)
    np.testing.assert_array_equal(palette[[0, 1, 255]], [(1, 2, 3), (4, 5, 6), (255, 255, 255)])
    assert not palette[2:255].any()


def test_read_classes(tmp_path):
    path = tmp_path / 'classes.json'
    path.write_text(json.dumps({'names': ['a', 'ü'], 'colors': [[1, 2, 3], [4, 5, 255]], 'ignore_index': 255}))
    assert read_classes(path) == Classes(('a', 'ü'), ((1, 2, 3), (4, 5, 255)))
    assert 'furnace.datasets.prepare' in refused(read_classes, tmp_path / 'no.json')


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        'null',
        '{"names": ["a"]}',
        '{"names": ["a"], "colors": [1]}',
        '{"names": ["a"], "colors": [[1, 2]]}',
        '{"names": ["a"], "colors": [["x", 2, 3]]}',
        '{"names": ["a"], "colors": [[1, 2, Infinity]]}',
        '{"names": ["a"], "colors": [[1, 2, 256]]}',
        '{"names": ["a"], "colors": [[1, -2, 3]]}',
        '{"names": ["a", "b"], "colors": [[1, 2, 3]]}',
        '{"names": [], "colors": []}',
        '{"names": "abc", "colors": [[1, 2, 3], [1, 2, 3], [1, 2, 3]]}',
        '{"names": ["a"], "colors": [[1, 2, 5.7]]}',
        '{"names": ["a", "b", "a"], "colors": [[1, 2, 3], [1, 2, 3], [1, 2, 3]]}',
    ],
)
def test_bad_classes_file(tmp_path, content):
    path = tmp_path / 'classes.json'
    path.write_text(content)
    refused(read_classes, path)
