import json
import os
import shutil

import numpy as np
import pytest
from full import full_disk
from PIL import Image
from raw import contents, lines_of, make_image, make_label, pack, snapshot, stop_renaming
from samples import SHARED, needs_shared

from furnace.datasets.images import read_label
from furnace.datasets.prepare import pairs
from furnace.datasets.splits import RATIOS

SUBSET = 'config_new/subset_train/train_aug_{}_1-{}.txt'
CPS = SHARED / 'splits/city/config_new'


def test_layout(city, raw_city, tmp_path):
    before = snapshot(raw_city)
    status, out, _ = city()
    dst = tmp_path / 'dst'
    assert status == 0
    assert snapshot(raw_city) == before
    assert sorted(path.name for path in dst.iterdir()) == ['config_new', 'images', 'prepared.json', 'segmentation']
    for split, n in ('train', 4), ('val', 2), ('test', 1):
        lines = lines_of(dst / f'config_new/{split}.txt')
        assert len(lines) == n
        assert all((dst / name.lstrip('/')).is_file() for line in lines for name in line.split('\t'))
        assert f'{split}: {n} images; note: the full set has ' in out
    name = 'lindau_000000_000019'
    assert f'/images/val/{name}.png\t/segmentation/val/{name}_gtFine.png' in lines_of(dst / 'config_new/val.txt')
    assert lines_of(dst / 'config_new/test.txt') == ['/images/test/bonn_000000_000019.png']
    original = raw_city / f'leftImg8bit/val/lindau/{name}_leftImg8bit.png'
    assert (dst / f'images/val/{name}.png').read_bytes() == original.read_bytes()
    train = set(lines_of(dst / 'config_new/train.txt'))
    labeled = [set(lines_of(dst / SUBSET.format('labeled', r))) for r in RATIOS]
    for r, chosen in zip(RATIOS, labeled, strict=True):
        assert set(lines_of(dst / SUBSET.format('unlabeled', r))) == train - chosen
    assert labeled[0] <= labeled[1] <= labeled[2] < labeled[3]
    assert 'not the published ones' in out
    assert out.endswith(f'then: python -m furnace.datasets.prepare check {dst} reads every file\n')
    assert json.loads((dst / 'prepared.json').read_text())['counts']['images']['train'] == 4


def test_label_ids_become_train_ids(city, raw_city, tmp_path):
    ids = [0, 4, 7, 8, 9, 11, 12, 13, 14, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 255]
    train_ids = [255, 255, 0, 1, 255, 2, 3, 4, 255, 5, 255, *range(6, 16), 255, 255, 16, 17, 18, 255]
    make_label(raw_city / 'gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png', ids)
    assert city()[0] == 0
    path = tmp_path / 'dst/segmentation/val/lindau_000000_000019_gtFine.png'
    np.testing.assert_array_equal(read_label(path, 19), np.resize(train_ids, (6, 8)))
    with Image.open(path) as image:
        assert image.mode == 'L'


@pytest.mark.parametrize('kind', ['folders', 'archives', 'archives in a folder'])
def test_any_source_gives_the_same(city, raw_city, tmp_path, kind):
    city()
    folders = raw_city / 'leftImg8bit', raw_city / 'gtFine'
    archives = [pack(folder, tmp_path / f'in/{folder.name}_trainvaltest.zip') for folder in folders]
    src = {'folders': folders, 'archives': archives, 'archives in a folder': (tmp_path / 'in',)}[kind]
    assert city(src=src, dst='other')[0] == 0
    assert contents(tmp_path / 'other') == contents(tmp_path / 'dst')


def test_second_call_does_nothing(city, tmp_path):
    city()
    before = snapshot(tmp_path)
    status, out, _ = city()
    assert (status, snapshot(tmp_path)) == (0, before)
    assert 'nothing to do' in out
    assert '--force' in city('--seed', 1)[2]
    assert city('--seed', 2, '--force')[0] == 0


def test_train_extra_is_unlabeled(city, raw_city, tmp_path):
    make_image(tmp_path / 'leftImg8bit/train_extra/jena/jena_000000_000001_leftImg8bit.png')
    extra = pack(tmp_path / 'leftImg8bit', tmp_path / 'leftImg8bit_trainextra.zip')
    status, out, _ = city(src=(raw_city, extra))
    assert status == 0
    assert 'train_extra: 1 images' in out
    line = '/images/train_extra/jena_000000_000001.png'
    assert (tmp_path / f'dst{line}').is_file()
    assert line not in lines_of(tmp_path / 'dst/config_new/train.txt')
    for r in RATIOS:
        assert lines_of(tmp_path / 'dst' / SUBSET.format('unlabeled', r))[-1] == line
        assert line not in lines_of(tmp_path / 'dst' / SUBSET.format('labeled', r))


