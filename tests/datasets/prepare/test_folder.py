import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from raw import COLORS, lines_of, make_image, make_label, refused, snapshot
from samples import SHARED, needs_shared

from furnace.datasets import find
from furnace.datasets.classes import read_classes, voc_colormap
from furnace.datasets.images import image_size, read_image, read_label
from furnace.datasets.prepare.__main__ import main
from furnace.datasets.prepare.folder import WRITTEN


def test_layout(run, src, tmp_path):
    before = snapshot(src)
    status, out, _ = run()
    dst = tmp_path / 'dst'
    assert status == 0
    assert snapshot(src) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['dst', 'src']
    assert sorted(p.name for p in dst.iterdir()) == sorted(WRITTEN)
    for split, n in ('train', 7), ('val', 2):
        lines = lines_of(dst / f'config_new/{split}.txt')
        assert len(lines) == n
        assert all((dst / name.lstrip('/')).is_file() for line in lines for name in line.split('\t'))
    assert '/images/train/sub/a_9.JPG' in lines_of(dst / 'config_new/train.txt')
    assert '/images/val/c_1.png\t/segmentation/val/c_1.png' in lines_of(dst / 'config_new/val.txt')
    assert (dst / 'images/train/a_1.png').read_bytes() == (src / 'images/train/a_1.png').read_bytes()
    assert all(b'\r' not in path.read_bytes() for path in dst.rglob('*.txt'))
    classes = read_classes(dst / 'classes.json')
    assert classes.names == ('x', 'y', 'z')
    assert classes.colors == tuple(map(tuple, COLORS))
    for line in 'C.num_classes = 3', 'C.num_train_imgs = 7', 'C.num_eval_imgs = 2', '  0  x ', '   25.00%   25.00%\n':
        assert line in out
    assert '1/16 1, 1/8 1, 1/4 ' in out
    record = json.loads((dst / 'prepared.json').read_text())
    assert (record['seed'], record['source']) == (12345, str(src))
    assert record['counts']['images'] == {'train': 7, 'val': 2}


@pytest.mark.parametrize('ending', find.LABEL_ENDINGS)
def test_label_endings(run, src, tmp_path, ending):
    (src / 'labels/train/a_1_gtFine.png').rename(src / f'labels/train/a_1{ending}.png')
    assert run()[0] == 0
    assert '/images/train/a_1.png\t/segmentation/train/a_1.png' in lines_of(tmp_path / 'dst/config_new/train.txt')


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG', '.Png', '.bmp', '.TIF', '.tiff', '.webp'])
def test_image_suffixes(run, src, tmp_path, suffix):
    make_image(src / f'images/train/n_1{suffix}')
    make_label(src / 'labels/train/n_1.png')
    assert run()[0] == 0
    assert read_image(tmp_path / f'dst/images/train/n_1{suffix}').shape == (6, 8, 3)


def test_other_folder_names(run, src, tmp_path):
    (src / 'images').rename(src / 'rgb')
    (src / 'labels').rename(src / 'rgb/maps')
    (src / 'classes.json').rename(tmp_path / 'src/rgb/c.json')
    result = run()
    refused(result, tmp_path, '--images')
    assert run('--images', 'rgb', '--labels', 'rgb/maps', '--classes', src / 'rgb/c.json')[0] == 0
    assert read_classes(tmp_path / 'dst/classes.json').names == ('x', 'y', 'z')


def test_val_share(run, src, tmp_path):
    shutil.rmtree(src / 'images')
    shutil.rmtree(src / 'labels')
    for sequence in 'ab':
        for i in range(10):
            make_image(src / f'images/{sequence}_{i}.png')
            if i != 9 or sequence == 'a':
                make_label(src / f'images/maps/{sequence}_{i}.png')
    refused(run('--labels', 'images/maps'), tmp_path, '--val-share')
    status, out, _ = run('--labels', 'images/maps', '--val-share', 0.2)
    assert status == 0
    assert {Path(line).stem for line in lines_of(tmp_path / 'dst/config_new/val.txt')} == {'a_8', 'a_9', 'b_7', 'b_8'}
    assert len(lines_of(tmp_path / 'dst/config_new/train.txt')) == 15
    assert '1 images without a label lie between images of val' in out


def test_val_share_with_splits(run, tmp_path):
    refused(run('--val-share', 0.2), tmp_path, '--val-share')


def test_val_share_too_large(run, src, tmp_path):
    for kind in 'images', 'labels':
        shutil.rmtree(src / kind / 'val')
        (src / kind / 'train').rename(src / kind / 'all')
    refused(run('--val-share', 0.99), tmp_path, '--val-share')
    refused(run('--val-share', 1.5), tmp_path, 'between 0 and 1')


