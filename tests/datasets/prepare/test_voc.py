import shutil
import sys
import urllib.error

import numpy as np
import pytest
from PIL import Image
from raw import contents, lines_of, make_image, make_label, make_mat, make_voc, pack, snapshot
from samples import SHARED, needs_shared

from furnace.datasets.classes import voc_colormap
from furnace.datasets.images import read_label
from furnace.datasets.prepare import pairs
from furnace.datasets.splits import RATIOS

TRAIN_AUG = ['2007_000001', '2007_000002', '2008_000003', '2008_000006', '2009_000007', '2011_000008']


@pytest.fixture
def raw(tmp_path):
    return make_voc(tmp_path / 'raw')


@pytest.fixture
def run(command, raw, tmp_path):
    """With SegmentationClassAug, where no sources are given."""

    def run(*options, src=(raw / 'VOCdevkit', raw / 'SegmentationClassAug'), dst='dst'):
        return command('voc', *src, tmp_path / dst, *options)

    return run


def test_layout(run, raw, tmp_path):
    before = snapshot(raw)
    status, out, _ = run()
    dst = tmp_path / 'dst'
    assert status == 0
    assert snapshot(raw) == before
    assert lines_of(dst / 'train.txt') == ['2007_000001', '2007_000002', '2008_000003']
    assert lines_of(dst / 'val.txt') == ['2007_000004', '2008_000005']
    assert lines_of(dst / 'train_aug.txt') == TRAIN_AUG
    for split, names in ('train_aug', TRAIN_AUG), ('val', ['2007_000004', '2008_000005']):
        for kind, suffix in ('image', '.jpg'), ('label', '.png'):
            assert sorted(path.name for path in (dst / split / kind).iterdir()) == [name + suffix for name in names]
    original = raw / 'VOCdevkit/VOC2012/JPEGImages/2009_000007.jpg'
    assert (dst / 'train_aug/image/2009_000007.jpg').read_bytes() == original.read_bytes()
    for r in RATIOS:
        labeled, unlabeled = (
            lines_of(dst / f'subset_train_aug/train_aug_{kind}_1-{r}.txt') for kind in ('labeled', 'unlabeled')
        )
        assert sorted(labeled + unlabeled) == TRAIN_AUG
        assert max(1, 6 // r) <= len(labeled) <= -(-6 // r)
    assert 'train_aug: 6 images; note: the full set has 10582' in out
    assert 'not the published ones' in out


def test_palette_and_grey_give_the_same_ids(run, raw, tmp_path):
    run()
    for path in (raw / 'SegmentationClassAug').iterdir():
        with Image.open(path) as image:
            ids = np.array(image)
        with Image.fromarray(ids) as image:
            image.putpalette(np.array(voc_colormap(256), np.uint8).tobytes())
            image.save(path)
    assert run(dst='other')[0] == 0
    assert contents(tmp_path / 'other') == contents(tmp_path / 'dst')
    ids = read_label(tmp_path / 'dst/val/label/2007_000004.png', 21)
    np.testing.assert_array_equal(ids, np.resize([3, 20, 255], (6, 8)))


def test_palette_option(run, tmp_path):
    run()
    assert run('--palette', dst='other')[0] == 0
    for path in (tmp_path / 'other').rglob('label/*.png'):
        grey = read_label(tmp_path / 'dst' / path.relative_to(tmp_path / 'other'), 21)
        np.testing.assert_array_equal(read_label(path, 21), grey)
        with Image.open(path) as image:
            assert image.mode == 'P'
            colors = np.asarray(image.convert('RGB'))
        assert (colors[grey == 20] == (0, 64, 128)).all()
        assert (colors[grey == 255] == (224, 224, 192)).all()


def _archives(raw, folder):
    return [
        pack(raw / 'VOCdevkit', folder / 'VOCtrainval_11-May-2012.tar'),
        pack(raw / 'benchmark_RELEASE', folder / 'benchmark.tgz'),
    ]


@pytest.mark.parametrize('kind', ['folders', 'archives', 'archives in a folder', 'zip', 'everything'])
def test_any_source_gives_the_same(run, raw, tmp_path, kind):
    """SBD among them, which also has an image of VOC's val."""
    run()
    aug = raw / 'SegmentationClassAug'
    src = {
        'folders': lambda: (raw / 'VOCdevkit', raw / 'benchmark_RELEASE'),
        'archives': lambda: _archives(raw, tmp_path / 'in'),
        'archives in a folder': lambda: (_archives(raw, tmp_path / 'in')[0].parent,),
        'zip': lambda: (
            raw / 'VOCdevkit',
            pack(aug, tmp_path / 'in/SegmentationClassAug.zip'),
        ),
        'everything': lambda: (raw,),
    }[kind]()
    assert run(src=src, dst='other')[0] == 0
    assert contents(tmp_path / 'other') == contents(tmp_path / 'dst')


def test_vocs_own_labels_count_first(run, raw, tmp_path):
    make_label(raw / 'SegmentationClassAug/2007_000001.png', (7,))
    make_label(raw / 'SegmentationClassAug/2008_000006.png', (7,))
    run()
    assert read_label(tmp_path / 'dst/train_aug/label/2007_000001.png', 21).max() == 255
    assert np.unique(read_label(tmp_path / 'dst/train_aug/label/2008_000006.png', 21)) == [7]


def test_without_augmented_labels(run, raw, tmp_path):
    status, out, _ = run(src=(raw / 'VOCdevkit',))
    assert status == 0
    assert 'benchmark.tgz' in out
    assert lines_of(tmp_path / 'dst/train_aug.txt') == TRAIN_AUG[:3]


def test_second_call_does_nothing(run, tmp_path):
    run()
    before = snapshot(tmp_path)
    status, out, _ = run()
    assert (status, snapshot(tmp_path)) == (0, before)
    assert 'nothing to do' in out
    assert '--force' in run('--palette')[2]


@pytest.mark.parametrize('after', [0, 5, 13, 20])
def test_an_interrupted_call_is_completed_by_the_next(run, raw, tmp_path, monkeypatch, after):
    run(dst='whole')
    write, calls = pairs.write_whole, []

    def stop_once(path, data):
        calls.append(path)
        if len(calls) > after:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        for module in 'pairs', 'voc':
            patch.setattr(f'furnace.datasets.prepare.{module}.write_whole', stop_once)
        assert run()[0] == 130
    assert [path.name for path in (tmp_path / 'dst').iterdir()] == ['.partial']
    assert run()[0] == 0
    assert contents(tmp_path / 'dst') == contents(tmp_path / 'whole')


def test_link(run, raw, tmp_path):
    assert run('--link')[0] == 0
    assert (tmp_path / 'dst/val/image/2007_000004.jpg').is_symlink()
    status, _, error = run('--link', src=_archives(raw, tmp_path / 'in'), dst='other')
    assert status == 2
    assert '--link needs it unpacked' in error


def _no_lists(raw):
    shutil.rmtree(raw / 'VOCdevkit/VOC2012/ImageSets')


def _no_val_label(raw):
    for folder in 'VOCdevkit/VOC2012/SegmentationClass', 'SegmentationClassAug':
        (raw / folder / '2007_000004.png').unlink()


def _no_images(raw):
    shutil.rmtree(raw / 'VOCdevkit/VOC2012/JPEGImages')


def _bad_ids(raw):
    make_label(raw / 'SegmentationClassAug/2009_000007.png', (0, 38, 75))


def _wrong_size(raw):
    make_label(raw / 'SegmentationClassAug/2009_000007.png', (0,), (6, 8))


@pytest.mark.parametrize(
    'spoil, words',
    [
        (_no_lists, ('no ImageSets/Segmentation/train.txt', 'VOCtrainval')),
        (_no_val_label, ('1 of 2 images of val', '2007_000004')),
        (_no_images, ('no JPEGImages', '--help')),
        (_bad_ids, ('2009_000007.png', 'ids 38, 75')),
        (_wrong_size, ('2009_000007.png is 6x8', '2009_000007.jpg is 8x6')),
    ],
)
def test_bad_downloads(run, raw, tmp_path, spoil, words):
    spoil(raw)
    status, out, error = run()
    assert (status, out) == (2, '')
    assert all(word in error for word in words)
    assert not (tmp_path / 'dst/train.txt').exists()


def _damage(path):
    path.write_bytes(path.read_bytes()[:150])


def _no_mat(path):
    path.write_bytes(b'nonsense')


def _other_ids(path):
    make_mat(path, np.full((6, 8), 21, np.uint8))


def _other_type(path):
    make_mat(path, np.zeros((6, 8)))


@pytest.mark.parametrize('spoil', [_damage, _no_mat, _other_ids, _other_type])
def test_bad_mat(run, raw, spoil):
    path = raw / 'benchmark_RELEASE/dataset/cls/2009_000007.mat'
    spoil(path)
    status, _, error = run(src=(raw / 'VOCdevkit', raw / 'benchmark_RELEASE'))
    assert status == 2
    assert f"{path}: is not one of SBD's label maps" in error


def test_scipy_is_optional(run, raw, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.io', None)
    status, _, error = run(src=(raw / 'VOCdevkit', raw / 'benchmark_RELEASE'))
    assert status == 2
    assert 'pip install scipy' in error
    assert not (tmp_path / 'dst').exists()
    assert run()[0] == 0


@pytest.fixture
def published(run, tmp_path):
    run('--seed', 3, dst='drawn')
    lists = tmp_path / 'drawn/subset_train_aug'
    (lists / 'pseudoseg_labeled_1-16.txt').write_bytes(b'2007_000002\r\n2007_000001\r\n')
    for path in lists.iterdir():
        path.write_text('\r\n'.join(reversed(lines_of(path))))
    return lists


def test_published_lists(run, published, tmp_path):
    (published / 'notes.txt').write_text('mine')
    status, out, _ = run('--lists', published)
    assert status == 0
    assert 'not the published' not in out
    taken = tmp_path / 'dst/subset_train_aug'
    assert {path.name for path in published.iterdir()} - {path.name for path in taken.iterdir()} == {'notes.txt'}
    for path in taken.iterdir():
        assert lines_of(path) == lines_of(published / path.name)


@pytest.mark.parametrize(
    'name, line, words',
    [
        ('train_aug_labeled_1-4.txt', '2007_000004', ('images are not in train_aug', '2007_000004')),
        ('train_aug_unlabeled_1-2.txt', None, ('labelled and unlabelled for 1/2', '3 images')),
        ('pseudoseg_labeled_1-16.txt', '2011_999999', ('2011_999999',)),
        ('train_aug_labeled_1-16.txt', '', ('no such list',)),
    ],
)
def test_bad_published_lists(run, published, tmp_path, name, line, words):
    path = published / name
    if line == '':
        path.unlink()
    else:
        text = path.with_name(name.replace('unlabeled', 'labeled')).read_text() if line is None else line
        path.write_text(f'{path.read_text()}\n{text}\n')
    status, _, error = run('--lists', published)
    assert status == 2
    assert str(published) in error
    assert all(word in error for word in words)
    assert not (tmp_path / 'dst').exists()


DOWNLOAD = 'torchvision.datasets.utils.download_url'


@pytest.mark.parametrize('error', [urllib.error.URLError('no network'), RuntimeError('File not found\nor corrupted.')])
def test_download_without_network(command, tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(DOWNLOAD, fail)
    status, _, line = command('voc', '--download', tmp_path, tmp_path.parent / 'never')
    assert status == 1
    for word in 'VOCtrainval_11-May-2012.tar', 'benchmark.tgz', f'into {tmp_path}', 'without --download':
        assert word in line


def test_download(run, raw, tmp_path, monkeypatch):
    served = {path.name: path for path in _archives(raw, tmp_path / 'served')}
    (tmp_path / 'in').mkdir()

    def serve(url, root, name, md5):
        assert url.endswith(name)
        assert len(md5) == 32
        shutil.copy(served[name], root)

    monkeypatch.setattr(DOWNLOAD, serve)
    assert run('--download', src=(tmp_path / 'in',))[0] == 0
    assert lines_of(tmp_path / 'dst/train_aug.txt') == TRAIN_AUG
    served.clear()
    assert 'nothing to do' in run('--download', src=(tmp_path / 'in',))[1]
    assert 'one SRC' in run('--download', src=(tmp_path / 'in', raw), dst='other')[2]


@needs_shared
def test_real_pairs(command, tmp_path):
    raw = SHARED / 'voc_raw'
    sets = tmp_path / 'sets/ImageSets/Segmentation'
    sets.mkdir(parents=True)
    (sets / 'train.txt').write_text('2011_000006')
    (sets / 'val.txt').write_text('2011_000003\n2011_000025\n2007_000033')
    (tmp_path / 'more').mkdir()
    augmented = sorted((raw / 'SegmentationClassAug').glob('2008*'))[:3]
    for path in augmented:
        with Image.open(path) as label:
            make_image(tmp_path / f'more/JPEGImages/{path.stem}.jpg', label.size)
    status, out, _ = command('voc', raw, tmp_path / 'sets', tmp_path / 'more', tmp_path / 'dst')
    assert status == 0
    assert 'train_aug: 4 images' in out
    own = {path.name: path for path in (raw / 'SegmentationClass').iterdir()}
    made = sorted((tmp_path / 'dst').rglob('label/*.png'))
    assert len(made) == 6
    for path in made:
        with Image.open(own.get(path.name, raw / 'SegmentationClassAug' / path.name)) as original:
            assert original.mode == 'P'
            np.testing.assert_array_equal(read_label(path, 21), np.asarray(original))