@pytest.mark.parametrize('after', [0, 3, 8, 12])
@pytest.mark.parametrize('moment', ['before', 'half'])
def test_an_interrupted_call_is_completed_by_the_next(city, tmp_path, monkeypatch, after, moment):
    write, calls = pairs.write_whole, []

    def stop_once(path, data):
        calls.append(path)
        if len(calls) <= after:
            return write(path, data)
        if moment == 'half':  # as a process that was killed leaves it
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f'.tmp-1-{path.name}').write_bytes(data[:20])
        raise KeyboardInterrupt

    city(dst='whole')
    with monkeypatch.context() as patch:
        patch.setattr(pairs, 'write_whole', stop_once)
        status, _, error = city()
    assert status == 130
    assert 'the same command' in error
    assert [path.name for path in (tmp_path / 'dst').iterdir()] == ['.partial']
    found = snapshot(tmp_path / 'dst')
    done = {name: made for name, made in found.items() if name.endswith('.png') and '/.tmp-' not in name}
    assert city()[0] == 0
    kept = {name.removeprefix('.partial/new/'): made for name, made in done.items()}
    assert len(kept) == after
    assert kept.items() <= snapshot(tmp_path / 'dst').items()  # their times, too
    assert contents(tmp_path / 'dst') == contents(tmp_path / 'whole')


@pytest.mark.parametrize('after', [0, 3, 4, 5, 7, 8, 9])
def test_interrupted_while_moving_in(city, tmp_path, monkeypatch, after):
    city('--seed', 1)
    found = contents(tmp_path / 'dst')
    with monkeypatch.context() as patch:
        calls = stop_renaming(patch, after)
        status = city('--force')[0]
    if status == 130:
        assert {k: v for k, v in contents(tmp_path / 'dst').items() if not k.startswith('.partial')} == found
    else:
        assert (status, len(calls)) == (0, 9)
    assert city('--force')[0] == 0
    city(dst='whole')
    assert contents(tmp_path / 'dst') == contents(tmp_path / 'whole')


def test_what_an_interrupted_clearing_up_left_goes(city, tmp_path):
    city()
    make_image(tmp_path / 'dst/.partial/old/images/x.png')
    assert 'nothing to do' in city()[1]
    assert not (tmp_path / 'dst/.partial').exists()


def test_a_full_disk_keeps_what_is_done(city, tmp_path, monkeypatch):
    write, calls = pairs.write_whole, []

    def fill_up(path, data):
        calls.append(path)
        if len(calls) > 2:
            full_disk()
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(pairs, 'write_whole', fill_up)
        status, _, error = city()
    assert status == 1
    for word in 'No space left on device; make room', 'dst/.partial', '(what is done is kept in ':
        assert word in error
    assert city()[0] == 0


def test_another_layout_is_not_replaced(city, command, tmp_path):
    for split in 'train', 'val':
        make_image(tmp_path / f'other/images/{split}/x_{split}.png')
        make_label(tmp_path / f'other/labels/{split}/x_{split}.png')
    command('folder', tmp_path / 'other', tmp_path / 'dst')
    before = snapshot(tmp_path / 'dst')
    status, _, error = city('--force')
    assert status == 2
    assert 'another layout' in error
    assert snapshot(tmp_path / 'dst') == before


def test_other_parameters_start_anew(city, raw_city, tmp_path):
    label = raw_city / 'gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png'
    good = label.read_bytes()
    label.write_bytes(good[:40])
    status, out, error = city()
    assert (status, out) == (2, '')
    for word in str(label), 'can be decoded', '(what is done is kept in ':
        assert word in error
    label.write_bytes(good)
    (tmp_path / 'dst/.partial/new/images/train/aachen_000000_000019.png').write_bytes(b'of other parameters')
    assert city('--seed', 1)[0] == 0
    assert b'of other parameters' not in contents(tmp_path / 'dst').values()
    assert not (tmp_path / 'dst/.partial').exists()


