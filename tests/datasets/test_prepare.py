import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from samples import SHARED, needs_shared

from furnace.datasets import find, prepare
from furnace.datasets.classes import read_classes, voc_colormap
from furnace.datasets.images import image_size, read_image, read_label

COLORS = [[9, 9, 9], [200, 0, 0], [0, 200, 0]]


def _image(path, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, (10, 20, 30)).save(path)


def _label(path, ids=(0, 1, 2, 255), size=(8, 6), mode='L'):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.array(ids, np.uint8), size[::-1]))
    if mode == 'P':
        image.putpalette(np.arange(768)[::-1].astype(np.uint8).tobytes())
    elif mode != 'L':
        image = image.convert(mode)
    image.save(path)


@pytest.fixture
def src(tmp_path):
    """Six labelled training frames of two sequences, one without a label, and two of val."""
    src = tmp_path / 'src'
    for split, names in ('train', ('a_1', 'a_2', 'a_3', 'b_1', 'b_2', 'b_3')), ('val', ('c_1', 'c_2')):
        for name in names:
            _image(src / f'images/{split}/{name}.png')
            _label(src / f'labels/{split}/{name}_gtFine.png')
    _image(src / 'images/train/sub/a_9.JPG')
    (src / 'classes.json').write_text(json.dumps({'names': ['x', 'y', 'z'], 'colors': COLORS, 'ignore_index': 255}))
    return src


@pytest.fixture
def run(src, tmp_path, capsys):
    """Runs ``prepare folder`` and returns (status, stdout, last line of stderr)."""

    def run(*options, dst='dst'):
        status = prepare.main(['folder', str(src), str(tmp_path / dst), *map(str, options)])
        out, err = capsys.readouterr()
        return status, out, err.strip().splitlines()[-1] if err else ''

    return run


def _snapshot(folder):
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns, path.is_symlink())
        for path in folder.rglob('*')
        if path.is_file()
    }


def _lines(path):
    return path.read_bytes().decode().splitlines()


def _refused(result, tmp_path, *words):
    """One line, status 2, and nothing beside the source."""
    status, out, error = result
    assert status == 2
    assert out == ''
    assert error.startswith('error: ')
    for word in words:
        assert word in error
    assert [path.name for path in tmp_path.iterdir()] == ['src']


def test_layout(run, src, tmp_path):
    before = _snapshot(src)
    status, out, _ = run()
    dst = tmp_path / 'dst'
    assert status == 0
    assert _snapshot(src) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['dst', 'src']
    assert sorted(p.name for p in dst.iterdir()) == sorted(prepare.WRITTEN)
    for split, n in ('train', 7), ('val', 2):
        lines = _lines(dst / f'config_new/{split}.txt')
        assert len(lines) == n
        assert all((dst / name.lstrip('/')).is_file() for line in lines for name in line.split('\t'))
    assert '/images/train/sub/a_9.JPG' in _lines(dst / 'config_new/train.txt')
    assert '/images/val/c_1.png\t/segmentation/val/c_1.png' in _lines(dst / 'config_new/val.txt')
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
    assert '/images/train/a_1.png\t/segmentation/train/a_1.png' in _lines(tmp_path / 'dst/config_new/train.txt')


@pytest.mark.parametrize('suffix', ['.jpg', '.JPEG', '.Png', '.bmp', '.TIF', '.tiff'])
def test_image_suffixes(run, src, tmp_path, suffix):
    _image(src / f'images/train/n_1{suffix}')
    _label(src / 'labels/train/n_1.png')
    assert run()[0] == 0
    assert read_image(tmp_path / f'dst/images/train/n_1{suffix}').shape == (6, 8, 3)


def test_other_folder_names(run, src, tmp_path):
    (src / 'images').rename(src / 'rgb')
    (src / 'labels').rename(src / 'rgb/maps')
    (src / 'classes.json').rename(tmp_path / 'src/rgb/c.json')
    result = run()
    _refused(result, tmp_path, '--images')
    assert run('--images', 'rgb', '--labels', 'rgb/maps', '--classes', src / 'rgb/c.json')[0] == 0
    assert read_classes(tmp_path / 'dst/classes.json').names == ('x', 'y', 'z')


