"""Sliding windows, scales, flips and whole images against the released implementation."""

import math
from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F

from furnace.datasets.normalize import Normalize
from furnace.engine import inference
from furnace.engine.inference import Inference, label_map, window_starts

NORMALIZE = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CASES = [(e, i) for e in reference.EXPERIMENTS for i in range(len(reference.figures(e)['sliding']))]


def image(number, size):
    return reference.ints(f'img{number}', (*size, 3), 0, 256).numpy().astype(np.uint8)


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('experiment, number', CASES)
def test_predictions_equal_the_reference(experiment, number, batch_size):
    case, arrays = reference.figures(experiment)['sliding'][number], reference.arrays(experiment)
    network = reference.toy_network(reference.EXPERIMENTS[experiment])
    options = case['crop'], 2 / 3, case['scales'], case['flip']
    pixels = image(number, case['hw'])
    prediction = Inference(network, NORMALIZE, *options, batch_size=batch_size)(pixels).argmax(dim=0)
    assert np.array_equal(prediction.numpy(), arrays[f'sliding_pred_{number}'])
    assert torch.bincount(prediction.flatten(), minlength=len(case['hist'])).tolist() == case['hist']
    if f'whole_pred_{number}' in arrays:
        prediction = Inference(network, NORMALIZE, *options, whole=True)(pixels).argmax(dim=0)
        assert np.array_equal(prediction.numpy(), arrays[f'whole_pred_{number}'])


@pytest.mark.parametrize(
    'length, starts', [(48, [0]), (49, [0, 1]), (80, [0, 32]), (96, [0, 32, 48]), (112, [0, 32, 64])]
)
def test_the_last_window_is_moved_back_inside(length, starts):
    assert window_starts(length, 48, math.ceil(48 * 2 / 3)) == starts


def test_windows_cover_every_pixel_for_any_size():
    for length in range(48, 400):
        starts = window_starts(length, 48, 32)
        assert starts[0] == 0 and starts[-1] == length - 48
        assert all(b - a <= 32 for a, b in pairwise(starts))


def test_overlapping_windows_are_summed_not_averaged():
    ones = Inference(lambda x: torch.ones(len(x), 2, *x.shape[-2:]), NORMALIZE, 48)
    logits = ones(image(0, (48, 80)))
    assert logits[0, 0, :32].eq(1).all()
    assert logits[0, 0, 32:48].eq(2).all()


def test_flipped_logits_are_flipped_back():
    def forward(x):
        return x[:, :1].cumsum(dim=-1)

    pixels = image(0, (10, 12))
    plain = Inference(forward, NORMALIZE, 48, whole=True)
    both = Inference(forward, NORMALIZE, 48, whole=True, flip=True)
    mirrored = plain(np.ascontiguousarray(pixels[:, ::-1])).flip(-1)
    assert torch.allclose(both(pixels), plain(pixels) + mirrored)


five_classes = reference.toy_network(5)


def coarse_network(x):
    """Few values, so that many pixels have several greatest logits, and zeros of both signs."""
    return five_classes(x).round()


def bits(logits):
    return logits.contiguous().view(torch.int32)


def summed_one_by_one(forward, pixels, crop, stride):
    """Window logits in the order of the windows, each on the whole image."""
    size = pixels.shape[:2]
    images = NORMALIZE(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    total, seen = None, torch.zeros(size, dtype=torch.bool)
    for top in window_starts(size[0], crop, stride):
        for left in window_starts(size[1], crop, stride):
            border = (left, size[1] - left - crop, top, size[0] - top - crop)
            window = F.pad(forward(images[:, :, top : top + crop, left : left + crop])[0], border)
            inside = F.pad(torch.ones(crop, crop, dtype=torch.bool), border)
            total = window if total is None else torch.where(inside, torch.where(seen, total + window, window), total)
            seen |= inside
    return total


@pytest.mark.parametrize('strip', [1, 7 * 67, 2000, 10**6])  # the last as on a GPU: all rows at once
@pytest.mark.parametrize('batch_size', [1, 3, 4, 100])
@pytest.mark.parametrize('size', [(48, 49), (101, 67), (131, 163)])
@pytest.mark.parametrize('network', [five_classes, coarse_network])
def test_sums_and_labels_equal_those_of_windows_added_one_by_one(network, size, batch_size, strip, monkeypatch):
    monkeypatch.setattr(inference, 'STRIP', strip)
    infer = Inference(network, NORMALIZE, 48, batch_size=batch_size)
    for number in (0, 1):  # the second image in the memory of the first
        pixels = image(number, size)
        want = summed_one_by_one(network, pixels, 48, 32)
        assert torch.equal(bits(infer(pixels)), bits(want))
        assert np.array_equal(infer.labels(pixels), want.numpy().argmax(axis=0))


def test_the_coarse_network_has_ties_and_zeros_of_both_signs():
    logits = summed_one_by_one(coarse_network, image(0, (101, 67)), 48, 32)
    greatest = logits.topk(2, dim=0).values
    assert greatest[0].eq(greatest[1]).any()
    assert (logits.eq(0) & logits.signbit()).any() and (logits.eq(0) & ~logits.signbit()).any()


@pytest.mark.parametrize('size', [(20, 33), (30, 101), (101, 30), (101, 67)])
@pytest.mark.parametrize('scales', [(1,), (1.0,), (0.75, 1, 1.5)])
@pytest.mark.parametrize('options', [{}, {'flip': True}, {'whole': True}])
def test_labels_are_the_first_greatest_logits(size, scales, options):
    infer = Inference(coarse_network, NORMALIZE, 48, scales=scales, batch_size=3, **options)
    labels = infer.labels(image(0, size))
    assert labels.dtype == torch.uint8
    assert np.array_equal(labels, infer(image(0, size)).numpy().argmax(axis=0))


@pytest.mark.parametrize('shape', [(1, 5, 7), (2, 1, 1), (19, 33, 1500), (200, 3, 4)])
@pytest.mark.parametrize('channels_last', [True, False])
def test_label_map_takes_the_first_of_equal_logits_infinite_ones_and_nan(shape, channels_last):
    logits = reference.ints('ties', shape, 0, 4).float()
    logits[logits == 3] = math.inf
    logits[:, 0, 0] = -math.inf
    logits[shape[0] // 2 :, -1, -1] = math.nan
    if channels_last:
        logits = logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    labels = label_map(logits)
    assert labels.dtype == torch.uint8
    assert np.array_equal(labels, logits.numpy().argmax(axis=0))


def test_images_of_one_size_share_memory():
    infer = Inference(coarse_network, NORMALIZE, 48, batch_size=3)
    assert infer(image(0, (101, 67))).data_ptr() == infer(image(1, (101, 67))).data_ptr()
