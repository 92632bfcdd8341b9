import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image
from samples import SHARED, needs_shared, refused, save

from furnace.datasets.classes import PASCAL_VOC
from furnace.datasets.images import image_size, read_image, read_label, read_pair
from furnace.utils.errors import UserError

RNG = np.random.default_rng(3)
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 8, 3), np.uint8), (64, 48))
IDS = np.resize(np.array([0, 1, 3, 2, 7], np.uint8), (6, 9))


def save_palette(path, ids, bits=8):
    image = Image.fromarray(ids)
    image.putpalette(list(range(255, 255 - 3 * 2 ** min(bits, 6), -1)))
    image.save(path, bits=bits)
    return path


def save_grey(path, ids, bits):
    """A grey PNG whose samples are the ids, in 1, 2, 4 or 8 bits."""
    height, width = ids.shape
    unpacked = (ids[:, :, None] >> np.arange(bits)[::-1]) & 1
    rows = np.packbits(unpacked.reshape(height, -1), axis=1)
    header = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    lines = b''.join(b'\0' + row.tobytes() for row in rows)
    chunks = (b'IHDR', header), (b'IDAT', zlib.compress(lines)), (b'IEND', b'')
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + b''.join(struct.pack('>I', len(c)) + k + c + struct.pack('>I', zlib.crc32(k + c)) for k, c in chunks)
    )
    return path


def test_channels_are_rgb(tmp_path):
    image = np.zeros((6, 8, 3), np.uint8)
    image[...] = 250, 130, 10
    for suffix in 'png', 'bmp', 'tif':
        read = read_image(save(tmp_path / f'x.{suffix}', image))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, image)
    np.testing.assert_allclose(read_image(save(tmp_path / 'x.jpg', image)).astype(int), image, atol=4)


def test_png_is_read_exactly(tmp_path):
    np.testing.assert_array_equal(read_image(save(tmp_path / 'x.png', SMOOTH)), SMOOTH)


def test_grey_alpha_and_palette_images_have_three_channels(tmp_path):
    grey = SMOOTH[..., 0]
    np.testing.assert_array_equal(read_image(save(tmp_path / 'grey.png', grey)), np.stack([grey] * 3, 2))
    alpha = np.concatenate([SMOOTH, grey[..., None]], 2)
    np.testing.assert_array_equal(read_image(save(tmp_path / 'alpha.png', alpha)), SMOOTH)
    with Image.open(save_palette(tmp_path / 'palette.png', IDS)) as image:
        colors = np.array(image.convert('RGB'))
    np.testing.assert_array_equal(read_image(tmp_path / 'palette.png'), colors)


@pytest.mark.parametrize('suffix', ['png', 'jpg', 'bmp', 'webp'])
@pytest.mark.parametrize('share', [0.05, 0.5, 0.95, 0.99])
def test_truncated_image(tmp_path, suffix, share):
    path = save(tmp_path / f'x.{suffix}', SMOOTH)
    assert read_image(path).shape == SMOOTH.shape
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    text = refused(read_image, path)
    if suffix == 'jpg' and share > 0.9:  # OpenCV 4 decodes it, with a grey rest
        assert text == f'{path}: the image is truncated'


def test_truncated_jpeg_with_a_thumbnail(tmp_path):
    data = save(tmp_path / 'x.jpg', SMOOTH).read_bytes()
    thumbnail = save(tmp_path / 'small.jpg', SMOOTH[::4, ::4]).read_bytes()
    data = data[:2] + b'\xff\xe1' + struct.pack('>H', 2 + len(thumbnail)) + thumbnail + data[2:]
    path = tmp_path / 'x.jpg'
    for whole in data, data + b'bytes after the end':
        path.write_bytes(whole)
        assert read_image(path).shape == SMOOTH.shape
    path.write_bytes(data[:-40])
    assert refused(read_image, path) == f'{path}: the image is truncated'


