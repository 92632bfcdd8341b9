import json
import os
import shutil

import numpy as np
import pytest
from prepared import city_line, make_city, make_voc, read, run, write_list
from samples import SHARED, needs_shared, save

from furnace.datasets import check, subsets
from furnace.utils.errors import RunError

both_layouts = pytest.mark.parametrize('make', [make_city, make_voc])


@pytest.fixture
def checked(tmp_path, capsys):
    """Runs ``check`` in this process: (exit status, lines with the root taken out)."""

    def checked(*options, workers=0):
        status, out = run(check, capsys, 'check', tmp_path, '--workers', workers, *options)
        return status, out.replace(f'{tmp_path}/', '').replace(str(tmp_path), 'root').splitlines()

    return checked


def _findings(lines):
    """Those before the table of classes and the last line."""
    return [line for line in lines[:-1] if ': ' in line]


def _only(result):
    """The one finding."""
    status, lines = result
    assert status == 1
    assert lines[-1].endswith(': 1 findings')
    (finding,) = _findings(lines)
    return finding


@both_layouts
def test_all_is_well(checked, tmp_path, capsys, make):
    make(tmp_path, 12)
    run(subsets, capsys, 'splits', tmp_path, '--ratios', 4)
    for path in list(tmp_path.rglob('*.txt')):
        path.with_name(f'._{path.name}').write_bytes(b'\0')  # as macOS leaves them
    (tmp_path / 'notes.txt').write_text('no list')
    status, lines = checked()
    assert status == 0
    assert lines[-1] == 'root: 4 lists, 15 images, 15 label maps: no findings'
    assert not _findings(lines)
    classes = {make_city: 19, make_voc: 21}[make]
    assert len(lines) == 2 + classes + 1 + 1


def test_class_shares(checked, tmp_path):
    make_city(tmp_path, 4)
    save(tmp_path / 'segmentation/train/a_000000_000000_gtFine.png', np.full((4, 6), 1, np.uint8))
    (tmp_path / 'classes.json').write_text(json.dumps({'names': ['x', 'the y', 'z'], 'colors': [[0, 0, 0]] * 3}))
    write_list(tmp_path / 'config_new/train_val.txt', [city_line('a_000000_000000')])  # counts once
    _, lines = checked()
    # train: three maps of 24 pixels with 6 of each id, one map of 24 pixels of id 1; val: three with 6 of each
    assert [line.split() for line in lines[:-1]] == [
        ['train', 'val'],
        ['pixels', 'images', 'pixels', 'images'],
        ['0', 'x', '18.75%', '3', '25.00%', '3'],
        ['1', 'the', 'y', '43.75%', '4', '25.00%', '3'],
        ['2', 'z', '18.75%', '3', '25.00%', '3'],
        ['255', 'void', '18.75%', '3', '25.00%', '3'],
    ]


def test_several_processes_say_the_same(checked, tmp_path):
    make_city(tmp_path, 20)
    (tmp_path / 'images/train/a_000000_000003.png').write_bytes(b'')
    (tmp_path / 'segmentation/train/b_000000_000015_gtFine.png').write_bytes(b'')
    one = checked()
    assert len(_findings(one[1])) == 2
    assert checked(workers=2) == one


def test_a_process_that_dies(tmp_path):
    with pytest.raises(RunError, match='a checking process died'):
        list(check._map(os._exit, [3], 1))


# A damage to the data set of make_city, and the line that must tell of it.
def _truncate(root):
    path = root / 'images/train/a_000000_000001.png'
    path.write_bytes(path.read_bytes()[:40])


def _label_ids(root):
    save(root / 'segmentation/val/c_000000_000001_gtFine.png', np.array([[7, 33, 255, 19]] * 4, np.uint8))


def _colours(root):
    save(root / 'segmentation/train/a_000000_000002_gtFine.png', np.zeros((4, 6, 3), np.uint8))


def _size(root):
    save(root / 'segmentation/train/a_000000_000002_gtFine.png', np.zeros((6, 4), np.uint8))


def _no_image(root):
    (root / 'images/val/c_000000_000002.png').unlink()


def _no_label(root):
    (root / 'segmentation/train/a_000000_000003_gtFine.png').unlink()


def _no_folder(root):
    shutil.rmtree(root / 'images/val')