def test_val_share(run, src, tmp_path):
    shutil.rmtree(src / 'images')
    shutil.rmtree(src / 'labels')
    for sequence in 'ab':
        for i in range(10):
            _image(src / f'images/{sequence}_{i}.png')
            if i != 9 or sequence == 'a':
                _label(src / f'images/maps/{sequence}_{i}.png')
    _refused(run('--labels', 'images/maps'), tmp_path, '--val-share')
    status, out, _ = run('--labels', 'images/maps', '--val-share', 0.2)
    assert status == 0
    assert {Path(line).stem for line in _lines(tmp_path / 'dst/config_new/val.txt')} == {'a_8', 'a_9', 'b_7', 'b_8'}
    assert len(_lines(tmp_path / 'dst/config_new/train.txt')) == 15
    assert '1 images without a label lie between images of val' in out


def test_val_share_with_splits(run, tmp_path):
    _refused(run('--val-share', 0.2), tmp_path, '--val-share')


def test_val_share_too_large(run, src, tmp_path):
    for kind in 'images', 'labels':
        shutil.rmtree(src / kind / 'val')
        (src / kind / 'train').rename(src / kind / 'all')
    _refused(run('--val-share', 0.99), tmp_path, '--val-share')
    _refused(run('--val-share', 1.5), tmp_path, 'between 0 and 1')


def test_test_split_needs_no_labels(run, src, tmp_path):
    _image(src / 'images/test/t_1.png')
    status, out, _ = run()
    assert status == 0
    assert _lines(tmp_path / 'dst/config_new/test.txt') == ['/images/test/t_1.png']
    assert '1 images for test' in out


def test_palette_labels_give_ids(run, src, tmp_path):
    _label(src / 'labels/train/a_1_gtFine.png', mode='P')
    assert run()[0] == 0
    path = tmp_path / 'dst/segmentation/train/a_1.png'
    with Image.open(path) as image:
        assert image.mode == 'L'
    assert sorted(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) == [0, 1, 2, 255]


def test_ignore_index_becomes_255(run, src, tmp_path):
    for path in src.rglob('*_gtFine.png'):
        _label(path, (0, 1, 2, 11))
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
    _refused(run(), tmp_path, 'ignore_index', 'classes.json')


def test_default_classes(run, src, tmp_path):
    (src / 'classes.json').unlink()
    _label(src / 'labels/val/c_1_gtFine.png', (0, 4, 255))
    assert run()[0] == 0
    classes = read_classes(tmp_path / 'dst/classes.json')
    assert classes.names == ('class 0', 'class 1', 'class 2', 'class 3', 'class 4')
    assert classes.colors == voc_colormap(5)


def test_masks_of_0_and_255_are_no_classes(run, src, tmp_path):
    (src / 'classes.json').unlink()
    for path in src.rglob('*_gtFine.png'):
        _label(path, (0, 255))
    _refused(run(), tmp_path, 'fewer than two classes')


@pytest.mark.parametrize(
    'ids, text',
    [((0, 7, 33), 'ids 7, 33 are neither'), (tuple(range(40)), 'ids 3, 4, 5, 6, 7, 8, 9, 10, … are')],
)
def test_bad_ids(run, src, tmp_path, ids, text):
    _label(src / 'labels/val/c_2_gtFine.png', ids)
    _refused(run(), tmp_path, 'val/c_2_gtFine.png', text, 'label ids instead of train ids?')


def test_255_is_a_bad_id_beside_another_ignore_index(run, src, tmp_path):
    (src / 'classes.json').write_text(json.dumps({'names': ['x', 'y', 'z'], 'colors': COLORS, 'ignore_index': 3}))
    _refused(run(), tmp_path, 'ids 255 ')


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_colour_labels(run, src, tmp_path, mode):
    _label(src / 'labels/train/b_2_gtFine.png', mode=mode)
    _refused(run(), tmp_path, 'b_2_gtFine.png', mode, 'one 8-bit channel')


def test_sizes_differ(run, src, tmp_path):
    _label(src / 'labels/train/b_2_gtFine.png', size=(6, 8))
    _refused(run(), tmp_path, 'b_2_gtFine.png is 6x8', 'b_2.png is 8x6')


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_size_is_the_one_that_training_sees(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (8, 6)).save(tmp_path / 'x.jpg', exif=exif)
    assert image_size(tmp_path / 'x.jpg')[::-1] == read_image(tmp_path / 'x.jpg').shape[:2]


