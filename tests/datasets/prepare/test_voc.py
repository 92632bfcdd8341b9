import shutil

import numpy as np
import pytest
from PIL import Image
from raw import contents, lines_of, make_image, make_label, pack, snapshot, voc_archives
from samples import SHARED, needs_shared

from furnace.datasets.classes import voc_colormap
from furnace.datasets.images import read_label
from furnace.datasets.prepare import pairs
from furnace.datasets.splits import RATIOS

TRAIN_AUG = ['2007_000001', '2007_000002', '2008_000003', '2008_000006', '2009_000007', '2011_000008']


def test_layout(voc, raw_voc, tmp_path):
    before = snapshot(raw_voc)
    status, out, _ = voc()
    dst = tmp_path / 'dst'
    assert status == 0
    assert snapshot(raw_voc) == before
    assert lines_of(dst / 'train.txt') == ['2007_000001', '2007_000002', '2008_000003']
    assert lines_of(dst / 'val.txt') == ['2007_000004', '2008_000005']
    assert lines_of(dst / 'train_aug.txt') == TRAIN_AUG
    for split, names in ('train_aug', TRAIN_AUG), ('val', ['2007_000004', '2008_000005']):
        for kind, suffix in ('image', '.jpg'), ('label', '.png'):
            assert sorted(path.name for path in (dst / split / kind).iterdir()) == [name + suffix for name in names]
    original = raw_voc / 'VOCdevkit/VOC2012/JPEGImages/2009_000007.jpg'
    assert (dst / 'train_aug/image/2009_000007.jpg').read_bytes() == original.read_bytes()
    for r in RATIOS:
        labeled, unlabeled = (
            lines_of(dst / f'subset_train_aug/train_aug_{kind}_1-{r}.txt') for kind in ('labeled', 'unlabeled')
        )
        assert sorted(labeled + unlabeled) == TRAIN_AUG
        assert max(1, 6 // r) <= len(labeled) <= -(-6 // r)
    assert 'train_aug: 6 images; note: the full set has 10582' in out
    assert 'not the published ones' in out
    assert out.endswith(f'then: python -m furnace.datasets.prepare check {dst} reads every file\n')


def test_palette_and_grey_give_the_same_ids(voc, raw_voc, tmp_path):
    voc()
    for path in (raw_voc / 'SegmentationClassAug').iterdir():
        with Image.open(path) as image:
            ids = np.array(image)
        with Image.fromarray(ids) as image:
            image.putpalette(np.array(voc_colormap(256), np.uint8).tobytes())
            image.save(path)
    assert voc(dst='other')[0] == 0
    assert contents(tmp_path / 'other') == contents(tmp_path / 'dst')
    ids = read_label(tmp_path / 'dst/val/label/2007_000004.png', 21)
    np.testing.assert_array_equal(ids, np.resize([3, 20, 255], (6, 8)))


def test_palette_option(voc, tmp_path):
    voc()
    assert voc('--palette', dst='other')[0] == 0
    for path in (tmp_path / 'other').rglob('label/*.png'):
        grey = read_label(tmp_path / 'dst' / path.relative_to(tmp_path / 'other'), 21)
        np.testing.assert_array_equal(read_label(path, 21), grey)
        with Image.open(path) as image:
            assert image.mode == 'P'
            colors = np.asarray(image.convert('RGB'))
        assert (colors[grey == 20] == (0, 64, 128)).all()
        assert (colors[grey == 255] == (224, 224, 192)).all()


@pytest.mark.parametrize('kind', ['folders', 'archives', 'archives in a folder', 'zip', 'everything'])
def test_any_source_gives_the_same(voc, raw_voc, tmp_path, kind):
    """SBD among them, which also has an image of VOC's val."""
    voc()
    aug = raw_voc / 'SegmentationClassAug'
    src = {
        'folders': lambda: (raw_voc / 'VOCdevkit', raw_voc / 'benchmark_RELEASE'),
        'archives': lambda: voc_archives(raw_voc, tmp_path / 'in'),
        'archives in a folder': lambda: (voc_archives(raw_voc, tmp_path / 'in')[0].parent,),
        'zip': lambda: (
            raw_voc / 'VOCdevkit',
            pack(aug, tmp_path / 'in/SegmentationClassAug.zip'),
        ),
        'everything': lambda: (raw_voc,),
    }[kind]()
    assert voc(src=src, dst='other')[0] == 0
    assert contents(tmp_path / 'other') == contents(tmp_path / 'dst')


def test_vocs_own_labels_count_first(voc, raw_voc, tmp_path):
    make_label(raw_voc / 'SegmentationClassAug/2007_000001.png', (7,))
    make_label(raw_voc / 'SegmentationClassAug/2008_000006.png', (7,))
    voc()
    assert read_label(tmp_path / 'dst/train_aug/label/2007_000001.png', 21).max() == 255
    assert np.unique(read_label(tmp_path / 'dst/train_aug/label/2008_000006.png', 21)) == [7]


def test_without_augmented_labels(voc, raw_voc, tmp_path):
    status, out, _ = voc(src=(raw_voc / 'VOCdevkit',))
    assert status == 0
    assert 'benchmark.tgz' in out
    assert lines_of(tmp_path / 'dst/train_aug.txt') == TRAIN_AUG[:3]


def test_second_call_does_nothing(voc, tmp_path):
    voc()
    before = snapshot(tmp_path)
    status, out, _ = voc()
    assert (status, snapshot(tmp_path)) == (0, before)
    assert 'nothing to do' in out
    assert '--force' in voc('--palette')[2]


@pytest.mark.parametrize('after', [0, 5, 13, 20])
def test_an_interrupted_call_is_completed_by_the_next(voc, raw_voc, tmp_path, monkeypatch, after):
    voc(dst='whole')
    write, calls = pairs.write_whole, []

    def stop_once(path, data):
        calls.append(path)
        if len(calls) > after:
            raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch:
        for module in 'pairs', 'voc':
            patch.setattr(f'furnace.datasets.prepare.{module}.write_whole', stop_once)
        assert voc()[0] == 130
    assert [path.name for path in (tmp_path / 'dst').iterdir()] == ['.partial']
    assert voc()[0] == 0
    assert contents(tmp_path / 'dst') == contents(tmp_path / 'whole')


def test_link(voc, raw_voc, tmp_path):
    assert voc('--link')[0] == 0
    assert (tmp_path / 'dst/val/image/2007_000004.jpg').is_symlink()
    status, _, error = voc('--link', src=voc_archives(raw_voc, tmp_path / 'in'), dst='other')
    assert status == 2
    assert '--link needs it unpacked' in error


def _no_lists(raw_voc):
    shutil.rmtree(raw_voc / 'VOCdevkit/VOC2012/ImageSets')


def _no_val_label(raw_voc):
    for folder in 'VOCdevkit/VOC2012/SegmentationClass', 'SegmentationClassAug':
        (raw_voc / folder / '2007_000004.png').unlink()


def _no_images(raw_voc):
    shutil.rmtree(raw_voc / 'VOCdevkit/VOC2012/JPEGImages')


def _bad_ids(raw_voc):
    make_label(raw_voc / 'SegmentationClassAug/2009_000007.png', (0, 38, 75))


def _wrong_size(raw_voc):
    make_label(raw_voc / 'SegmentationClassAug/2009_000007.png', (0,), (6, 8))


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
def test_bad_downloads(voc, raw_voc, tmp_path, spoil, words):
    spoil(raw_voc)
    status, out, error = voc()
    assert (status, out) == (2, '')
    assert all(word in error for word in words)
    assert not (tmp_path / 'dst/train.txt').exists()


@needs_shared
def test_real_pairs(command, tmp_path):
    raw_voc = SHARED / 'voc_raw'
    sets = tmp_path / 'sets/ImageSets/Segmentation'
    sets.mkdir(parents=True)
    (sets / 'train.txt').write_text('2011_000006')
    (sets / 'val.txt').write_text('2011_000003\n2011_000025\n2007_000033')
    (tmp_path / 'more').mkdir()
    augmented = sorted((raw_voc / 'SegmentationClassAug').glob('2008*'))[:3]
    for path in augmented:
        with Image.open(path) as label:
            make_image(tmp_path / f'more/JPEGImages/{path.stem}.jpg', label.size)
    status, out, _ = command('voc', raw_voc, tmp_path / 'sets', tmp_path / 'more', tmp_path / 'dst')
    assert status == 0
    assert 'train_aug: 4 images' in out
    own = {path.name: path for path in (raw_voc / 'SegmentationClass').iterdir()}
    made = sorted((tmp_path / 'dst').rglob('label/*.png'))
    assert len(made) == 6
    for path in made:
        with Image.open(own.get(path.name, raw_voc / 'SegmentationClassAug' / path.name)) as original:
            assert original.mode == 'P'
            np.testing.assert_array_equal(read_label(path, 21), np.asarray(original))
