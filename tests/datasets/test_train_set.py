import os
import random

import numpy as np
import pytest
import torch
from samples import NUM_CLASSES, blocks, drawn, make_items, save

from furnace.datasets import train_set
from furnace.datasets.sampling import LABELED
from furnace.datasets.train_set import Batch, TrainSet, batches
from furnace.utils.errors import UserError

SIZE = (16, 18)
B = 3


@pytest.fixture(scope='module')
def labeled(tmp_path_factory):
    return make_items(tmp_path_factory.mktemp('labeled'), 4)


@pytest.fixture(scope='module')
def unlabeled(tmp_path_factory):
    """Their label files do not exist."""
    return make_items(tmp_path_factory.mktemp('unlabeled'), 7, (25, 13), labels=False)


def make(labeled, unlabeled, scales=(1,), length=12, seed=5, **options):
    return TrainSet(labeled, unlabeled, NUM_CLASSES, SIZE, scales, length, seed, **options)


def run(data, start=0, workers=0, epoch=0):
    first = epoch * len(data) // B
    return list(batches(data, B, first + start, first + len(data) // B, workers))


def fields(batch):
    return {name: value for name, value in vars(batch).items() if value is not None}


def same(a: list[Batch], b: list[Batch]):
    return len(a) == len(b) and all(
        fields(x).keys() == fields(y).keys() and all(torch.equal(v, fields(y)[k]) for k, v in fields(x).items())
        for x, y in zip(a, b, strict=True)
    )


def numbers(images):
    """Which item each image of a batch is, from its red channel."""
    return [int(red[red > 0].unique()) - 1 for red in images[:, 0]]


@pytest.fixture
def opened(monkeypatch):
    """The paths of the images read, in order."""
    paths, read = [], train_set.read_image
    read_pair = train_set.read_pair
    monkeypatch.setattr(train_set, 'read_image', lambda path: paths.append(path) or read(path))
    monkeypatch.setattr(train_set, 'read_pair', lambda path, *rest: paths.append(path) or read_pair(path, *rest))
    return paths


def test_shapes_and_types(labeled, unlabeled):
    found = run(make(labeled, unlabeled))
    assert len(found) == 4
    for batch in found:
        for image, inside in (batch.x, batch.x_inside), (batch.u0, batch.u0_inside), (batch.u1, batch.u1_inside):
            assert (image.shape, image.dtype) == ((B, 3, *SIZE), torch.uint8)
            assert (inside.shape, inside.dtype) == ((B, 4), torch.int64)
        assert (batch.y.shape, batch.y.dtype) == ((B, *SIZE), torch.uint8)


def test_channels_are_rgb_and_labels_belong_to_their_images(labeled, unlabeled):
    for batch in run(make(labeled, unlabeled)):
        for image, label in zip(batch.x.numpy(), batch.y.numpy(), strict=True):
            assert len(set(image[0].ravel()) - {0}) == 1  # red: the number of the item
            np.testing.assert_array_equal(drawn(image[1]), label)


def test_inside_is_the_image(labeled, unlabeled):
    """The unlabelled images are 25x13, so the crops of 16x18 are padded left and right."""
    for batch in run(make(labeled, unlabeled)):
        for images, insides in (batch.x, batch.x_inside), (batch.u0, batch.u0_inside), (batch.u1, batch.u1_inside):
            for image, (top, left, bottom, right) in zip(images, insides, strict=True):
                mask = torch.zeros(SIZE, dtype=torch.bool)
                mask[top:bottom, left:right] = True
                assert torch.equal(image[0] > 0, mask)
        assert batch.u0_inside.tolist() == batch.u1_inside.tolist() == [[0, 2, 16, 15]] * B


@pytest.mark.filterwarnings('ignore:This DataLoader will create:UserWarning')  # more workers than cores
def test_workers_do_not_change_the_batches(labeled, unlabeled):
    data = make(labeled, unlabeled, (0.5, 1, 1.5, 2))
    alone = run(data, epoch=3)
    for workers in 1, 3:
        assert same(run(data, workers=workers, epoch=3), alone)


def test_workers_go_on_into_the_next_epoch(labeled, unlabeled):
    data = make(labeled, unlabeled)
    epochs = [batch for epoch in range(3) for batch in run(data, epoch=epoch)]
    for workers in 0, 1:
        assert same(list(batches(data, B, 2, 12, workers)), epochs[2:])


def test_seed_and_epoch_decide_alone(labeled, unlabeled):
    def batches_of(seed, epoch):
        return run(make(labeled, unlabeled, (1, 2), seed=seed), epoch=epoch)

    first = batches_of(5, 0)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert same(batches_of(5, 0), first)
    for other in batches_of(5, 1), batches_of(6, 0):
        for a, b in zip(first, other, strict=True):
            assert not torch.equal(a.x, b.x) and not torch.equal(a.u0, b.u0) and not torch.equal(a.u1, b.u1)


def test_each_sample_is_cropped_anew(labeled):
    """With one image in each list only the augmentation can differ: by seed, epoch, position and stream."""
    seen = set()
    for seed in range(2):
        data = make(labeled[:1], labeled[:1], (1, 1.5, 2), length=6, seed=seed)
        for epoch in range(3):
            for position in range(6):
                sample = data[epoch * 6 + position]
                seen |= {sample[name].numpy().tobytes() for name in ('x', 'u0', 'u1')}
    assert len(seen) > 0.8 * 2 * 3 * 6 * 3  # a few small crops coincide


def test_the_order_of_access_does_not_matter(labeled, unlabeled):
    data = make(labeled, unlabeled, (0.5, 2))
    forward = [data[i] for i in range(12)]
    backward = [data[i] for i in reversed(range(12))][::-1]
    assert all(torch.equal(a[key], b[key]) for a, b in zip(forward, backward, strict=True) for key in a)


@pytest.mark.parametrize('start', [0, 1, 3, 4])
def test_starting_later_gives_the_tail(labeled, unlabeled, start):
    data = make(labeled, unlabeled, (0.5, 1, 2))
    assert same(run(data, start, epoch=2), run(data, epoch=2)[start:])


def test_an_image_is_not_paired_with_itself(labeled, unlabeled):
    data = make(labeled, unlabeled[:2], length=24)
    for epoch in range(4):
        for batch in run(data, epoch=epoch):
            assert all(a != b for a, b in zip(numbers(batch.u0), numbers(batch.u1), strict=True))


def test_lists_are_gone_through_evenly(labeled, unlabeled):
    data = make(labeled, unlabeled, length=12)
    found = run(data)
    for name, n in ('x', 4), ('u0', 7), ('u1', 7):
        shown = [number for batch in found for number in numbers(getattr(batch, name))]
        assert np.ptp(np.bincount(shown, minlength=n)) <= 1


def test_item_tells_what_is_shown(labeled, unlabeled):
    data = make(labeled, unlabeled)
    for i, batch in enumerate(run(data, epoch=1)):
        positions = range(len(data) + i * B, len(data) + (i + 1) * B)
        shown = {'x': numbers(batch.x), 'u0': numbers(batch.u0), 'u1': numbers(batch.u1)}
        assert {name: list(map(int, names)) for name, names in data.names(positions).items()} == shown
        assert [int(data.item(LABELED, position).name) for position in positions] == shown['x']


def test_unlabelled_images_need_no_labels(labeled, unlabeled):
    assert not any(os.path.exists(item.label) for item in unlabeled)
    bare = [item._replace(label=None) for item in unlabeled]
    assert same(run(make(labeled, bare)), run(make(labeled, unlabeled)))


def test_supervised_training_opens_no_unlabelled_image(labeled, opened):
    found = run(make(labeled, None))
    assert sorted(opened) == sorted(item.image for item in labeled for _ in range(3))
    assert all(fields(batch).keys() == {'x', 'x_inside', 'y'} for batch in found)


def test_without_cutmix_there_is_no_second_unlabelled_image(labeled, unlabeled, opened):
    found = run(make(labeled, unlabeled, second=False))
    assert len(opened) == 2 * 12
    assert all(batch.u1 is None and batch.u1_inside is None for batch in found)
    full = run(make(labeled, unlabeled))
    assert all(torch.equal(a.u0, b.u0) for a, b in zip(found, full, strict=True))


def test_the_labelled_stream_does_not_depend_on_the_unlabelled(labeled, unlabeled):
    for a, b in zip(run(make(labeled, None)), run(make(labeled, unlabeled[:3])), strict=True):
        assert torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


@pytest.mark.parametrize('workers', [0, 1])
def test_an_unusable_file_is_told_in_one_line(tmp_path, unlabeled, workers):
    labeled = make_items(tmp_path, 4)
    save(tmp_path / 'labels/2.png', np.full((20, 24), NUM_CLASSES, np.uint8))
    with pytest.raises(UserError) as error:
        run(make(labeled, unlabeled), workers=workers)
    text = str(error.value)
    assert text.startswith(f'{labeled[2].label}: has class ids {NUM_CLASSES} outside')
    assert '\n' not in text and 'Traceback' not in text


@pytest.mark.parametrize('stream', ['labeled', 'unlabeled'])
def test_an_image_that_went_missing_is_told(tmp_path, stream):
    lists = {name: make_items(tmp_path / name, 4) for name in ('labeled', 'unlabeled')}
    gone = lists[stream][1].image
    os.remove(gone)
    with pytest.raises(UserError) as error:
        run(make(lists['labeled'], lists['unlabeled']))
    assert str(error.value) == f'{gone}: cannot be read: No such file or directory'


def test_sizes_that_differ_are_told(tmp_path, unlabeled):
    labeled = make_items(tmp_path, 2)
    save(tmp_path / 'labels/1.png', blocks((24, 20)))
    with pytest.raises(UserError, match='is 20x24 pixels, its image'):
        run(make(labeled, unlabeled))


def test_only_usable_batches_come_before_the_error(tmp_path, unlabeled):
    labeled = make_items(tmp_path, 12)
    data = make(labeled, unlabeled)
    os.remove(data.item(LABELED, 7).image)
    found = []
    with pytest.raises(UserError):
        for batch in batches(data, B, 0, 4, 0):
            found.append(batch)
    assert len(found) == 2