def test_val_without_label(run, src, tmp_path):
    for i in range(4):
        _image(src / f'images/val/d_{i}.png')
    _refused(run(), tmp_path, '4 of 6 images of val', 'd_0.png', 'd_2.png, …')


def test_train_without_any_label(run, src, tmp_path):
    shutil.rmtree(src / 'labels/train')
    _refused(run(), tmp_path, 'a_1_gtFine.png')


def test_missing_split(run, src, tmp_path):
    shutil.rmtree(src / 'images/val')
    _refused(run(), tmp_path, 'no images for val')


@pytest.mark.parametrize('name', ['a_1.jpg', 'sub/a_1.png'])
def test_duplicate_stems(run, src, tmp_path, name):
    _image(src / f'images/train/{name}')
    _refused(run(), tmp_path, 'two images of one name', 'a_1.png', name)


def test_duplicate_labels(run, src, tmp_path):
    _label(src / 'labels/train/a_1_mask.png')
    _refused(run(), tmp_path, 'two label maps', 'a_1_gtFine.png', 'a_1_mask.png')


def test_unprintable_name(run, src, tmp_path):
    _image(src / 'images/train/a\t4.png')
    _refused(run(), tmp_path, r'a\t4.png')


@pytest.mark.parametrize('name', ['images/train/a_1.png', 'labels/train/a_1_gtFine.png', 'classes.json'])
def test_broken_files(run, src, tmp_path, name):
    (src / name).write_bytes(b'\x89PNG nonsense')
    _refused(run(), tmp_path, name)


def test_missing_classes_file(run, tmp_path):
    _refused(run('--classes', tmp_path / 'no.json'), tmp_path, 'no.json')


def test_bad_seed(run, tmp_path):
    _refused(run('--seed', -1), tmp_path, 'seed')


def test_unused_labels_are_told(run, src):
    _label(src / 'labels/train/a_1_color.png')
    _image(src / 'images/train/.hidden.png')
    status, out, _ = run()
    assert status == 0
    assert 'note: 1 .png files' in out
    assert 'C.num_train_imgs = 7' in out


def test_link(run, src, tmp_path):
    assert run('--link')[0] == 0
    for line in _lines(tmp_path / 'dst/config_new/train.txt'):
        image = tmp_path / 'dst' / line.split('\t')[0].lstrip('/')
        assert image.is_symlink()
        assert os.readlink(image).startswith(str(src / 'images/train/'))
    assert not (tmp_path / 'dst/segmentation/train/a_1.png').is_symlink()


def test_second_call_does_nothing(run, tmp_path):
    for link in (), ('--link',):
        run(*link, dst=f'dst{len(link)}')
        before = _snapshot(tmp_path)
        status, out, _ = run(*link, dst=f'dst{len(link)}')
        assert status == 0
        assert 'nothing to do' in out
        assert _snapshot(tmp_path) == before


@pytest.mark.parametrize('options', [('--seed', '1'), ('--link',)])
def test_other_parameters_need_force(run, tmp_path, options):
    run()
    before = _snapshot(tmp_path)
    status, _, error = run(*options)
    assert status == 2
    assert '--force' in error
    assert _snapshot(tmp_path) == before
    assert run(*options, '--force')[0] == 0
    assert run(*options)[1].endswith('(--force makes it again)\n')


def test_classes_that_come_later_are_other_parameters(run, src):
    (src / 'classes.json').rename(src / 'later')
    run()
    (src / 'later').rename(src / 'classes.json')
    assert run()[0] == 2


def test_incomplete_result(run, tmp_path):
    run()
    (tmp_path / 'dst/images/train/a_1.png').unlink()
    status, _, error = run()
    assert status == 2
    assert 'incomplete' in error
    assert run('--force')[0] == 0
    assert (tmp_path / 'dst/images/train/a_1.png').is_file()


