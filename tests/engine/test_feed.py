"""What a step gets of a batch: each stream with its own padding, and CutMix masks as the configuration says."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recipes import load

from furnace.datasets.train_set import Batch
from furnace.engine.distributed import ALONE
from furnace.engine.feed import Feed
from furnace.seg_opr.cutmix import draw_boxes, paint_masks

pytestmark = pytest.mark.usefixtures('clean')
SIZE = (12, 20)


def feed(**settings) -> Feed:
    settings = {'image_height': SIZE[0], 'image_width': SIZE[1], 'batch_size': 2} | settings
    config = load('exp_demo', *(f'{name}={value}' for name, value in settings.items()))
    return Feed(config, SimpleNamespace(), torch.device('cpu'), ALONE)


def test_each_stream_is_normalised_inside_its_own_box_and_zero_outside():
    mean, std = np.array([0.1, 0.5, 0.8]), np.array([0.2, 0.3, 0.4])
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8) for _ in range(3)]
    insides = [[[0, 0, 12, 20], [1, 2, 9, 11]], [[3, 0, 12, 7], [0, 4, 5, 20]], [[2, 2, 10, 18], [5, 5, 6, 6]]]
    x, u0, u1 = (torch.from_numpy(image).permute(0, 3, 1, 2) for image in images)
    x_inside, u0_inside, u1_inside = map(torch.tensor, insides)
    y = torch.randint(0, 8, (2, *SIZE), dtype=torch.uint8)
    boxes = draw_boxes(2, SIZE, np.random.RandomState(0))
    batch = Batch(x, x_inside, y, u0, u0_inside, u1, u1_inside, boxes)
    found = feed(image_mean=mean.tolist(), image_std=std.tolist()).inputs(batch)
    for tensor, image, boxes_inside in zip((found[0], *found[2:4]), images, insides, strict=True):
        want = np.zeros(image.shape)
        for i, (top, left, bottom, right) in enumerate(boxes_inside):
            cut = i, slice(top, bottom), slice(left, right)
            want[cut] = (image[cut] / 255 - mean) / std
        np.testing.assert_allclose(tensor.permute(0, 2, 3, 1).numpy(), want, rtol=1e-5, atol=1e-5)
    assert found[1].dtype == torch.int64 and torch.equal(found[1], y.long())
    assert torch.equal(found[4], paint_masks(boxes, SIZE))


OPTIONS = {  # of the configuration, another value than usual, and its place in draw_boxes
    'cutmix_mask_prop_range': ([0.1, 0.2], 'prop_range'),
    'cutmix_boxmask_n_boxes': (2, 'n_boxes'),
    'cutmix_boxmask_fixed_aspect_ratio': (True, 'fixed_aspect_ratio'),
    'cutmix_boxmask_by_size': (True, 'by_size'),
    'cutmix_boxmask_outside_bounds': (True, 'outside_bounds'),
}


@pytest.mark.parametrize('name', OPTIONS)
def test_a_setting_of_cutmix_reaches_the_boxes(name):
    def generator():
        return np.random.RandomState(np.random.SeedSequence([7, 3]).generate_state(4))

    value, parameter = OPTIONS[name]
    want = draw_boxes(2, SIZE, generator(), **{parameter: value})
    usual = draw_boxes(2, SIZE, generator())
    assert not torch.equal(want, usual)
    assert torch.equal(feed(seed=7)._boxes(3), usual)
    assert torch.equal(feed(seed=7, **{name: value})._boxes(3), want)


def test_masks_that_show_the_other_image():
    images = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    inside = torch.tensor([[0, 0, *SIZE]] * 2)
    boxes = draw_boxes(2, SIZE, np.random.RandomState(0))
    batch = Batch(images, inside, images[:, 0], images, inside, images, inside, boxes)
    plain, inverted = (feed(cutmix_boxmask_no_invert=value).inputs(batch)[4] for value in (False, True))
    assert plain.any()
    assert torch.equal(inverted, ~plain)
