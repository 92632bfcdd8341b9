"""Images and videos without labels: which are found, under which names, and what is read."""

import cv2
import numpy as np
import pytest
from PIL import Image
from samples import save

from furnace.datasets.inputs import Picture, Source, ahead, count, find_sources, read
from furnace.utils.errors import UserError

SIZE = (24, 40)
ROWS, COLUMNS = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.uint8)
IMAGE = np.stack([COLUMNS * 6, ROWS * 9, 255 - COLUMNS * 4], axis=2)


def write_video(path, frames=7):
    """Frame i is grey of the value 30 i (modulo 256)."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 2, (32, 16))
    assert video.isOpened()
    for i in range(frames):
        video.write(np.full((16, 32, 3), 30 * i % 256, np.uint8))
    video.release()
    return path


def names(*inputs):
    return [source.name for source in find_sources(map(str, inputs))[0]]


def only(path):
    (picture,) = read([Source(path, 'x')])
    return picture.image


# What is found


@pytest.fixture
def tree(tmp_path):
    for name in ('b.png', 'a/x.PNG', 'a/deep/y.jpg', '.hidden/z.png', 'a/._x.png', 'notes.txt', 'a/film.mp4'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'photos'


def test_folder(tree):
    assert names(tree) == ['photos/a/deep/y', 'photos/a/x', 'photos/b', 'photos/a/film']


def test_folder_of_the_shell(tree, monkeypatch):
    monkeypatch.chdir(tree / 'a')
    assert names('.') == ['a/deep/y', 'a/x', 'a/film']


def test_patterns_and_files(tree):
    assert names(tree / '*.*') == ['b', 'notes']
    assert names(tree / '**' / '*.jpg', tree / 'a' / 'x.PNG') == ['y', 'x']
    assert names(tree / 'a' / 'd*') == ['deep/y']  # a folder


def test_a_file_counts_once(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert names(tree / 'b.png', 'a/../b.png', tree) == ['b', 'photos/a/deep/y', 'photos/a/x', 'photos/a/film']


def test_links(tree, tmp_path):
    (tree / 'link.png').symlink_to(tree / 'b.png')
    save(tmp_path / 'elsewhere' / 'z.png', IMAGE)
    (tree / 'a' / 'more').symlink_to(tmp_path / 'elsewhere')
    (tree / 'a' / 'loop').symlink_to(tree)
    (tmp_path / 'album').symlink_to(tree)
    images = ['a/deep/y', 'a/more/z', 'a/x', 'b', 'link', 'a/film']
    assert names(tmp_path / 'album') == [f'album/{name}' for name in images]


def test_the_folder_above(tree, monkeypatch):
    monkeypatch.chdir(tree / 'a' / 'deep')
    assert names('..') == ['a/deep/y', 'a/x', 'a/film']


def test_no_two_have_one_name(tmp_path):
    for name in ('1/x.png', '1/x.jpg', '1/x_2.png', '2/X.png', '1/film.png', '1/film.avi', '1/sub/film.mp4/000000.png'):
        save(tmp_path / 'source.png', IMAGE[:4, :4])
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((tmp_path / 'source.png').read_bytes())
    (tmp_path / '1' / 'sub' / 'film.mp4.avi').touch()
    sources, notes = find_sources(
        [str(tmp_path / '1'), str(tmp_path / '1' / '..' / '2' / 'X.png'), str(tmp_path / '1')]
    )
    found = {source.path.relative_to(tmp_path).as_posix(): source.name for source in sources}
    assert found == {
        '1/film.png': '1/film',
        '1/sub/film.mp4/000000.png': '1/sub/film.mp4/000000',
        '1/x.jpg': '1/x',
        '1/x.png': '1/x_2',
        '1/x_2.png': '1/x_2_2',
        '1/../2/X.png': 'X',
        '1/film.avi': '1/film_2',
        '1/sub/film.mp4.avi': '1/sub/film.mp4_2',  # not into the folder of that image
    }
    assert len(notes) == 4
    assert f'{tmp_path}/1/x.png: saved as 1/x_2, because 1/x is taken' in notes


def test_case_does_not_tell_names_apart(tree):
    save(tree / 'other' / 'B.png', IMAGE)
    assert names(tree / 'b.png', tree / 'other' / 'B.png') == ['b', 'B_2']


def test_nothing_there(tmp_path):
    for text in ('none.png', '*.png'):
        with pytest.raises(UserError, match='no such file or folder'):
            find_sources([str(tmp_path / text)])
    with pytest.raises(UserError, match='holds no image or video'):
        find_sources([str(tmp_path)])


# What is read


def alpha(value):
    return np.dstack([IMAGE, np.full(SIZE, value, np.uint8)])


def grey16(folder):
    cv2.imwrite(str(folder / 'x.png'), IMAGE[..., 0].astype(np.uint16) * 256 + 255)
    return folder / 'x.png'


def colour16(folder, suffix):
    cv2.imwrite(str(folder / f'x{suffix}'), IMAGE[..., ::-1].astype(np.uint16) * 257)
    return folder / f'x{suffix}'


def pillow(folder, suffix, mode='RGB', **options):
    Image.fromarray(IMAGE).convert(mode).save(folder / f'x{suffix}', **options)
    return folder / f'x{suffix}'


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # show it turned by 90° clockwise
    return exif


GREY = np.asarray(Image.fromarray(IMAGE).convert('L'))[..., None].repeat(3, axis=2)


@pytest.mark.parametrize(
    ('write', 'want', 'tolerance'),
    [
        (lambda folder: pillow(folder, '.png', 'L'), GREY, 0),
        (lambda folder: save(folder / 'x.png', alpha(90)), IMAGE, 0),  # transparency does not count
        (lambda folder: save(folder / 'x.png', alpha(0)), IMAGE, 0),
        (grey16, IMAGE[..., :1].repeat(3, axis=2), 0),
        (lambda folder: colour16(folder, '.png'), IMAGE, 0),
        (lambda folder: colour16(folder, '.tif'), IMAGE, 0),
        (lambda folder: pillow(folder, '.jpg', 'CMYK', quality=100), IMAGE, 4),
        (lambda folder: pillow(folder, '.tif', 'CMYK'), IMAGE, 2),
        (lambda folder: pillow(folder, '.webp', lossless=True), IMAGE, 0),
        (lambda folder: pillow(folder, '.jpg', quality=100, subsampling=0, exif=turned()), np.rot90(IMAGE, -1), 4),
    ],
    ids=['grey', 'alpha', 'transparent', 'grey16', '16', '16tif', 'cmyk.jpg', 'cmyk.tif', 'webp', 'exif'],
)
def test_forms_of_images(tmp_path, write, want, tolerance):
    image = only(write(tmp_path))
    assert (image.dtype, image.shape) == (np.uint8, want.shape)
    assert np.abs(image.astype(int) - want).max() <= tolerance


@pytest.mark.parametrize(('every', 'numbers'), [(1, range(7)), (3, (0, 3, 6)), (10, (0,))])
def test_video(tmp_path, every, numbers):
    source = Source(write_video(tmp_path / 'film.avi'), 'a/film')
    pictures = list(read([source], every))
    assert [picture.name for picture in pictures] == [f'a/film/{number:06d}' for number in numbers]
    assert [picture.image.shape for picture in pictures] == [(16, 32, 3)] * len(numbers)
    means = [picture.image.mean() for picture in pictures]
    assert means == pytest.approx([30 * number for number in numbers], abs=3)
    assert count([source, Source(tmp_path / 'x.png', 'x')], every) == len(numbers) + 1


def test_broken_ones_do_not_stop_the_others(tmp_path):
    good = save(tmp_path / 'good.png', IMAGE)
    paths = {name: tmp_path / name for name in ('bad.png', 'bad.mp4', 'cut.avi')}
    paths['bad.png'].write_bytes(good.read_bytes()[:40])
    paths['bad.mp4'].write_bytes(b'no video')
    whole = write_video(paths['cut.avi'], 40).read_bytes()
    paths['cut.avi'].write_bytes(whole[: len(whole) // 2])
    found = list(ahead(read([Source(path, path.stem) for path in (*paths.values(), good)])))
    errors = [str(error) for error in found if isinstance(error, UserError)]
    assert [error.split(': ')[0] for error in errors] == [str(path) for path in paths.values()]
    assert 'is not an image' in errors[0]
    assert 'is not a video' in errors[1]
    assert 'breaks off after' in errors[2]
    assert errors[2].endswith(' of 40 frames')
    np.testing.assert_array_equal(found[-1].image, IMAGE)
    assert sum(isinstance(picture, Picture) and picture.name.startswith('cut/') for picture in found) > 5


def test_read_ahead_but_not_far():
    made = []

    def pictures():
        for i in range(100):
            made.append(i)
            yield i

    pictures = ahead(pictures())
    assert [next(pictures) for _ in range(10)] == list(range(10))
    pictures.close()
    assert 10 < len(made) < 20