def test_test_split_needs_no_labels(run, src, tmp_path):
    make_image(src / 'images/test/t_1.png')
    status, out, _ = run()
    assert status == 0
    assert lines_of(tmp_path / 'dst/config_new/test.txt') == ['/images/test/t_1.png']
    assert '1 images for test' in out


def test_palette_labels_give_ids(run, src, tmp_path):
    make_label(src / 'labels/train/a_1_gtFine.png', mode='P')
    assert run()[0] == 0
    path = tmp_path / 'dst/segmentation/train/a_1.png'
    with Image.open(path) as image:
        assert image.mode == 'L'
    assert sorted(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) == [0, 1, 2, 255]


def test_ignore_index_becomes_255(run, src, tmp_path):
    for path in src.rglob('*_gtFine.png'):
        make_label(path, (0, 1, 2, 11))
    (src / 'classes.json').write_text(json.dumps({'names': ['x', 'y', 'z'], 'colors': COLORS, 'ignore_index': 11}))
    status, out, _ = run()
    assert status == 0
    ids = read_label(tmp_path / 'dst/segmentation/val/c_1.png', 3)
    np.testing.assert_array_equal(ids, np.resize([0, 1, 2, 255], (6, 8)))
    assert json.loads((tmp_path / 'dst/classes.json').read_text())['ignore_index'] == 255
    assert re.search(r'255  void +25.00% +25.00%\n', out)


@pytest.mark.parametrize('ignore_index', [2, 256, -1, 'void', None])
def test_bad_ignore_index(run, src, tmp_path, ignore_index):
    content = {'names': ['x', 'y', 'z'], 'colors': COLORS, 'ignore_index': ignore_index}
    (src / 'classes.json').write_text(json.dumps(content))
    refused(run(), tmp_path, 'ignore_index', 'classes.json')


def test_default_classes(run, src, tmp_path):
    (src / 'classes.json').unlink()
    make_label(src / 'labels/val/c_1_gtFine.png', (0, 4, 255))
    assert run()[0] == 0
    classes = read_classes(tmp_path / 'dst/classes.json')
    assert classes.names == ('class 0', 'class 1', 'class 2', 'class 3', 'class 4')
    assert classes.colors == voc_colormap(5)


def test_masks_of_0_and_255_are_no_classes(run, src, tmp_path):
    (src / 'classes.json').unlink()
    for path in src.rglob('*_gtFine.png'):
        make_label(path, (0, 255))
    refused(run(), tmp_path, 'fewer than two classes')


@pytest.mark.parametrize(
    'ids, text',
    [((0, 7, 33), 'ids 7, 33 are neither'), (tuple(range(40)), 'ids 3, 4, 5, 6, 7, 8, 9, 10, … are')],
)
def test_bad_ids(run, src, tmp_path, ids, text):
    make_label(src / 'labels/val/c_2_gtFine.png', ids)
    refused(run(), tmp_path, 'val/c_2_gtFine.png', text, 'label ids instead of train ids?')


def test_255_is_a_bad_id_beside_another_ignore_index(run, src, tmp_path):
    (src / 'classes.json').write_text(json.dumps({'names': ['x', 'y', 'z'], 'colors': COLORS, 'ignore_index': 3}))
    refused(run(), tmp_path, 'ids 255 ')


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_colour_labels(run, src, tmp_path, mode):
    make_label(src / 'labels/train/b_2_gtFine.png', mode=mode)
    refused(run(), tmp_path, 'b_2_gtFine.png', mode, 'one 8-bit channel')


def test_sizes_differ(run, src, tmp_path):
    make_label(src / 'labels/train/b_2_gtFine.png', size=(6, 8))
    refused(run(), tmp_path, 'b_2_gtFine.png: is 6x8', 'b_2.png is 8x6')


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_size_is_the_one_that_training_sees(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (8, 6)).save(tmp_path / 'x.jpg', exif=exif)
    assert image_size(tmp_path / 'x.jpg')[::-1] == read_image(tmp_path / 'x.jpg').shape[:2]


def test_val_without_label(run, src, tmp_path):
    for i in range(4):
        make_image(src / f'images/val/d_{i}.png')
    refused(run(), tmp_path, '4 of 6 images of val', 'd_0.png', 'd_2.png, …')


def test_train_without_any_label(run, src, tmp_path):
    shutil.rmtree(src / 'labels/train')
    refused(run(), tmp_path, 'a_1_gtFine.png')


