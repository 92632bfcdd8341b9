"""The parts of a report: layers of its pictures, their order, tables and charts."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from furnace.datasets.classes import Classes
from furnace.engine.evaluator import Evaluator
from furnace.engine.report.chart import chart, ticks_around
from furnace.engine.report.gallery import Region, regions, save_layers, worst
from furnace.engine.report.page import confusions, rows


def test_worst():
    values = torch.tensor([0.5, math.nan, 0.1, 0.9, 0.1], dtype=torch.float64)
    assert worst(values, 3) == [2, 4, 0]
    assert worst(values, 9) == [2, 4, 0, 3]


def test_image_scores_of_several_processes():
    """Each has every second image; the sum over both is the whole list, in its order."""
    values = torch.tensor([0.1, 0.2, math.nan, 0.4, 0.5], dtype=torch.float64)

    class World:
        size = 2

        def __init__(self, rank):
            self.rank = rank

        def sum(self, tensor):
            return tensor if tensor.dim() else torch.tensor(len(values))

    total = torch.zeros(5, dtype=torch.float64)
    for rank in (0, 1):
        part = values[rank::2]
        evaluator = object.__new__(Evaluator)
        evaluator.world, evaluator.data = World(rank), part
        total += evaluator._whole_list(list(part))
    torch.testing.assert_close(total, values, equal_nan=True)


def test_layers(tmp_path):
    rng = np.random.default_rng(1)
    truth, label = rng.integers(0, 3, (2, 20, 30)).astype(np.uint8)
    truth[:3] = 255
    image = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    confidence = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    palette = np.zeros((256, 3), np.uint8)
    palette[:3], palette[255] = [(200, 0, 0), (0, 200, 0), (0, 0, 200)], 255
    save_layers(tmp_path / 'x', image, label, truth, confidence, palette)
    errors = np.array(Image.open(tmp_path / 'x-errors.png').convert('RGBA'))
    void = truth == 255
    assert (errors[void] == (128, 128, 128, 200)).all()
    assert (errors[(label == truth)][:, 3] == 0).all()
    wrong = (label != truth) & ~void
    assert (errors[wrong][:, 3] == 255).all()
    assert len(np.unique(errors[wrong], axis=0)) == 2  # dark and light stripes
    for layer, ids in (('prediction', label), ('truth', truth)):
        shown = np.array(Image.open(tmp_path / f'x-{layer}.png'))
        flat = (shown != 0).any(axis=2)  # all but the outlines
        assert flat.any()
        np.testing.assert_array_equal(shown[flat], palette[ids][flat])
    grey = np.array(Image.open(tmp_path / 'x-confidence.png'))
    assert len(np.unique(grey)) == 10
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_large_pictures_are_reduced(tmp_path):
    shape = (100, 2560)
    ids, black = np.zeros(shape, np.uint8), np.zeros((256, 3), np.uint8)
    save_layers(tmp_path / 'x', np.zeros((*shape, 3), np.uint8), ids, ids, np.ones(shape, np.float32), black)
    assert {Image.open(path).size for path in tmp_path.iterdir()} == {(1280, 50)}


def test_regions_are_named_where_they_are_widest():
    ids = np.zeros((40, 80), np.uint8)
    ids[:, 40:] = 2
    ids[0, 0] = 1  # too small
    ids[:, 70:] = 255
    found = regions(ids, ('a', 'b', 'c'))
    assert {region.name for region in found} == {'a', 'c', 'void'}
    for name, x, y in found:
        assert ids[int(y * 0.4), int(x * 0.8)] == {'a': 0, 'c': 2, 'void': 255}[name]
    (only,) = regions(np.zeros((40, 80), np.uint8), ('a',))
    assert only == Region('a', pytest.approx(50, abs=30), pytest.approx(50, abs=2))


def test_rows_of_classes():
    classes = Classes(('a', 'b', 'c'), ((255, 0, 16), (0, 0, 0), (0, 0, 0)))
    a, b, c = rows([[3, 1, 0], [2, 4, 0], [0, 0, 0]], classes)
    assert (a.color, a.iou, a.precision, a.recall, a.share, a.pixels) == ('#ff0010', 3 / 6, 3 / 5, 3 / 4, 4 / 10, 4)
    assert (b.iou, b.precision, b.recall) == (4 / 7, 4 / 5, 4 / 6)
    assert (c.iou, c.precision, c.recall, c.share) == (None, None, None, 0)


def test_mistakes_in_order():
    found = confusions([[3, 1, 0], [2, 4, 0], [5, 0, 5]], ('a', 'b', 'c'))
    assert found == [('c', 'a', 5, 0.5), ('b', 'a', 2, 2 / 6), ('a', 'b', 1, 0.25)]


@pytest.mark.parametrize(
    'low, high', [(0, 100), (69.1, 73.4), (50, 50), (71.231, 71.236), (0, 0), (99.9, 100), (3, 40)]
)
def test_ticks(low, high):
    ticks = ticks_around(low, high)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low <= high <= ticks[-1] + 1e-9
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])


def test_points_of_a_chart():
    made = chart('t', ['10', '20', '30'], {'branch 1': [50, None, 70], 'branch 2': [60, 60, 60]})
    first, second = made.lines
    assert [point.x for point in first.points] == [made.left, made.right]
    assert [point.x for point in second.points] == [made.left, (made.left + made.right) / 2, made.right]
    assert first.points[0].y > second.points[0].y > first.points[1].y  # y grows downwards
    assert first.points[1].text == 'branch 1, 30: 70.00 %'
    assert [tick.text for tick in made.x] == ['10', '20', '30']
    assert len(chart('t', [str(i) for i in range(100)], {'a': [1.0] * 100}).x) <= 12