def test_what_follows_the_end_of_a_jpeg_does_not_matter(tmp_path):
    """Some cameras add a film, or data of their own."""
    path = save(tmp_path / 'x.jpg', SMOOTH)
    image, data = read_image(path), path.read_bytes()
    for tail in (b'\xff\xda and more', data[: len(data) // 2]):
        path.write_bytes(data + tail)
        np.testing.assert_array_equal(read_image(path), image)


def test_a_progressive_jpeg(tmp_path):
    path = tmp_path / 'x.jpg'
    Image.fromarray(SMOOTH).save(path, progressive=True)
    assert read_image(path).shape == SMOOTH.shape
    data = path.read_bytes()
    assert data.count(b'\xff\xda') > 2
    path.write_bytes(data[:-40])
    assert refused(read_image, path) == f'{path}: the image is truncated'
    path.write_bytes(data[:2] + b'\xff' + data[2:])  # a mark may be longer
    assert read_image(path).shape == SMOOTH.shape


@pytest.mark.parametrize('read', [read_image, lambda path: read_label(path, 5)])
@pytest.mark.parametrize('content', [b'', b'no image', b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff', b'BM', bytes(2000)])
def test_no_image(tmp_path, read, content):
    path = tmp_path / 'x.png'
    path.write_bytes(content)
    refused(read, path)
    refused(image_size, path)


@pytest.mark.parametrize('read', [read_image, lambda path: read_label(path, 5)])
def test_missing_files_and_folders(tmp_path, read):
    assert 'No such file' in refused(read, tmp_path / 'x.png')
    assert 'cannot be read: ' in refused(read, tmp_path)


def test_image_size_is_width_and_height(tmp_path):
    assert image_size(save(tmp_path / 'x.png', SMOOTH)) == (64, 48)


def test_grey_label(tmp_path):
    label = read_label(save(tmp_path / 'x.png', IDS), 8)
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, IDS)


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_palette_label_gives_ids(tmp_path, bits):
    ids = IDS & np.uint8(2**bits - 1)
    path = save_palette(tmp_path / 'x.png', ids, bits)
    assert path.read_bytes()[24] == bits  # the depth in the header
    np.testing.assert_array_equal(read_label(path, 8), ids)


def test_palette_with_transparency(tmp_path):
    image = Image.fromarray(IDS)
    image.putpalette(range(48))
    image.save(tmp_path / 'x.png', transparency=0)
    np.testing.assert_array_equal(read_label(tmp_path / 'x.png', 8), IDS)


def test_grey_label_of_few_bits_is_refused(tmp_path):
    np.testing.assert_array_equal(read_label(save_grey(tmp_path / 'x.png', IDS, 8), 8), IDS)
    for bits in 2, 4:
        path = save_grey(tmp_path / 'x.png', IDS & np.uint8(2**bits - 1), bits)
        assert f'{bits} bits' in refused(read_label, path, 256)
    assert 'mode 1' in refused(read_label, save_grey(tmp_path / 'x.png', IDS % 2, 1), 256)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', '1', 'I;16'])
def test_other_modes_are_refused(tmp_path, mode):
    image = Image.fromarray(IDS.astype(np.uint16)) if mode == 'I;16' else Image.fromarray(IDS).convert(mode)
    image.save(tmp_path / 'x.png')
    # Older Pillow calls 16 bits I.
    assert f'one 8-bit channel of class ids, this has mode {mode[0]}' in refused(read_label, tmp_path / 'x.png', 256)


def test_truncated_label(tmp_path):
    path = save(tmp_path / 'x.png', RNG.integers(0, 8, (40, 50)).astype(np.uint8))
    data = path.read_bytes()
    for length in range(1, len(data) - 25, 37):
        path.write_bytes(data[:length])
        refused(read_label, path, 8)


@pytest.mark.parametrize('num_classes', [2, 19, 254, 255])
def test_ids_in_range(tmp_path, num_classes):
    ids = np.array([[0, num_classes - 1, 255]], np.uint8)
    np.testing.assert_array_equal(read_label(save(tmp_path / 'x.png', ids), num_classes), ids)
    void = np.full((2, 2), 255, np.uint8)
    np.testing.assert_array_equal(read_label(save(tmp_path / 'x.png', void), num_classes), void)
    if num_classes < 255:
        ids[0, 0] = num_classes
        assert f'class ids {num_classes} outside' in refused(read_label, save(tmp_path / 'x.png', ids), num_classes)


def test_ids_out_of_range_are_named_with_a_hint(tmp_path):
    path = save(tmp_path / 'x.png', np.array([[0, 18, 33, 19], [254, 33, 255, 7]], np.uint8))
    assert refused(read_label, path, 19) == (
        f'{path}: has class ids 19, 33, 254 outside 0 … 18 and 255; '
        'are these raw label ids instead of train ids, or is num_classes too small?'
    )


def test_pair(tmp_path):
    image = save(tmp_path / 'i.png', SMOOTH[:6, :9])
    read = read_pair(str(image), str(save(tmp_path / 'l.png', IDS)), 8)
    np.testing.assert_array_equal(read[0], SMOOTH[:6, :9])
    np.testing.assert_array_equal(read[1], IDS)
    label = save(tmp_path / 'l.png', IDS.T.copy())
    with pytest.raises(UserError) as error:
        read_pair(str(image), str(label), 8)
    assert str(error.value) == f'{label}: is 6x9 pixels, its image {image} is 9x6'


@needs_shared
def test_real_voc_labels():
    palette = PASCAL_VOC.palette()
    palette[255] = 224, 224, 192  # VOC's own colour of void
    paths = sorted((SHARED / 'voc_raw/SegmentationClass').glob('*.png'))
    paths += sorted((SHARED / 'voc_raw/SegmentationClassAug').glob('*.png'))
    assert len(paths) == 206
    seen, palettes = set(), 0
    for path in paths:
        ids = read_label(path, 21)
        seen |= set(np.unique(ids))
        with Image.open(path) as image:
            if image.mode == 'P':
                palettes += 1
                np.testing.assert_array_equal(palette[ids], np.array(image.convert('RGB')), str(path))
    assert palettes >= 3
    assert seen == {*range(21), 255}


@needs_shared
def test_real_voc_pairs():
    for path in sorted((SHARED / 'voc_raw/JPEGImages').glob('*.jpg')):
        image, label = read_pair(str(path), str(SHARED / f'voc_raw/SegmentationClass/{path.stem}.png'), 21)
        assert image.shape[:2] == label.shape == image_size(path)[::-1]
        with Image.open(path) as pillow:
            difference = np.abs(image.astype(int) - np.array(pillow))
        assert difference.mean() < 1  # the two decoders; swapped channels differ by far more


@needs_shared
def test_real_cityscapes_labels():
    names = sorted(
        path.name.removesuffix('_leftImg8bit.png') for path in (SHARED / 'cityscapes_raw').rglob('*8bit.png')
    )
    assert len(names) == 6
    for name in names[:2]:
        image = SHARED / f'cityscapes_raw/leftImg8bit/train/aachen/{name}_leftImg8bit.png'
        train_ids = SHARED / f'cityscapes_raw/expected_trainids/{name}_gtFine_labelTrainIds.png'
        raw = SHARED / f'cityscapes_raw/gtFine/train/aachen/{name}_gtFine_labelIds.png'
        _, label = read_pair(str(image), str(train_ids), 19)
        assert label.shape == (1024, 2048)
        assert set(np.unique(label)) <= {*range(19), 255}
        assert 'raw label ids instead of train ids' in refused(read_label, raw, 19)
