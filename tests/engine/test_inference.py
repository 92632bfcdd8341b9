"""Sliding windows, scales, flips and whole images against the released implementation."""

import math
from itertools import pairwise

import numpy as np
import pytest
import reference
import torch
import torch.nn.functional as F

from furnace.datasets.normalize import Normalize
from furnace.engine.inference import Inference, window_starts

NORMALIZE = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CASES = [(e, i) for e in reference.EXPERIMENTS for i in range(len(reference.figures(e)['sliding']))]


def toy_network(num_classes):
    """The reference's stand-in: its logits depend on the place in the window."""
    weight, bias = reference.rnd('toyw', (num_classes, 3, 5, 5), 0.3), reference.rnd('toyb', (num_classes,), 0.1)

    def forward(x):
        height, width = x.shape[-2:]
        ramp = torch.linspace(0, 1, height)[:, None] * torch.linspace(1, 2, width)[None]
        return F.conv2d(x, weight, bias, padding=2) * ramp

    return forward


def image(number, size):
    return reference.ints(f'img{number}', (*size, 3), 0, 256).numpy().astype(np.uint8)


@pytest.mark.parametrize('batch_size', [1, 3])
@pytest.mark.parametrize('experiment, number', CASES)
def test_predictions_equal_the_reference(experiment, number, batch_size):
    case, arrays = reference.figures(experiment)['sliding'][number], reference.arrays(experiment)
    network = toy_network(reference.EXPERIMENTS[experiment])
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