def test_force_replaces_only_what_was_written(run, src, tmp_path):
    run()
    (tmp_path / 'dst/notes.txt').write_text('mine')
    (src / 'images/train/b_3.png').unlink()
    assert run('--force')[0] == 0
    assert (tmp_path / 'dst/notes.txt').read_text() == 'mine'
    assert not (tmp_path / 'dst/images/train/b_3.png').exists()
    (tmp_path / 'dst/images/train/mine.png').write_text('mine')
    before = _snapshot(tmp_path)
    status, _, error = run('--force')
    assert status == 2
    assert 'images/train/mine.png' in error
    assert _snapshot(tmp_path) == before


def test_notes_stay_and_other_files_refuse(run, tmp_path):
    dst = tmp_path / 'dst'
    dst.mkdir()
    (dst / 'README.md').write_text('note')
    (dst / 'mine.txt').write_text('mine')
    for options in (), ('--force',):
        status, _, error = run(*options)
        assert status == 2
        assert 'mine.txt' in error
        assert sorted(p.name for p in dst.iterdir()) == ['README.md', 'mine.txt']
    (dst / 'mine.txt').unlink()
    assert run()[0] == 0
    assert (dst / 'README.md').read_text() == 'note'


@pytest.mark.parametrize('dst', ['src', 'src/out', 'no/such/dst', 'src/classes.json'])
def test_bad_destination(run, tmp_path, dst):
    before = _snapshot(tmp_path)
    _refused(run(dst=dst), tmp_path)
    assert _snapshot(tmp_path) == before


def test_destination_is_a_file(run, tmp_path):
    (tmp_path / 'dst').write_text('mine')
    assert run()[0] == 2
    assert (tmp_path / 'dst').read_text() == 'mine'


@pytest.mark.parametrize('error, status', [(KeyboardInterrupt(), 130), (OSError('disk full'), 2)])
@pytest.mark.parametrize('place', ['shutil.copy2', 'furnace.datasets.prepare.write_lists'])
def test_interrupted(run, tmp_path, monkeypatch, error, status, place):
    def stop(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, stop)
        assert run()[0] == status
    assert [path.name for path in tmp_path.iterdir()] == ['src']
    assert run()[0] == 0


@pytest.mark.parametrize('after', range(11))
@pytest.mark.parametrize('before', ['nothing', 'a note', 'a result'])
def test_interrupted_while_moving_in(run, tmp_path, monkeypatch, before, after):
    if before == 'a result':
        run('--seed', 1)
    elif before == 'a note':
        (tmp_path / 'dst').mkdir()
        (tmp_path / 'dst/README.md').write_text('note')
    found = _snapshot(tmp_path)
    entries = sorted(tmp_path.iterdir())
    calls = []
    rename = os.rename

    def stop_once(source, target):
        calls.append(source)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr('os.rename', stop_once)
        status = run('--force')[0]
    if status == 130:
        assert _snapshot(tmp_path) == found
        assert sorted(tmp_path.iterdir()) == entries
    else:
        assert status == 0
        assert after >= len(calls) == (10 if before == 'a result' else 5)


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit, match='0'):
        prepare.main(['folder', '--help'])
    assert '--val-share 0.2' in capsys.readouterr().out


@needs_shared
def test_camvid(tmp_path):
    camvid = SHARED / 'camvid'
    assert prepare.main(['folder', str(camvid), str(tmp_path / 'dst'), '--link']) == 0
    config = tmp_path / 'dst/config_new'
    assert len(_lines(config / 'train.txt')) == 367
    assert len(_lines(config / 'val.txt')) == 101
    for r, n in (16, 23), (8, 46), (4, 91), (2, 183):
        assert len(_lines(config / f'subset_train/train_aug_labeled_1-{r}.txt')) == n
        assert len(_lines(config / f'subset_train/train_aug_unlabeled_1-{r}.txt')) == 367 - n
    for line in _lines(config / 'val.txt')[::20]:
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
            _image(tmp_path / f'src/images/{split}/x.png', image.size)
        shutil.copy(label, tmp_path / f'src/labels/{split}/x_gtFine_labelIds.png')
    names = [str(i) for i in range(19)]
    (tmp_path / 'classes.json').write_text(json.dumps({'names': names, 'colors': [[0, 0, 0]] * 19}))
    arguments = ['folder', str(tmp_path / 'src'), str(tmp_path / 'dst'), '--classes', str(tmp_path / 'classes.json')]
    assert prepare.main(arguments) == 2
    assert 'label ids instead of train ids?' in capsys.readouterr().err
