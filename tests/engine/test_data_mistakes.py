"""Mistakes in the lists, images and labels: one line that names the file, exit status 2."""

import numpy as np
import pytest
from PIL import Image

LABELED = 'config_new/subset_train/train_aug_labeled_1-2.txt'
UNLABELED = 'config_new/subset_train/train_aug_unlabeled_1-2.txt'
VAL = 'config_new/val.txt'


# Lists


@pytest.mark.parametrize(
    ('script', 'name'), [('train.py', LABELED), ('train.py', UNLABELED), ('eval.py', VAL)], ids=['x', 'u', 'val']
)
class TestLists:
    @pytest.fixture
    def arguments(self, trained):
        return {'snapshot_dir': trained / 'snapshot'}

    def test_missing(self, refused, data, arguments, script, name):
        (data / name).unlink()
        assert refused(script, dataset_path=data, **arguments) == f'{data / name}: no such list'

    def test_empty(self, refused, data, arguments, script, name):
        (data / name).write_text('\n \n')
        assert refused(script, dataset_path=data, **arguments) == f'{data / name}: the list is empty'

    def test_missing_image(self, refused, data, arguments, script, name):
        images = [line.split('\t')[0].strip() for line in (data / name).read_text().splitlines()]
        for image in images[:2]:
            (data / image[1:]).unlink()
        files = len(images) * (1 if name == UNLABELED else 2)
        assert refused(script, dataset_path=data, **arguments) == (
            f'{data / name}: 2 of {files} files are missing: {data}{images[0]}, {data}{images[1]}'
        )


@pytest.mark.parametrize(('script', 'name', 'lines'), [('train.py', LABELED, 6), ('eval.py', VAL, 3)])
def test_line_without_a_label(refused, data, trained, script, name, lines):
    path = data / name
    first, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(first.split('\t')[0] + '\n' + ''.join(rest))
    item = first.split('\t')[0].split('/')[-1].removesuffix('.png')
    assert refused(script, dataset_path=data, snapshot_dir=trained / 'snapshot') == (
        f'{path}: 1 of {lines} lines have no label file: {item}'
    )


@pytest.mark.parametrize(('script', 'name', 'files'), [('train.py', LABELED, 12), ('eval.py', VAL, 6)])
def test_missing_label(refused, data, trained, script, name, files):
    label = (data / name).read_text().split()[1]
    (data / label[1:]).unlink()
    assert refused(script, dataset_path=data, snapshot_dir=trained / 'snapshot') == (
        f'{data / name}: 1 of {files} files are missing: {data}{label}'
    )


# Images and labels: they are opened only when their turn comes


def break_file(path):
    path.write_bytes(b'no image')


def other_size(path):
    Image.fromarray(np.zeros((48, 65), np.uint8)).save(path)


def raw_ids(path):
    Image.fromarray(np.full((48, 64), 3, np.uint8)).save(path)


@pytest.mark.parametrize(('script', 'split'), [('train.py', 'train'), ('eval.py', 'val')])
@pytest.mark.parametrize(
    ('kind', 'damage', 'workers', 'says'),
    [
        ('images', break_file, 0, 'is not an image that can be decoded'),
        ('images', break_file, 1, 'is not an image that can be decoded'),
        ('segmentation', break_file, 0, 'is not an image that can be decoded'),
        ('segmentation', other_size, 0, 'is 65x48 pixels, its image'),
        ('segmentation', raw_ids, 0, 'has class ids 3 outside 0 … 2 and 255'),
    ],
    ids=['image', 'by a worker', 'label', 'size', 'ids'],
)
def test_damaged_files(demo, log, data, trained, no_work, script, split, kind, damage, workers, says):
    for path in sorted((data / kind / split).iterdir()):
        damage(path)
    snapshots = {} if script == 'train.py' else {'snapshot_dir': trained / 'snapshot'}
    outcome = demo.call(script, log, dataset_path=data, num_workers=workers, **snapshots)
    assert outcome.status == 2
    assert 'Traceback' not in outcome.stderr
    *progress, last = outcome.stderr.splitlines()
    assert last.startswith(f'error: {data}/{kind}/{split}/')
    assert says in last
    assert all('error' not in line for line in progress)
    assert no_work == []
    assert not list(log.glob('val_last.json'))


def test_unlabelled_images_need_no_labels(demo, log, data, no_work):
    for line in (data / UNLABELED).read_text().split():
        label = line.replace('images', 'segmentation').replace('.png', '_gtFine.png')
        (data / label[1:]).unlink()
    assert demo.call('train.py', log, dataset_path=data, nepochs=1).status == 0


def test_one_image_cannot_be_mixed(refused, data):
    path = data / 'config_new' / 'subset_train' / 'train_aug_unlabeled_1-2.txt'
    path.write_text(path.read_text().splitlines()[0])
    assert refused('train.py', dataset_path=data).startswith(f'{path}: CutMix needs two images or more')
