"""The plain samples, and the fast ones against every crop that the plain code can make."""

import numpy as np
import pytest
import torch
from PIL import Image
from samples import NUM_CLASSES, blocks, save

from furnace.datasets.lists import Item
from furnace.datasets.normalize import Normalize
from furnace.datasets.train_set import TrainSet
from plain import data as plain

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALES = (0.5, 0.75, 1, 1.5, 1.75, 2.0)
IMAGE, CROP = (24, 32), (18, 22)  # every scale gives whole pixels; 0.5 and 0.75 need padding
POSITIONS = 4  # of each scale; both mirrored and unmirrored samples are among them


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """Paths of an image of noise on a ramp and of its label map, every pixel of which is drawn anew."""
    folder = tmp_path_factory.mktemp('pair')
    ramp = np.linspace(0, 200, IMAGE[1])[None, :, None]
    image = ramp + np.random.default_rng(0).integers(0, 50, (*IMAGE, 3))
    label = blocks(IMAGE, side=1)
    return str(save(folder / 'image.png', image.astype(np.uint8))), str(save(folder / 'label.png', label))


def levels(normalized):
    """float (3, h, w), normalised, to grey levels."""
    return (np.asarray(normalized, float) * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))) * 255


def outcomes(pair, scale):
    """(mirrored, image, label) of every crop of ``pair`` at ``scale``.

    The label of a mirrored crop is the mirror of the unmirrored one: nearest-neighbour sampling takes the left of two
    pixels, so that mirroring before scaling would shift labels, not images, by up to one pixel.
    """
    image, label = plain.read(*pair)
    _, scaled_label = plain.flip_and_scale(image, label, False, scale)
    for flip in (False, True):
        scaled, _ = plain.flip_and_scale(image, label, flip, scale)
        normalized = plain.normalize(scaled, np.array(MEAN), np.array(STD))
        shown = scaled_label[:, ::-1] if flip else scaled_label
        spare = [max(0, have - wanted) for have, wanted in zip(scaled.shape, CROP, strict=False)]
        for top in range(spare[0] + 1):
            for left in range(spare[1] + 1):
                crop = plain.crop_and_pad(normalized, top, left, CROP, 0)
                yield flip, plain.to_channels_first(crop), plain.crop_and_pad(shown, top, left, CROP, 255)


@pytest.mark.parametrize('scale', SCALES)
def test_a_fast_sample_is_one_of_the_crops_of_the_plain_code(pair, scale):
    dataset = TrainSet([Item('image', *pair)], None, NUM_CLASSES, CROP, (scale,), POSITIONS, 1)
    crops = list(outcomes(pair, scale))
    mirrored = set()
    for position in range(POSITIONS):
        sample = dataset[position]
        image = Normalize(MEAN, STD)(sample['x'].permute(2, 0, 1)[None], sample['x_inside'][None])[0].numpy()
        equal = [(flip, want) for flip, want, label in crops if np.array_equal(sample['y'].numpy(), label)]
        close = [(flip, want) for flip, want in equal if np.abs(levels(image) - levels(want)).max() <= 1.001]
        assert len(close) == 1, f'{len(equal)} crops have its label'
        ((flip, want),) = close
        assert np.array_equal(image == 0, want == 0)  # padding is 0 after normalisation
        mirrored.add(flip)
    assert mirrored == {False, True}


def test_a_plain_sample_is_one_of_its_own_crops(pair):
    """That the parts are put together in the order of the method; every second image is unlabelled."""
    dataset = plain.PlainSet([pair, (pair[0], None)], CROP, (2.0,), MEAN, STD, 4, edges=True)
    crops = list(outcomes(pair, 2.0))  # at 2.0 mirroring and nearest-neighbour sampling commute
    for index in range(4):
        sample = dataset[index]
        image = sample['image'].numpy()
        labels = [label for _, want, label in crops if np.array_equal(image, want)]
        assert sample['image'].dtype == torch.float32
        assert len(labels) == 1
        assert ('label' in sample) == (index % 2 == 0)
        if index % 2 == 0:
            assert np.array_equal(sample['label'].numpy(), labels[0])


def test_plain_padding_is_0_after_normalisation_and_void(pair):
    sample = plain.PlainSet([pair], CROP, (0.5,), MEAN, STD, 1)[0]
    padding = (sample['image'] == 0).all(dim=0)
    assert padding.sum() == CROP[0] * CROP[1] - IMAGE[0] // 2 * IMAGE[1] // 2
    assert (sample['label'][padding] == 255).all()


def test_normalisation_by_hand(tmp_path):
    path = save(tmp_path / 'pixel.png', np.full((1, 1, 3), (255, 0, 51), np.uint8))
    image, _ = plain.read(str(path), None)
    want = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    assert plain.normalize(image, np.array(MEAN), np.array(STD))[0, 0] == pytest.approx(want, rel=1e-12)


def test_the_list_of_an_epoch_shows_every_image_equally_often(pair):
    items = [(str(i), None) for i in range(3)]
    epoch = plain.PlainSet(items, CROP, SCALES, MEAN, STD, 8).epoch_items()
    assert epoch[:6] == items * 2
    assert len(set(epoch[6:])) == 2 and set(epoch[6:]) <= set(items)


def test_edges_change_nothing(pair, monkeypatch):
    monkeypatch.setattr(plain.random, 'random', lambda: 0.9)
    monkeypatch.setattr(plain.random, 'randint', lambda least, most: most)
    samples = [plain.PlainSet([pair], CROP, (1,), MEAN, STD, 1, edges)[0] for edges in (True, False)]
    assert all(torch.equal(samples[0][name], samples[1][name]) for name in ('image', 'label'))
    with Image.open(pair[1]) as label:
        assert np.array_equal(samples[0]['label'], np.array(label)[-CROP[0] :, -CROP[1] :])
