"""The drawn street scenes: the same from the same seed, labels that fit, and a data set that this project can read."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from full import full_disk

from furnace.datasets import scenes
from furnace.datasets.classes import read_classes
from furnace.datasets.images import read_pair
from furnace.datasets.scene_parts import Street
from furnace.utils.errors import UserError

SMALL = {'seed': 3, 'num_train': 16, 'num_val': 2, 'height': 48, 'width': 96}


@pytest.fixture(scope='module')
def drawn():
    return [scenes.draw_scene(np.random.default_rng([5, i]), 96, 192) for i in range(20)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'demo'
    assert scenes.write(root, **SMALL)
    return root


def test_same_generator_same_scene(drawn):
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        for i in range(3):
            image, label = scenes.draw_scene(np.random.default_rng([5, i]), 96, 192)
            np.testing.assert_array_equal(image, drawn[i][0])
            np.testing.assert_array_equal(label, drawn[i][1])
    finally:
        cv2.setNumThreads(threads)


def test_scenes_differ(drawn):
    for i, (image, label) in enumerate(drawn):
        for other_image, other_label in drawn[:i]:
            assert (image != other_image).mean() > 0.5
            assert (label != other_label).mean() > 0.05


def test_arrays_and_ids(drawn):
    for image, label in drawn:
        assert (image.shape, image.dtype) == ((96, 192, 3), np.uint8)
        assert (label.shape, label.dtype) == ((96, 192), np.uint8)
        assert set(np.unique(label)) <= {*range(8), 255}


def test_every_class_in_most_scenes(drawn):
    pixels = np.stack([np.bincount(label.ravel(), minlength=256) for _, label in drawn])
    assert ((pixels[:, :8] > 0).mean(axis=0) > 0.8).all()
    assert (pixels.sum(axis=0)[:8] / pixels.sum() > 0.01).all()


def test_edges_of_image_and_label_coincide(drawn):
    """Colours change more across a border between classes there than a few pixels beside it."""

    def contrast(image, border):
        return np.abs(np.diff(image.astype(float), axis=1)).sum(axis=2)[border].mean()

    at, beside = [], []
    for image, label in drawn:
        border = np.diff(label.astype(int), axis=1) != 0
        at.append(contrast(image, border))
        beside += [contrast(image, np.roll(border, shift, axis=1)) for shift in (-3, 3)]
    assert np.mean(at) > 1.3 * np.mean(beside)


@pytest.mark.parametrize('size', [(32, 32), (64, 200), (97, 131)])
def test_other_sizes(size):
    for i in range(5):
        image, label = scenes.draw_scene(np.random.default_rng(i), *size)
        assert image.shape[:2] == label.shape == size


def test_files_hold_the_drawn_scenes_with_channels_in_order(data):
    for split, number, count in (('train', 0, 16), ('val', 1, 2)):
        lines = (data / 'config_new' / f'{split}.txt').read_text().splitlines()
        assert len(lines) == count
        for i, line in enumerate(lines):
            assert line == f'/images/{split}/scene_{i:06d}.png\t/segmentation/{split}/scene_{i:06d}_gtFine.png'
            image, label = read_pair(*(str(data) + path for path in line.split('\t')), 8)
            expected = scenes.draw_scene(np.random.default_rng([3, number, i]), 48, 96)
            np.testing.assert_array_equal(image, expected[0])
            np.testing.assert_array_equal(label, expected[1])


def test_subset_lists(data):
    train = (data / 'config_new/train.txt').read_text().splitlines()
    for ratio, count in ((16, 1), (8, 2), (4, 4), (2, 8)):
        labeled, unlabeled = (
            (data / f'config_new/subset_train/train_aug_{kind}_1-{ratio}.txt').read_text().splitlines()
            for kind in ('labeled', 'unlabeled')
        )
        assert len(labeled) == count
        assert sorted(labeled + unlabeled) == train


def test_classes_file(data):
    classes = read_classes(data / 'classes.json')
    assert (classes.names, classes.colors) == (scenes.NAMES, scenes.COLORS)


def test_finished_set_is_left_alone(data):
    before = {path: path.stat().st_mtime_ns for path in data.rglob('*')}
    assert not scenes.write(data, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in data.rglob('*')}


def test_other_settings_are_refused(data):
    with pytest.raises(UserError, match='other settings'):
        scenes.write(data, **{**SMALL, 'seed': 4})


def test_lost_parts_are_named(tmp_path):
    tiny = {**SMALL, 'num_train': 1, 'num_val': 1}
    scenes.write(tmp_path / 'demo', **tiny)
    (tmp_path / 'demo/classes.json').unlink()
    with pytest.raises(UserError, match=r'lost its classes\.json'):
        scenes.write(tmp_path / 'demo', **tiny)


def test_a_larger_set_begins_with_the_smaller(data, tmp_path):
    scenes.write(tmp_path / 'demo', **{**SMALL, 'num_train': 20})
    for path in (data / 'images').rglob('*.png'):
        assert path.read_bytes() == (tmp_path / 'demo' / path.relative_to(data)).read_bytes()


def test_foreign_content_is_refused_and_kept(tmp_path):
    (tmp_path / 'mine.txt').write_text('x')
    with pytest.raises(UserError, match=r'mine\.txt'):
        scenes.write(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_note_is_kept(tmp_path):
    root = tmp_path / 'demo'
    root.mkdir()
    (root / 'README.md').write_text('note')
    assert scenes.write(root, **{**SMALL, 'num_train': 1, 'num_val': 1})
    assert (root / 'README.md').read_text() == 'note'
    assert (root / 'images/train/scene_000000.png').is_file()
    assert [path.name for path in tmp_path.iterdir()] == ['demo']


def test_interruption_leaves_nothing(tmp_path, monkeypatch):
    root = tmp_path / 'demo'
    root.mkdir()
    (root / 'README.md').write_text('note')

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, 'write_lists', interrupt)
    assert scenes.main([str(root), '--train', '1', '--val', '1', '--size', '32x64']) == 130
    assert [path.name for path in tmp_path.rglob('*')] == ['demo', 'README.md']


def test_a_full_disk(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Path, 'write_bytes', full_disk)
    root = tmp_path / 'demo'
    assert scenes.main([str(root), '--train', '1', '--val', '1', '--size', '32x64']) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'error: {root}: No space left on device; make room')
    assert not any(tmp_path.iterdir())


def test_command_line(tmp_path, capsys):
    arguments = [str(tmp_path / 'demo'), '--train', '2', '--val', '1', '--seed', '9', '--size', '32x64']
    assert scenes.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(str(tmp_path / 'demo'))
    assert scenes.main(arguments) == 0
    assert 'nothing to do' in capsys.readouterr().out


@pytest.mark.parametrize('option', [('--size', '32'), ('--size', '8x8'), ('--train', '0'), ('--seed', '-1')])
def test_wrong_options(tmp_path, capsys, option):
    assert scenes.main([str(tmp_path / 'demo'), *option]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert error.count('\n') == 1
    assert not any(tmp_path.iterdir())


def test_cars_stand_in_the_narrowest_street(monkeypatch):
    narrow = Street(left=-2.2, right=2.2, pavements=(2, 2), crossing=None)
    monkeypatch.setattr(scenes, 'plan_street', lambda rng: narrow)
    for seed in range(5):
        _, label = scenes.draw_scene(np.random.default_rng(seed), 48, 96)
        assert (label == scenes.NAMES.index('car')).any()
