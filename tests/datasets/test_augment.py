import cv2
import numpy as np
import pytest
import torch
from samples import STEP, blocks, draw, drawn, inner

from furnace.datasets.augment import pad_center, resize, resized_shape, resized_window, train_crop
from furnace.datasets.normalize import Normalize

SCALES = (0.5, 0.75, 1, 1.5, 1.75, 2.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def rng(*key):
    return np.random.default_rng(key)


@pytest.mark.parametrize('scale', [*SCALES, 0.06, 0.3, 0.7123, 0.9, 1.1, 1.25, 2.5, 7.0, 16.0])
def test_a_window_is_that_of_the_resized_image(scale):
    random = rng(3)
    for _ in range(60):
        image = random.integers(0, 256, (*random.integers(1, 200, 2), 3), np.uint8)
        label = random.integers(0, 19, image.shape[:2], np.uint8)
        window = []
        for side in resized_shape(image.shape, scale):
            start = int(random.integers(side))
            window.append(slice(start, start + int(random.integers(1, 120))))
        window = tuple(window)
        whole = resize(image, scale)[window]
        part = resized_window(image, scale, window)
        assert part.shape == whole.shape
        assert np.abs(part.astype(int) - whole).max() <= 1
        nearest = resize(label, scale, cv2.INTER_NEAREST)[window]
        np.testing.assert_array_equal(resized_window(label, scale, window, cv2.INTER_NEAREST), nearest)


def test_a_window_reads_only_what_it_needs():
    """An image that could not be enlarged as a whole: 4 GB."""
    image = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (20000, 20000, 1), (0, 0, 0))
    assert resized_window(image, 1.75, (slice(30000, 30064), slice(5, 69))).shape == (64, 64)


@pytest.mark.parametrize('size', [(1, 1), (8, 8), (13, 30), (64, 20), (90, 90)])
@pytest.mark.parametrize('of', [(8, 8), (30, 41), (64, 64), (2, 70)])
@pytest.mark.parametrize('scale', SCALES)
def test_crop_has_the_wanted_size(size, of, scale):
    label = blocks(of)
    image = draw(label, 0)
    for seed in range(4):
        crop = train_crop(image, label, size, [scale], rng(seed))
        assert (crop.image.shape, crop.image.dtype) == ((*size, 3), np.uint8)
        assert (crop.label.shape, crop.label.dtype) == (size, np.uint8)
        top, left, bottom, right = crop.inside
        assert bottom - top == min(size[0], resize(image, scale).shape[0])
        assert right - left == min(size[1], resize(image, scale).shape[1])


@pytest.mark.parametrize('size', [(16, 16), (50, 33), (33, 50), (80, 80)])
def test_label_follows_the_image_exactly(size):
    label = blocks((45, 40))
    image = draw(label, 0)
    for seed in range(20):
        crop = train_crop(image, label, size, [1], rng(seed))
        np.testing.assert_array_equal(drawn(crop.image[..., 1]), crop.label)


@pytest.mark.parametrize('size', [(40, 40), (90, 50), (50, 90), (150, 150)])
@pytest.mark.parametrize('scale', SCALES)
def test_label_follows_the_scaled_image(size, scale):
    """Within a block, of which no edge is mixed by interpolation, image and label agree."""
    label = blocks((60, 66), side=12)
    image = draw(label, 0)
    for seed in range(10):
        crop = train_crop(image, label, size, [scale], rng(seed))
        top, left, bottom, right = crop.inside
        box = slice(top, bottom), slice(left, right)
        clear = inner(crop.label[box])
        assert clear.mean() > 0.3
        np.testing.assert_array_equal(drawn(crop.image[box][..., 1])[clear], crop.label[box][clear])
        assert set(np.unique(crop.label)) <= {0, 1, 2, 3, 4, 255}  # ids are picked, not mixed


def test_padding(size=(60, 70)):
    white, label = np.full((20, 24, 3), 255, np.uint8), np.zeros((20, 24), np.uint8)
    for scale in SCALES:
        crop = train_crop(white, label, size, [scale], rng(1))
        top, left, bottom, right = crop.inside
        inside = np.zeros(size, bool)
        inside[top:bottom, left:right] = True
        assert (bottom - top, right - left) == (20 * scale, 24 * scale)
        assert size[0] - bottom - top in (0, 1) and size[1] - right - left in (0, 1)  # even; an odd pixel comes after
        assert (crop.image[inside] == 255).all() and (crop.image[~inside] == 0).all()
        assert (crop.label[inside] == 0).all() and (crop.label[~inside] == 255).all()


def test_nothing_is_padded_where_the_image_is_large_enough():
    crop = train_crop(np.zeros((20, 24, 3), np.uint8), None, (20, 24), [1, 1.5], rng(0))
    assert crop.inside == (0, 0, 20, 24)
    assert crop.label is None


def test_without_a_label_the_crop_is_the_same():
    label = blocks((30, 31))
    image = draw(label, 0)
    for seed in range(10):
        with_label = train_crop(image, label, (20, 40), SCALES, rng(seed))
        without = train_crop(image, None, (20, 40), SCALES, rng(seed))
        np.testing.assert_array_equal(without.image, with_label.image)
        assert without.inside == with_label.inside


