import numpy as np
import pytest
import reference
import torch

from furnace.seg_opr.cutmix import draw_boxes, mix, paint_masks


@pytest.mark.parametrize('experiment', reference.EXPERIMENTS)
def test_masks_equal_the_reference_bit_for_bit(experiment):
    batch, _, *size = reference.figures(experiment)['cpcl']['shape']
    boxes = draw_boxes(batch, size, np.random.RandomState(reference.S0 + 7))
    assert np.array_equal(paint_masks(boxes, size).numpy(), reference.arrays(experiment)['masks'])


def test_overlapping_boxes_flip_back():
    boxes = torch.tensor([[[0, 0, 2, 2], [1, 1, 3, 3]]])
    want = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.bool)
    assert torch.equal(paint_masks(boxes, (3, 3))[0, 0], want)
    assert torch.equal(paint_masks(boxes, (3, 3), invert=False)[0, 0], ~want)


def areas(size=(400, 600), **options):
    boxes = draw_boxes(200, size, np.random.RandomState(0), **options).double()
    top, left, bottom, right = boxes.unbind(dim=-1)
    return bottom - top, right - left


def test_shares_of_the_area_are_uniform_in_the_range():
    height, width = areas()
    share = 3 * height * width / (400 * 600)
    assert 0.24 < share.min() < 0.27
    assert 0.48 < share.max() < 0.51
    assert share.mean() == pytest.approx(0.375, abs=0.02)


def test_options():
    height, width = areas(fixed_aspect_ratio=True)
    assert ((height / 400 - width / 600).abs() < 0.01).all()
    height, width = areas(by_size=True)
    assert (height / 400 * 3**0.5).min() > 0.24
    assert (height / 400 * 3**0.5).max() < 0.51
    height, width = areas(n_boxes=1, prop_range=(0.0, 0.0))
    assert not (height * width).any()
    _, inside = areas()
    _, outside = areas(outside_bounds=True)
    assert outside.mean() < 0.95 * inside.mean()  # some are cut by the border


def test_boxes_lie_inside_the_image():
    boxes = draw_boxes(500, (40, 60), np.random.RandomState(0), outside_bounds=True)
    assert boxes.min() >= 0
    assert (boxes[..., 2] <= 40).all()
    assert (boxes[..., 3] <= 60).all()


def test_mix_takes_the_second_where_the_mask_is_true():
    mask = torch.tensor([[[[True, False]]]])
    a, b = torch.zeros(1, 3, 1, 2), torch.ones(1, 3, 1, 2)
    assert mix(a, b, mask)[0, :, 0].tolist() == [[1, 0]] * 3
