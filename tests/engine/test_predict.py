"""eval.py -i: one's own images, without labels or a data set."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import COLORS

import furnace
from furnace.base_model import load_file

OPTIONS = {'eval_scale_array': [1, 0.75], 'eval_flip': True, 'eval_crop_size': 33}  # with overlapping windows


def array(path, mode='L'):
    with Image.open(path) as image:
        assert image.mode == mode
        return np.array(image)


def pngs(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*.png'))


@pytest.fixture
def photos(demo, tmp_path):
    """Three images of 64x48 pixels in a folder, and what is no image."""
    folder = tmp_path / 'photos'
    (folder / 'b').mkdir(parents=True)
    for number, name in enumerate(('a', 'b/a', 'c')):
        (folder / f'{name}.png').write_bytes((demo.data / f'images/val/val_0{number}.png').read_bytes())
    return folder


@pytest.fixture
def nothing_written(demo, log):
    yield
    assert not log.exists()


def test_labels_are_those_of_scoring(demo, log, shallow, photos, tmp_path):
    out = tmp_path / 'out'
    for arguments in (('-s', '-p', tmp_path / 'scored'), ('-i', photos, '-p', out)):
        outcome = demo.call('eval.py', log, '-e', shallow, '--branch', '2', *arguments, **OPTIONS)
        assert outcome.status == 0, outcome.stderr
    found = ['photos/a.png', 'photos/b/a.png', 'photos/c.png']
    assert pngs(out) == [f'{part}/{name}' for part in ('confidence', 'label', 'overlay') for name in found]
    model = furnace.load(shallow, branch=2)
    model.settings.update(OPTIONS)
    for number, name in enumerate(found):
        label = array(out / 'label' / name, 'P')
        np.testing.assert_array_equal(label, array(tmp_path / 'scored' / 'raw' / f'val_0{number}.png'))
        assert len(np.unique(label)) == 3
        colours = np.array(COLORS, np.uint8)[label]
        np.testing.assert_array_equal(np.array(Image.open(out / 'label' / name).convert('RGB')), colours)
        image = array(photos.parent / name, 'RGB')
        overlay = array(out / 'overlay' / name, 'RGB')
        np.testing.assert_allclose(overlay, (image.astype(float) + colours) / 2, atol=1)
        want, confidence = model.predict(image)
        np.testing.assert_array_equal(label, want)
        written = array(out / 'confidence' / name)
        np.testing.assert_allclose(written, 255 * confidence, atol=0.5001)
        assert written.min() >= 85  # 1/3: the greatest of three
        assert written.max() > written.min() + 20


def test_default_folder_without_a_data_set(demo, log, shallow, photos, tmp_path):
    for _ in range(2):
        outcome = demo.call('eval.py', log, '-e', shallow, '-i', photos / 'a.png', dataset_path=tmp_path / 'none')
        assert outcome.status == 0, outcome.stderr
    folders = sorted((log / 'pred_imgs').iterdir())
    assert len(folders) == 2  # the second run leaves the first alone
    assert all(re.match(r'images_\d{4}_', folder.name) for folder in folders)
    assert all(pngs(folder) == ['confidence/a.png', 'label/a.png', 'overlay/a.png'] for folder in folders)
    assert str(folders[-1]) in outcome.stdout
    assert [path.name for path in log.iterdir()] == ['pred_imgs']


def test_broken_images(demo, log, shallow, photos, tmp_path):
    (photos / 'b' / 'a.png').write_bytes(b'no image')
    outcome = demo.call('eval.py', log, '-e', shallow, '-i', photos, '-p', tmp_path / 'out')
    assert outcome.status == 1
    assert outcome.stdout.startswith('2 images segmented; ')
    assert outcome.stderr.splitlines()[-1].endswith(
        f'error: 1 of 3 inputs could not be read: {photos}/b/a.png: is not an image that can be decoded'
    )
    assert pngs(tmp_path / 'out' / 'label') == ['photos/a.png', 'photos/c.png']


def test_a_folder_in_use(demo, log, shallow, photos, tmp_path):
    out = tmp_path / 'out'
    old = out / 'label' / 'photos' / 'a.png'
    old.parent.mkdir(parents=True)
    old.write_bytes(b'old')
    arguments = ('-e', shallow, '-i', photos, '-p', out)
    outcome = demo.call('eval.py', log, *arguments)
    assert (outcome.status, outcome.stdout) == (2, '')
    assert outcome.stderr == f'error: {out}: is not empty; -p names another folder, --force writes into this one\n'
    assert pngs(out) == ['label/photos/a.png']
    assert demo.call('eval.py', log, *arguments, '--force').status == 0
    assert array(old, 'P').shape == (48, 64)


@pytest.mark.parametrize(('name', 'says'), [('b', 'File exists'), ('c.png', 'Is a directory')])
def test_one_picture_that_cannot_be_written(demo, log, shallow, photos, tmp_path, name, says):
    """The second or the last of three: a file lies where a folder is needed, or the other way round."""
    place = tmp_path / 'out' / 'overlay' / 'photos' / name
    place.mkdir(parents=True)
    if name == 'b':
        place.rmdir()
        place.touch()
    outcome = demo.call('eval.py', log, '-e', shallow, '-i', photos, '-p', tmp_path / 'out', '--force')
    assert (outcome.status, outcome.stdout) == (2, '')
    assert outcome.stderr.splitlines()[-1].endswith(f'error: {tmp_path}/out: the pictures cannot be written: {says}')


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['--branch', 'both', '-i', 'PHOTOS'], '-i takes one branch: --branch 1, as published, or 2'),
        (['--branch', 'both', '--export', 'x.pt2'], '--export takes one branch'),
        (['-i', 'PHOTOS', '--report'], '-i scores nothing that --report could show'),
        (['--export', 'x.pt2', '--report'], '--export scores nothing that --report could show'),
        (['-i', 'PHOTOS', '--every', '0'], '--every 0: must be at least 1'),
        (['-i', 'PHOTOS/none.png'], 'PHOTOS/none.png: no such file or folder'),
        (['-i', 'PHOTOS', 'labelled=3'], 'labelled: no such setting'),
        (['-i'], '-i: names no file or folder'),  # only settings follow
        (['-i', 'PHOTOS', '-d', '0-1'], '-i runs in one process, on one device'),
        (['-i', 'PHOTOS', '--export', 'x.pt2'], 'not allowed with argument -i'),
        (['-i', 'PHOTOS', '-s'], 'not allowed with argument -i'),
    ],
)
def test_refused(demo, log, shallow, photos, monkeypatch, nothing_written, arguments, says):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    arguments = [text.replace('PHOTOS', str(photos)) for text in arguments]
    device = [] if '-d' in arguments else ['-d', 'cpu']
    outcome = demo.call('eval.py', log, '-e', shallow, *device, *arguments)
    assert (outcome.status, outcome.stdout) == (2, '')
    assert says.replace('PHOTOS', str(photos)) in outcome.stderr.splitlines()[-1]


def test_several_checkpoints(demo, log, photos, tmp_path, nothing_written):
    for epoch in (1, 2):
        (tmp_path / f'epoch-{epoch}.pth').touch()
    outcome = demo.call('eval.py', log, '-e', '1-', '-i', photos, snapshot_dir=tmp_path)
    assert outcome.status == 2
    assert outcome.stderr == 'error: -i takes one checkpoint, -e 1- means 2\n'


def test_checkpoint_without_class_names(demo, log, shallow, photos, tmp_path):
    """As those of CPCL and CPS: the experiment's are used."""
    torch.save({'model': load_file(shallow)['model']}, tmp_path / 'x.pth')
    arguments = ('-e', tmp_path / 'x.pth', '-i', photos / 'a.png', '-p', tmp_path / 'out')
    outcome = demo.call('eval.py', log, *arguments, dataset_path=tmp_path)
    assert outcome.stderr.startswith(f'error: {tmp_path}/classes.json: no such file')
    assert demo.call('eval.py', log, *arguments).status == 0
    assert Image.open(tmp_path / 'out' / 'label' / 'a.png').getpalette()[:3] == list(COLORS[0])
