import os
from pathlib import Path

import pytest
from samples import SHARED, needs_shared

from furnace.datasets.lists import (
    Item,
    cityscapes_items,
    place_lists,
    read_lines,
    require_files,
    require_labels,
    role,
    voc_items,
)
from furnace.utils.errors import UserError

SPLITS = SHARED / 'splits'


@pytest.fixture
def write(tmp_path):
    def write(content, name='list.txt'):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    'content',
    [
        b'a\nb b\n',
        b'a\nb b',
        b'a\r\nb b\r\n',
        b'a\r\nb b',
        b'a\rb b\r',
        b'\n\na\n \n\t\nb b\n\n',
        b'\r\na\r\n\r\nb b\r\n\r\n',
        b'\xef\xbb\xbfa\nb b\n',
        b'\xef\xbb\xbfa\r\nb b\r\n',
        b' a \n\tb b\t\n',
    ],
)
def test_line_ends_blank_lines_and_bom(write, content):
    assert read_lines(write(content)) == ['a', 'b b']


def test_names_may_have_any_letters(write):
    assert read_lines(write('straße\n東京_1\n')) == ['straße', '東京_1']


@pytest.mark.parametrize('content', [b'', b'\n', b'\r\n \r\n\t\r\n', b'\xef\xbb\xbf'])
def test_empty_list(write, content):
    path = write(content)
    with pytest.raises(UserError) as error:
        read_lines(path)
    assert str(error.value) == f'{path}: the list is empty'


def test_missing_list(tmp_path):
    path = tmp_path / 'train_x.txt'
    with pytest.raises(UserError) as error:
        read_lines(path)
    assert str(error.value) == f'{path}: no such list'


def test_no_text(write, tmp_path):
    for path in write('a\n'.encode('utf-16')), tmp_path:
        with pytest.raises(UserError, match='cannot be read as a list') as error:
            read_lines(path)
        assert str(path) in str(error.value)
        assert '\n' not in str(error.value)


def test_pseudoseg_lists_are_found_under_the_name_that_cps_ships(write, tmp_path):
    write('a\r\nb\r\n', 'pseudoseg_labeled_1-8.txt')
    wanted = tmp_path / 'train_pseudoseg_labeled_1-8.txt'
    assert read_lines(wanted) == ['a', 'b']
    write('c\n', wanted.name)
    assert read_lines(wanted) == ['c']


def test_other_lists_have_no_second_name(write, tmp_path):
    write('a\n', 'x_y.txt')
    write('a\n', 'train_z.txt')
    write('a\n', 'val.txt')  # a missing train_val.txt must not train on it
    for name in 'x_train_y.txt', 'z.txt', 'train_x_train_y.txt', 'train_x_y.txt', 'train_val.txt':
        with pytest.raises(UserError, match='no such list'):
            read_lines(tmp_path / name)


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_cityscapes_columns(write, end):
    lines = [
        '/images/train/x_1.png\t/segmentation/train/x_1_gtFine.png',
        'images/train/x_2.png\tsegmentation/train/x_2_gtFine.png',
        '/images/train/sub/x.3.png',
        'x_4.jpg \t /x_4.png',
    ]
    assert cityscapes_items('/img', '/gt', write(end.join(lines))) == [
        Item('x_1', '/img/images/train/x_1.png', '/gt/segmentation/train/x_1_gtFine.png'),
        Item('x_2', '/img/images/train/x_2.png', '/gt/segmentation/train/x_2_gtFine.png'),
        Item('x.3', '/img/images/train/sub/x.3.png', None),
        Item('x_4', '/img/x_4.jpg', '/gt/x_4.png'),
    ]


@pytest.mark.parametrize('line', ['a\tb\tc', '/', 'a\t/', '/\ta', 'a\t\tb'])
def test_bad_line(write, line):
    path = write(f'x\ty\n{line}\n')
    with pytest.raises(UserError, match='line 2: expected "image<tab>label"') as error:
        cityscapes_items('', '', path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    'name, split',
    [
        ('val', 'val'),
        ('val_small', 'val'),
        ('test', 'test'),
        ('train', 'train_aug'),
        ('train_aug', 'train_aug'),
        ('train_aug_labeled_1-8', 'train_aug'),
        ('train_pseudoseg_labeled_1-8', 'train_aug'),
        ('train_val', 'train_aug'),
        ('demo', 'train_aug'),
    ],
)
def test_voc_folder_follows_the_list(write, name, split):
    path = write('2007_000032\r\n2007_000033\r\n', f'{name}.txt')
    assert voc_items('/img', '/gt', path) == [
        Item(i, f'/img/{split}/image/{i}.jpg', f'/gt/{split}/label/{i}.png') for i in ('2007_000032', '2007_000033')
    ]


@pytest.mark.parametrize(
    'name, wanted',
    [
        ('val', 'val'),
        ('val_labeled', 'val'),
        ('test', 'test'),
        ('train', 'train'),
        ('train_aug', 'train'),
        ('train_val', 'other'),
        ('train_aug_labeled_1-8', 'labeled'),
        ('pseudoseg_unlabeled_1-8', 'unlabeled'),
        ('unlabeled', 'unlabeled'),
        ('train_extra_3000', 'other'),
    ],
)
def test_role(name, wanted):
    assert role(f'val/labeled/{name}.txt') == wanted