def _twice(root):
    lines = read(root / 'config_new/train.txt')
    write_list(root / 'config_new/train.txt', [*lines, lines[4]])


def _in_both(root):
    write_list(root / 'config_new/subset_train/train_aug_labeled_1-8.txt', [city_line('a_000000_000001')])
    names = ['a_000000_000001', 'a_000000_000002']
    write_list(root / 'config_new/subset_train/train_aug_unlabeled_1-8.txt', map(city_line, names))


def _bare(root):
    write_list(root / 'config_new/subset_train/train_aug_labeled_1-8.txt', ['/images/train/a_000000_000001.png'])


def _bare_val(root):
    write_list(root / 'config_new/val_small.txt', ['/images/val/c_000000_000001.png'])


def _truncate_unlabeled(root):
    """In one list with a label, in another without."""
    _truncate(root)
    write_list(root / 'config_new/subset_train/train_aug_unlabeled_1-8.txt', ['/images/train/a_000000_000001.png'])


def _empty(root):
    write_list(root / 'config_new/test.txt', [])


def _columns(root):
    write_list(root / 'config_new/other.txt', ['a\tb\tc'])


def _copy(root):
    shutil.copy(root / 'images/train/b_000000_000004.png', root / 'images/val/c_000000_000000.png')


def _val_in_train(root):
    write_list(root / 'config_new/subset_train/train_aug_unlabeled_1-2.txt', [city_line('c_000000_000000', 'val')])


@pytest.mark.parametrize(
    'damage, file, words',
    [
        (_truncate, 'images/train/a_000000_000001.png', 'not an image that can be decoded (get the image again)'),
        (_label_ids, 'segmentation/val/c_000000_000001_gtFine.png', 'class ids 19, 33 outside'),
        (_colours, 'segmentation/train/a_000000_000002_gtFine.png', 'mode RGB (make the label map again)'),
        (_size, 'segmentation/train/a_000000_000002_gtFine.png', 'is 4x6 pixels, its image'),
        (_no_image, 'images/val/c_000000_000002.png', 'is missing; put it there, or'),
        (_no_label, 'segmentation/train/a_000000_000003_gtFine.png', 'is missing; put it there, or'),
        (_no_folder, 'images/val', 'no such folder, 3 files of the lists should be in it; put it there'),
        (_twice, 'config_new/train.txt', 'names 1 images more than once: images/train/b_000000_000004.png; keep one'),
        (
            _in_both,
            'config_new/subset_train/train_aug_labeled_1-8.txt',
            '1 images are in train_aug_unlabeled_1-8.txt too: images/train/a_000000_000001.png; keep each in one',
        ),
        (_bare, 'config_new/subset_train/train_aug_labeled_1-8.txt', '1 of 1 lines have no label file'),
        (_bare_val, 'config_new/val_small.txt', '1 of 1 lines have no label file'),
        (_truncate_unlabeled, 'images/train/a_000000_000001.png', 'not an image that can be decoded'),
        (_empty, 'config_new/test.txt', 'the list is empty; write it again or remove it'),
        (_columns, 'config_new/other.txt', 'line 1: expected'),
        (_copy, 'images/val/c_000000_000000.png', 'in val and, as images/train/b_000000_000004.png, in train; take'),
        (_val_in_train, 'images/val/c_000000_000000.png', 'in val and, as images/val/c_000000_000000.png, in train'),
    ],
)
def test_each_damage_is_one_line(checked, tmp_path, damage, file, words):
    make_city(tmp_path, 6)
    damage(tmp_path)
    finding = _only(checked())
    assert finding.startswith(f'{file}: ')
    assert words in finding


def test_voc_shares_an_image_of_val(checked, tmp_path):
    make_voc(tmp_path, 6)
    shutil.copy(tmp_path / 'val/image/2008_000001.jpg', tmp_path / 'train_aug/image/2007_000002.jpg')
    assert _only(checked()).startswith('val/image/2008_000001.jpg: is in val and, as train_aug/image/2007_000002.jpg')