def test_the_generator_decides_alone():
    label = blocks((40, 40))
    image, kept = draw(label, 0), draw(label, 0)
    first = train_crop(image, label, (20, 20), SCALES, rng(7))
    np.random.seed(5)
    again = train_crop(image, label, (20, 20), SCALES, rng(7))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    np.testing.assert_array_equal(image, kept)
    others = [train_crop(image, label, (20, 20), SCALES, rng(seed)).image for seed in range(5)]
    assert len({crop.tobytes() for crop in others}) == 5


@pytest.fixture(scope='module')
def crops():
    """(flipped, scale, top, left) of many crops from an image that holds its own coordinates, at scale 1 or padded."""
    y, x = np.mgrid[:7, :9].astype(np.uint8)
    image = np.stack([y + 1, x + 1, y * 0], axis=2)
    generator, found = rng(11), []
    for _ in range(4000):
        crop = train_crop(image, None, (4, 5), [1], generator).image
        found.append((bool(crop[0, 0, 1] > crop[0, 1, 1]), int(crop[0, 0, 0]) - 1, int(crop[0, :, 1].min()) - 1))
    return found


def _even(counts, outcomes, draws):
    """All outcomes drawn, each within five standard deviations of an even share."""
    assert len(counts) == outcomes
    share = draws / outcomes
    assert max(abs(n - share) for n in counts) < 5 * np.sqrt(share)


def test_every_second_image_is_flipped(crops):
    _even(np.unique([flip for flip, _, _ in crops], return_counts=True)[1], 2, len(crops))


def test_positions_cover_the_image_evenly(crops):
    places, counts = np.unique([place for _, *place in crops], axis=0, return_counts=True)
    assert (places.min(0).tolist(), places.max(0).tolist()) == ([0, 0], [3, 4])
    _even(counts, 4 * 5, len(crops))


def test_flip_does_not_depend_on_the_position(crops):
    _even(np.unique(crops, axis=0, return_counts=True)[1], 2 * 4 * 5, len(crops))


def test_all_scales_are_drawn_evenly():
    generator, image = rng(12), np.zeros((8, 8, 3), np.uint8)
    sizes = [train_crop(image, None, (16, 16), SCALES, generator).inside for _ in range(1800)]
    heights, counts = np.unique([bottom - top for top, _, bottom, _ in sizes], return_counts=True)
    assert heights.tolist() == [8 * scale for scale in SCALES]
    _even(counts, len(SCALES), len(sizes))


def test_positions_cover_a_scaled_image():
    """The crop is taken from the scaled image: at scale 2, twice as many columns."""
    image = np.repeat(np.arange(10, 90, 10, dtype=np.uint8)[None, :, None], 8, 0).repeat(3, 2)
    wide = {train_crop(image, None, (16, 2), [2], rng(seed)).image[0, :, 0].tobytes() for seed in range(500)}
    scaled = cv2.resize(image, None, fx=2, fy=2)[0, :, 0]
    pairs = {bytes(scaled[i : i + 2]) for i in range(15)}
    assert wide == pairs | {pair[::-1] for pair in pairs}


def test_pad_center():
    image, before = pad_center(np.ones((3, 4), np.uint8), (6, 4), 9)
    assert before == (1, 0)
    np.testing.assert_array_equal(image, np.array([9, 1, 1, 1, 9, 9], np.uint8)[:, None].repeat(4, 1))
    image, before = pad_center(np.ones((3, 4, 3), np.uint8), (2, 5), 9)
    assert before == (0, 0)
    assert image.shape == (3, 5, 3)
    assert (image[:, 4] == 9).all() and (image[:, :4] == 1).all()
    same = np.ones((3, 4, 3), np.float32)
    assert pad_center(same, (3, 4))[0] is same


def test_resize():
    image = draw(blocks((10, 12)), 0)
    assert resize(image, 1) is image
    assert resize(image, 1.5).shape == (15, 18, 3)
    nearest = resize(blocks((10, 12)) // STEP, 2, cv2.INTER_NEAREST)
    np.testing.assert_array_equal(nearest[::2, ::2], blocks((10, 12)) // STEP)


def test_normalize_is_the_formula():
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
    out = Normalize(MEAN, STD)(pixels)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), (pixels.double() / 255 - mean) / std, atol=1e-6, rtol=0)


def test_normalize_leaves_zeros_outside():
    pixels = torch.full((2, 3, 5, 6), 200, dtype=torch.uint8)
    normalize = Normalize(MEAN, STD)
    out = normalize(pixels, torch.tensor([[1, 0, 4, 6], [0, 2, 5, 3]]))
    outside = torch.ones(2, 5, 6, dtype=torch.bool)
    outside[0, 1:4, 0:6] = False
    outside[1, 0:5, 2:3] = False
    assert (out.movedim(1, -1)[outside] == 0).all()
    whole = normalize(pixels).movedim(1, -1)
    assert torch.equal(out.movedim(1, -1)[~outside], whole[~outside])
    assert (whole != 0).all()
    assert (pixels == 200).all()


def test_padding_of_a_crop_is_zero_after_normalisation():
    crop = train_crop(np.full((6, 7, 3), 90, np.uint8), None, (9, 12), [1], rng(0))
    pixels = torch.from_numpy(np.ascontiguousarray(crop.image.transpose(2, 0, 1)))[None]
    out = Normalize(MEAN, STD)(pixels, torch.tensor([crop.inside]))[0]
    assert ((out == 0).all(0).numpy() == (crop.image == 0).all(2)).all()
    assert (out == 0).all(0).sum() == 9 * 12 - 6 * 7


def test_normalize_has_no_state():
    assert not Normalize(MEAN, STD).state_dict()  # a checkpoint's keys are those of the published networks