def test_lists_are_placed_all_or_none(write, tmp_path):
    same, other = write('a\r\nb\r\n', 'same.txt'), write('a\n', 'other.txt')
    new = tmp_path / 'sub/new.txt'
    lists = {new: ['x'], same: ['a', 'b'], other: ['b']}
    with pytest.raises(UserError) as error:
        place_lists(lists, force=False)
    assert str(error.value) == f'1 lists are there with other lines: {other}; --force replaces them'
    assert not new.parent.exists()
    assert place_lists(lists, force=True) == [new, other]
    assert (new.read_bytes(), other.read_bytes(), same.read_bytes()) == (b'x\n', b'b\n', b'a\r\nb\r\n')
    assert place_lists(lists, force=False) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ['other.txt', 'same.txt', 'sub']


def test_an_empty_list_is_not_taken_for_another(write):
    path = write('')
    with pytest.raises(UserError, match='other lines'):
        place_lists({path: ['a']}, force=False)


def test_labelled_list_without_labels(write):
    path = write('a\tb\n' + 'c\nd.png\n/e/f.png\ng\n')
    with pytest.raises(UserError) as error:
        require_labels(cityscapes_items('', '', path), path)
    assert str(error.value) == f'{path}: 4 of 5 lines have no label file: c, d, f, …'
    path = write('a\tb\nc\n')
    with pytest.raises(UserError, match=r'1 of 2 lines have no label file: c$'):
        require_labels(cityscapes_items('', '', path), path)
    require_labels(cityscapes_items('', '', write('a\tb\nc\td\n')), path)


@pytest.fixture
def files(tmp_path):
    """Five images with labels on disk."""
    items = [Item(str(i), str(tmp_path / f'img/{i}.jpg'), str(tmp_path / f'gt/{i % 2}/{i}.png')) for i in range(5)]
    for path in (path for item in items for path in item[1:]):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    return items


def test_all_files_there(files):
    require_files(files, True, 'list')
    require_files((item for item in files), True, 'list')


def test_missing_files_are_counted_and_the_first_named(files):
    gone = [files[1].label, files[2].image, files[2].label, files[4].image]
    for path in gone:
        os.remove(path)
    with pytest.raises(UserError) as error:
        require_files(files, True, 'some/list.txt')
    assert str(error.value) == f'some/list.txt: 4 of 10 files are missing: {gone[0]}, {gone[1]}, {gone[2]}, …'
    with pytest.raises(UserError) as error:
        require_files(files, False, 'list')
    assert str(error.value) == f'list: 2 of 5 files are missing: {gone[1]}, {gone[3]}'


def test_missing_folder(files, tmp_path):
    (tmp_path / 'img').rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='5 of 10 files are missing'):
        require_files(files, True, 'list')


def test_a_folder_is_listed_once(files, monkeypatch):
    listdir, listed = os.listdir, []
    monkeypatch.setattr(os, 'listdir', lambda folder: listed.append(folder) or listdir(folder))
    require_files(files, True, 'list')
    assert len(listed) == len(set(listed)) == 3


def test_unlabelled_images_need_no_label(files):
    for item in files:
        os.remove(item.label)
    require_files(files, False, 'list')
    require_files([item._replace(label=None) for item in files], False, 'list')


@needs_shared
@pytest.mark.parametrize('split, number', [('train', 2975), ('val', 500), ('test', 1525)])
def test_cityscapes_lists(split, number):
    items = cityscapes_items('/img', '/gt', SPLITS / f'city/config_new/{split}.txt')
    assert len({item.name for item in items}) == len(items) == number
    for item in items:
        assert item.image == f'/img/images/{split}/{item.name}.png'
        assert item.label == f'/gt/segmentation/{split}/{item.name}_gtFine.png'


def _split(read, folder, r):
    labeled, unlabeled = (read('', '', folder / f'train_aug_{kind}_1-{r}.txt') for kind in ('labeled', 'unlabeled'))
    assert not set(labeled) & set(unlabeled)
    return len(labeled), len(unlabeled), {*labeled, *unlabeled}


@needs_shared
@pytest.mark.parametrize('r, numbers', [(16, (186, 2789)), (8, (372, 2603)), (4, (744, 2231)), (2, (1488, 1487))])
def test_cityscapes_subsets(r, numbers):
    *found, images = _split(cityscapes_items, SPLITS / 'city/config_new/subset_train', r)
    assert tuple(found) == numbers
    assert images == set(cityscapes_items('', '', SPLITS / 'city/config_new/train.txt'))


@needs_shared
@pytest.mark.parametrize('r, numbers', [(16, (662, 9920)), (8, (1323, 9259)), (4, (2646, 7936)), (2, (5291, 5291))])
def test_voc_subsets(r, numbers):
    *found, images = _split(voc_items, SPLITS / 'pascal_voc/subset_train_aug', r)
    assert tuple(found) == numbers
    assert len(images) == 10582


@needs_shared
@pytest.mark.parametrize('r, numbers', [(16, (92, 1373)), (8, (183, 1282)), (4, (366, 1099)), (2, (732, 733))])
def test_pseudoseg_lists_have_crlf_ends(r, numbers):
    for kind, number in zip(('labeled', 'unlabeled'), numbers, strict=True):
        name = f'pseudoseg_{kind}_1-{r}.txt'
        assert b'\r\n' in (SPLITS / 'pascal_voc/subset_train_aug' / name).read_bytes()
        items = voc_items('', '', SPLITS / 'pascal_voc/subset_train_aug' / f'train_{name}')
        assert len(items) == number
        assert all(item.image == f'train_aug/image/{item.name}.jpg' and item.name.isprintable() for item in items)