def test_missing_split(run, src, tmp_path):
    shutil.rmtree(src / 'images/val')
    refused(run(), tmp_path, 'no images for val')


@pytest.mark.parametrize('name', ['a_1.jpg', 'sub/a_1.png'])
def test_duplicate_stems(run, src, tmp_path, name):
    make_image(src / f'images/train/{name}')
    refused(run(), tmp_path, 'two images of one name', 'a_1.png', name)


def test_duplicate_labels(run, src, tmp_path):
    make_label(src / 'labels/train/a_1_mask.png')
    refused(run(), tmp_path, 'two label maps', 'a_1_gtFine.png', 'a_1_mask.png')


def test_unprintable_name(run, src, tmp_path):
    make_image(src / 'images/train/a\t4.png')
    refused(run(), tmp_path, r'a\t4.png')


@pytest.mark.parametrize('name', ['images/train/n_1.jpg', 'images/train/n_1.png'])
def test_half_a_file(run, src, tmp_path, name):
    make_image(src / name, (64, 48))
    content = (src / name).read_bytes()
    (src / name).write_bytes(content[: len(content) * 2 // 3])
    refused(run(), tmp_path, name)


@pytest.mark.parametrize('name', ['images/train/a_1.png', 'labels/train/a_1_gtFine.png', 'classes.json'])
def test_broken_files(run, src, tmp_path, name):
    (src / name).write_bytes(b'\x89PNG nonsense')
    refused(run(), tmp_path, name)


def test_missing_classes_file(run, tmp_path):
    refused(run('--classes', tmp_path / 'no.json'), tmp_path, 'no.json')


def test_bad_seed(run, tmp_path):
    refused(run('--seed', -1), tmp_path, 'seed')


def test_unused_labels_are_told(run, src):
    make_label(src / 'labels/train/a_1_color.png')
    make_image(src / 'images/train/.hidden.png')
    status, out, _ = run()
    assert status == 0
    assert 'note: 1 .png files' in out
    assert 'C.num_train_imgs = 7' in out


def test_images_of_no_split_are_told(run, src, tmp_path):
    for name in 'x.png', 'extra/y.png', 'train/z.heic':
        make_image(src / 'images/x.png')
        (src / f'images/{name}').parent.mkdir(exist_ok=True)
        (src / f'images/{name}').write_bytes((src / 'images/x.png').read_bytes())
    status, out, _ = run()
    assert status == 0
    assert f'note: 3 files below {src}/images are no images of a split: extra/y.png, train/z.heic, x.png\n' in out
    assert 'C.num_train_imgs = 7' in out


@needs_shared
def test_camvid(tmp_path):
    camvid = SHARED / 'camvid'
    assert main(['folder', str(camvid), str(tmp_path / 'dst'), '--link']) == 0
    config = tmp_path / 'dst/config_new'
    assert len(lines_of(config / 'train.txt')) == 367
    assert len(lines_of(config / 'val.txt')) == 101
    for r, n in (16, 23), (8, 46), (4, 91), (2, 183):
        assert len(lines_of(config / f'subset_train/train_aug_labeled_1-{r}.txt')) == n
        assert len(lines_of(config / f'subset_train/train_aug_unlabeled_1-{r}.txt')) == 367 - n
    for line in lines_of(config / 'val.txt')[::20]:
        name = Path(line).name
        copy, original = tmp_path / f'dst/segmentation/val/{name}', camvid / f'labels/val/{name}'
        np.testing.assert_array_equal(read_label(copy, 11), read_label(original, 11))


@needs_shared
def test_cityscapes_label_ids_are_refused(tmp_path, capsys):
    pairs = sorted((SHARED / 'cityscapes_raw').rglob('*_labelIds.png'))[:2]
    for split, label in zip(('train', 'val'), pairs, strict=True):
        for kind in 'images', 'labels':
            (tmp_path / f'src/{kind}/{split}').mkdir(parents=True)
        with Image.open(label) as image:
            make_image(tmp_path / f'src/images/{split}/x.png', image.size)
        shutil.copy(label, tmp_path / f'src/labels/{split}/x_gtFine_labelIds.png')
    names = [str(i) for i in range(19)]
    (tmp_path / 'classes.json').write_text(json.dumps({'names': names, 'colors': [[0, 0, 0]] * 19}))
    arguments = ['folder', str(tmp_path / 'src'), str(tmp_path / 'dst'), '--classes', str(tmp_path / 'classes.json')]
    assert main(arguments) == 2
    assert 'label ids instead of train ids?' in capsys.readouterr().err