def test_files_that_the_source_has_no_more_go(city, raw_city, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    gone = raw_city / 'leftImg8bit/train/ulm/ulm_000001_000019_leftImg8bit.png'
    with monkeypatch.context() as patch:
        patch.setattr('furnace.datasets.prepare.city.write_list', stop)
        city()
    assert (tmp_path / 'dst/.partial/new/images/train/ulm_000001_000019.png').is_file()
    gone.unlink()
    assert city()[0] == 0
    assert not list((tmp_path / 'dst').rglob('ulm_000001*'))
    city(dst='whole')
    assert contents(tmp_path / 'dst') == contents(tmp_path / 'whole')


@pytest.mark.parametrize('keep', [4, 1])
def test_a_part_passes_the_check(city, command, raw_city, tmp_path, keep):
    """No list without an image is written."""
    for split in 'test', 'val':
        shutil.rmtree(raw_city / f'leftImg8bit/{split}')
    for number, path in enumerate(sorted(raw_city.rglob('train/*/*_leftImg8bit.png'))):
        Image.new('RGB', (8, 6), (number, 0, 0)).save(path)
        if number >= keep:
            path.unlink()
    assert city()[0] == 0
    status, out, _ = command('check', tmp_path / 'dst', '--workers', 0)
    assert (status, 'no findings' in out) == (0, True)


def test_link(city, raw_city, tmp_path):
    assert city('--link')[0] == 0
    image = tmp_path / 'dst/images/test/bonn_000000_000019.png'
    assert os.readlink(image) == str(raw_city / 'leftImg8bit/test/bonn/bonn_000000_000019_leftImg8bit.png')
    pack(raw_city / 'leftImg8bit', raw_city / 'leftImg8bit_trainvaltest.zip')
    assert city('--link', dst='both')[0] == 0  # the folder counts before the archive
    archive = pack(raw_city / 'leftImg8bit', tmp_path / 'leftImg8bit.zip')
    status, _, error = city('--link', src=(archive, raw_city / 'gtFine'), dst='other')
    assert status == 2
    assert str(archive) in error
    assert not (tmp_path / 'other').exists()


def _without_labels(raw_city):
    (raw_city / 'gtFine').rename(raw_city / 'gtCoarse')


def _without_a_label(raw_city):
    next((raw_city / 'gtFine/val').rglob('*_labelIds.png')).unlink()


def _without_train(raw_city):
    (raw_city / 'leftImg8bit/train').rename(raw_city / 'leftImg8bit/other')


@pytest.mark.parametrize(
    'spoil, words',
    [
        (_without_labels, ('no gtFine/', '--help')),
        (_without_a_label, ('1 of 2 images of val have no gtFine label', 'lindau_00000')),
        (_without_train, ('no images for train',)),
    ],
)
def test_incomplete_downloads(city, raw_city, tmp_path, spoil, words):
    spoil(raw_city)
    status, out, error = city()
    assert (status, out) == (2, '')
    assert all(word in error for word in words)
    assert not (tmp_path / 'dst').exists()


@pytest.mark.parametrize('ids, size, words', [((0, 34), (8, 6), 'ids 34'), ((7,), (6, 8), 'is 6x8 pixels')])
def test_bad_label(city, raw_city, tmp_path, ids, size, words):
    label = raw_city / 'gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png'
    make_label(label, ids, size)
    status, _, error = city()
    assert status == 2
    assert str(label) in error
    assert words in error
    assert [path.name for path in (tmp_path / 'dst').iterdir()] == ['.partial']


def test_bad_seed(city):
    assert 'seed' in city('--seed', -1)[2]


def test_inside_the_source(city, raw_city):
    assert 'is inside' in city(dst='raw/out')[2]


@needs_shared
def test_real_pairs(command, tmp_path):
    raw_city = SHARED / 'cityscapes_raw'
    status, out, _ = command('city', raw_city, tmp_path / 'dst', '--link')
    assert status == 0
    assert 'train: 6 images; note: the full set has 2975' in out
    expected = sorted((raw_city / 'expected_trainids').iterdir())
    assert len(expected) == 6
    for path in expected:
        made = tmp_path / 'dst/segmentation/train' / path.name.replace('_labelTrainIds', '')
        np.testing.assert_array_equal(read_label(made, 19), read_label(path, 19))
    assert '2969 of 2975 images are not' in command('city', raw_city, tmp_path / 'other', '--lists', CPS)[2]
