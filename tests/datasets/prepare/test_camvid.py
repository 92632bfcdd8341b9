import json

import numpy as np
import pytest
from PIL import Image
from raw import lines_of, make_image, make_label
from samples import SHARED, needs_shared, save

from furnace.datasets.classes import read_classes
from furnace.datasets.find import SPLITS
from furnace.datasets.images import read_label
from furnace.datasets.prepare.camvid import CAMVID

FRAMES = {
    'train': ('0001TP_006690', '0001TP_008520', '0006R0_f00930', '0016E5_07920', '0016E5_08190'),
    'val': ('0016E5_07959', '0016E5_08159'),
    'test': ('0001TP_008550', 'Seq05VD_f00000'),
}
# Each of the 32 classes with its colour, in the order of the ids that the 11 classes give them, void last.
COLORS = {
    'Sky': (128, 128, 128), 'Archway': (192, 0, 128), 'Bridge': (0, 128, 64), 'Building': (128, 0, 0),
    'Tunnel': (64, 0, 64), 'Wall': (64, 192, 0), 'Column_Pole': (192, 192, 128), 'TrafficCone': (0, 0, 64),
    'LaneMkgsDriv': (128, 0, 192), 'LaneMkgsNonDriv': (192, 0, 64), 'Road': (128, 64, 128),
    'ParkingBlock': (64, 192, 128), 'RoadShoulder': (128, 128, 192), 'Sidewalk': (0, 0, 192), 'Tree': (128, 128, 0),
    'VegetationMisc': (192, 192, 0), 'Misc_Text': (128, 128, 64), 'SignSymbol': (192, 128, 128),
    'TrafficLight': (0, 64, 64), 'Fence': (64, 64, 128), 'Car': (64, 0, 128), 'OtherMoving': (128, 64, 64),
    'SUVPickupTruck': (64, 128, 192), 'Train': (192, 64, 128), 'Truck_Bus': (192, 128, 192), 'Animal': (64, 128, 64),
    'CartLuggagePram': (64, 0, 192), 'Child': (192, 128, 64), 'Pedestrian': (64, 64, 0), 'Bicyclist': (0, 128, 192),
    'MotorcycleScooter': (192, 0, 192), 'Void': (0, 0, 0),
}  # fmt: skip
IDS = [0, *[1] * 5, *[2] * 2, *[3] * 3, *[4] * 3, *[5] * 2, *[6] * 3, 7, *[8] * 5, *[9] * 4, *[10] * 2, 255]


def _by_folder(src, images, labels, void):
    for split, names in FRAMES.items():
        for name in names:
            make_image(src / images.format(split) / f'{name}.png')
            make_label(src / labels.format(split) / f'{name}.png', [void if i == 255 else i for i in IDS])


def _original(src):
    pixels = np.resize(np.array(list(COLORS.values()), np.uint8), (6, 8, 3))
    for name in (name for names in FRAMES.values() for name in names):
        make_image(src / f'701_StillsRaw_full/{name}.png')
        save(src / f'LabeledApproved_full/{name}_L.png', pixels)
    lines = [f'{r} {g} {b}\t\t{name}\r\n' for name, (r, g, b) in COLORS.items()]
    (src / 'label_colors.txt').write_text(''.join(reversed(lines)))


@pytest.mark.parametrize('form', ['plain', 'SegNet', 'original'])
def test_forms(command, tmp_path, form):
    src, dst = tmp_path / 'src', tmp_path / 'dst'
    if form == 'original':
        _original(src)
    else:
        _by_folder(src, *(('images/{}', 'labels/{}', 255) if form == 'plain' else ('{}', '{}annot', 11)))
    status, out, _ = command('camvid', src, dst)
    assert status == 0
    assert 'C.num_classes = 11' in out
    for split in SPLITS:
        assert lines_of(dst / f'config_new/{split}.txt') == [
            f'/images/{split}/{name}.png\t/segmentation/{split}/{name}.png' for name in sorted(FRAMES[split])
        ]
        for name in FRAMES[split]:
            np.testing.assert_array_equal(
                read_label(dst / f'segmentation/{split}/{name}.png', 11), np.resize(np.array(IDS, np.uint8), (6, 8))
            )
    assert read_classes(dst / 'classes.json') == CAMVID
    assert 'nothing to do' in command('camvid', src, dst)[1]


def test_stray_colours_are_void(command, tmp_path):
    _original(tmp_path / 'src')
    path = tmp_path / 'src/LabeledApproved_full/0016E5_07959_L.png'
    with Image.open(path) as label:
        label.putpixel((0, 0), (1, 2, 3))
        label.save(path)
    assert command('camvid', tmp_path / 'src', tmp_path / 'dst')[0] == 0
    assert read_label(tmp_path / 'dst/segmentation/val/0016E5_07959.png', 11)[0, 0] == 255


def _other_folders(src):
    (src / 'label_colors.txt').rename(src / 'colors.txt')


def _no_wall(src):
    (src / 'label_colors.txt').write_text((src / 'label_colors.txt').read_text().replace('Wall', 'Walls'))


def _no_table(src):
    (src / 'label_colors.txt').write_text('nonsense')


def _no_val(src):
    for name in FRAMES['val']:
        (src / f'701_StillsRaw_full/{name}.png').unlink()


@pytest.mark.parametrize(
    'spoil, words',
    [
        (_other_folders, 'is no CamVid: expected images/train'),
        (_no_wall, 'label_colors.txt: has no colour for Wall'),
        (_no_table, 'label_colors.txt: expected lines'),
        (_no_val, 'no images for val'),
    ],
)
def test_bad_downloads(command, tmp_path, spoil, words):
    _original(tmp_path / 'src')
    spoil(tmp_path / 'src')
    status, out, error = command('camvid', tmp_path / 'src', tmp_path / 'dst')
    assert (status, out) == (2, '')
    assert words in error
    assert not (tmp_path / 'dst').exists()


@needs_shared
def test_real_frames_are_of_the_usual_split(tmp_path, command):
    """The original's flat folders, made of the real names: the split by sequences gives the published one."""
    camvid, src = SHARED / 'camvid', tmp_path / 'src'
    _original(src)
    images = {split: sorted((camvid / 'images' / split).iterdir())[::8] for split in ('train', 'val')}
    pixels = np.zeros((6, 8, 3), np.uint8)
    for path in [path for paths in images.values() for path in paths]:
        make_image(src / f'701_StillsRaw_full/{path.stem}.png')
        save(src / f'LabeledApproved_full/{path.stem}_L.png', pixels)
    assert command('camvid', src, tmp_path / 'dst')[0] == 0
    for split, paths in images.items():
        stems = {line.split('\t')[0].split('/')[-1][:-4] for line in lines_of(tmp_path / f'dst/config_new/{split}.txt')}
        assert stems == {path.stem for path in paths} | set(FRAMES[split])
    content = json.loads((camvid / 'classes.json').read_text())
    assert (list(CAMVID.names), list(map(list, CAMVID.colors))) == (content['names'], content['colors'])