@pytest.mark.parametrize('shared, status', [(1, 0), (2, 1)])
def test_few_supervision_as_published(checked, tmp_path, shared, status):
    names = make_voc(tmp_path, 6)
    write_list(tmp_path / 'subset_train_aug/pseudoseg_labeled_1-2.txt', names[:3])
    write_list(tmp_path / 'subset_train_aug/pseudoseg_unlabeled_1-2.txt', names[3 - shared :])
    assert checked()[0] == status


def test_two_damages_of_one_pair_are_two_lines(checked, tmp_path):
    make_city(tmp_path, 6)
    _truncate(tmp_path)
    save(tmp_path / 'segmentation/train/a_000000_000001_gtFine.png', np.full((4, 6), 30, np.uint8))
    (tmp_path / 'images/train/a_000000_000002.png').unlink()
    save(tmp_path / 'segmentation/train/a_000000_000002_gtFine.png', np.full((4, 6), 40, np.uint8))
    status, lines = checked()
    assert status == 1
    assert [line.split(':')[0].split('/')[-1] for line in _findings(lines)] == [
        'a_000000_000002.png',
        'a_000000_000001.png',
        'a_000000_000002_gtFine.png',
        'a_000000_000001_gtFine.png',
    ]


def test_unlabelled_and_test_images_need_no_label(checked, tmp_path):
    make_city(tmp_path, 6)
    for name in 'u_1', 'u_2', 't_1':
        save(tmp_path / f'images/train/{name}.png', np.full((4, 6, 3), ord(name[0]) + int(name[2]), np.uint8))
    subset = tmp_path / 'config_new/subset_train'
    write_list(subset / 'train_aug_unlabeled_1-2.txt', [city_line('u_1'), '/images/train/u_2.png'], '\r\n')
    write_list(tmp_path / 'config_new/test.txt', [city_line('t_1')])
    assert checked()[0] == 0
    # … but what is there is read.
    save(tmp_path / 'segmentation/train/u_1_gtFine.png', np.full((4, 6), 99, np.uint8))
    assert 'class ids 99' in _only(checked())


def test_number_of_classes(checked, tmp_path):
    make_voc(tmp_path, 4)
    save(tmp_path / 'train_aug/label/2007_000000.png', np.full((4, 6), 20, np.uint8))
    assert checked()[0] == 0  # 21 of VOC
    assert 'class ids 20 outside 0 … 19' in _only(checked('--num-classes', 20))
    (tmp_path / 'classes.json').write_text(json.dumps({'names': list('abcde'), 'colors': [[0, 0, 0]] * 5}))
    assert 'class ids 20 outside 0 … 4' in _only(checked())
    assert checked('--num-classes', 21)[0] == 0


def test_many_findings_of_a_kind_are_cut_short(checked, tmp_path):
    names = make_city(tmp_path, 25)
    for name in names:
        (tmp_path / f'images/train/{name}.png').write_bytes(b'')
    status, lines = checked()
    assert status == 1
    assert len(_findings(lines)) == 20
    assert lines[20] == '… and 5 more findings of this kind (images); --all shows them'
    assert lines[-1].endswith(': 25 findings')
    assert len(_findings(checked('--all')[1])) == 25


def test_mistakes(checked, tmp_path):
    assert 'no prepared data set' in run_error(checked())
    (tmp_path / 'images/train').mkdir(parents=True)
    assert 'root holds no lists' in run_error(checked())
    make_city(tmp_path, 4)
    assert '--workers' in run_error(checked(workers=-1))
    for number in 0, 256:
        assert f'--num-classes must be 1 … 255, not {number}' in run_error(checked('--num-classes', number))


def run_error(result):
    status, (error,) = result
    assert status == 2
    return error


@needs_shared
def test_real_palette_label_maps(checked, tmp_path):
    """As in VOC: maps with a palette, one of which has lost its image."""
    maps = sorted((SHARED / 'voc_raw/SegmentationClassAug').iterdir())[:6]
    for number, path in enumerate(maps):
        label = tmp_path / f'train_aug/label/{path.name}'
        label.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, label)
        if number:
            image = tmp_path / f'train_aug/image/{path.stem}.jpg'
            height, width = check.read_label(path, 21).shape
            save(image, np.full((height, width, 3), number, np.uint8))
    write_list(tmp_path / 'train_aug.txt', [path.stem for path in maps], '\r\n')
    assert _only(checked()).startswith(f'train_aug/image/{maps[0].stem}.jpg: is missing')
