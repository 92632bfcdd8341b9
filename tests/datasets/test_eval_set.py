import os
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import NUM_CLASSES, blocks, draw, make_items, save

from furnace.datasets.eval_set import EvalSet, samples
from furnace.utils.errors import UserError

SIZES = [(20, 24), (9, 31), (24, 20), (1, 1), (20, 24)]


@pytest.fixture
def items(tmp_path):
    """Images of several sizes, in an order that is not that of their names."""
    items = [item for i, size in enumerate(SIZES) for item in make_items(tmp_path / str(i), 1, size)]
    return [item._replace(name=f'image {9 - i}') for i, item in enumerate(items)]


@pytest.mark.parametrize('workers', [0, 2])
def test_whole_images_in_the_order_of_the_list(items, workers):
    data = EvalSet(items, NUM_CLASSES)
    assert len(data) == 5
    found = list(samples(data, workers))
    assert [sample.name for sample in found] == ['image 9', 'image 8', 'image 7', 'image 6', 'image 5']
    for sample, size in zip(found, SIZES, strict=True):
        assert sample.image.dtype == sample.label.dtype == torch.uint8
        np.testing.assert_array_equal(sample.label, blocks(size))
        np.testing.assert_array_equal(sample.image, draw(blocks(size), 0))


@pytest.mark.parametrize('workers', [0, 1])
def test_an_unusable_file_is_told_in_one_line_where_it_stands(items, workers):
    label = np.zeros((24, 20), np.uint8)
    label[0, 0] = 77
    save(Path(items[2].label), label)
    found = []
    with pytest.raises(UserError) as error:
        for sample in samples(EvalSet(items, NUM_CLASSES), workers):
            found.append(sample.name)
    assert found == ['image 9', 'image 8']
    assert str(error.value).startswith(f'{items[2].label}: has class ids 77 outside 0 … {NUM_CLASSES - 1}')
    assert '\n' not in str(error.value)


def test_missing_label_and_other_size(items):
    os.remove(items[4].label)
    with pytest.raises(UserError, match='cannot be read: No such file'):
        list(samples(EvalSet(items, NUM_CLASSES), 0))
    with pytest.raises(UserError, match='is 31x9 pixels, its image'):
        list(samples(EvalSet([items[0]._replace(label=items[1].label)], NUM_CLASSES), 0))


def test_a_sample_can_be_asked_for_by_place(items):
    assert EvalSet(items, NUM_CLASSES)[3].name == 'image 6'
    assert isinstance(EvalSet([items[0]._replace(image='no.png')], NUM_CLASSES)[0], UserError)
