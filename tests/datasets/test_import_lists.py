import pytest
from prepared import city_line, make_city, make_voc, read, run, write_list
from samples import SHARED, needs_shared

from furnace.datasets import subsets

SPLITS = SHARED / 'splits'


@pytest.fixture
def dst(tmp_path):
    return tmp_path / 'dst'


@pytest.fixture
def source(tmp_path):
    return tmp_path / 'source'


@pytest.fixture
def load(dst, source, capsys):
    return lambda *options, source=source: run(subsets, capsys, 'splits', dst, '--from', source, *options)


def _row(out, name):
    """The figures of a pair of lists: labelled, unlabelled, in both, in neither, missing."""
    return next(line.split()[1:] for line in out.splitlines() if line.startswith(f'{name} '))


def _files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob('*.txt')}


def _city_download(names, split='train'):
    place = '{0}/{1}/{2}/{3}_{4}.png'
    return [
        place.format('leftImg8bit', split, name.split('_')[0], name, 'leftImg8bit')
        + ' '
        + place.format('gtFine', split, name.split('_')[0], name, 'gtFine_labelTrainIds')
        for name in names
    ]


def _voc_download(names):
    return [f'JPEGImages/{name}.jpg SegmentationClass/{name}.png' for name in names]


@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_cityscapes_as_downloaded(load, dst, source, end):
    names = make_city(dst)
    write_list(source / '1_16/labeled.txt', _city_download(names[3:1:-1]), end)
    write_list(source / '1_16/unlabeled.txt', _city_download(names[4:]), end)
    status, out = load()
    assert status == 0
    subset = dst / 'config_new/subset_train'
    assert (
        subset / 'train_aug_labeled_1-16.txt'
    ).read_bytes().decode() == f'{city_line(names[3])}\n{city_line(names[2])}\n'
    assert read(subset / 'train_aug_unlabeled_1-16.txt') == [city_line(name) for name in names[4:]]
    assert _row(out, 'train_aug_labeled_1-16') == ['2', '16', '0', '2', '0']
    assert 'note' not in out


@pytest.mark.parametrize('end', ['\n', '\r\n'])
@pytest.mark.parametrize('form', [_voc_download, lambda names: [f'/{line}' for line in _voc_download(names)], list])
def test_voc(load, dst, source, form, end):
    names = make_voc(dst)
    write_list(source / '92/labeled.txt', form(names[:5]), end)
    write_list(source / '92/unlabeled.txt', form(names[5:]), end)
    status, out = load(source=source / '92')  # the folder itself will do
    assert status == 0
    assert (dst / 'subset_train_aug/train_aug_labeled_92.txt').read_bytes() == ''.join(
        f'{n}\n' for n in names[:5]
    ).encode()
    assert _row(out, 'train_aug_labeled_92') == ['5', '15', '0', '0', '0']


def test_the_lines_are_those_of_the_training_list(load, dst, source):
    """Where a data set has other folders and endings, the lists must name its files."""
    lines = [f'/images/train/x/{name}.jpg\t/segmentation/train/x/{name}.png' for name in ('a_0_1', 'a_0_2_leftImg8bit')]
    write_list(dst / 'config_new/train.txt', lines)
    write_list(source / '1_2/labeled.txt', _city_download(['a_0_2', 'b_0_1']))
    write_list(source / '1_2/unlabeled.txt', [city_line('a_0_1').split('\t')[0]])
    _, out = load()
    labeled = read(dst / 'config_new/subset_train/train_aug_labeled_1-2.txt')
    assert labeled == [lines[1], city_line('b_0_1')]
    assert read(dst / 'config_new/subset_train/train_aug_unlabeled_1-2.txt') == [lines[0]]
    assert _row(out, 'train_aug_labeled_1-2') == ['2', '1', '0', '0', '3']
    assert f'train_aug_labeled_1-2.txt: 1 images are not in train.txt: {dst}/images/train/b_0_1.png' in out


def test_images_of_one_name_in_two_folders(load, dst, source):
    lines = [f'/images/train/{folder}/1.png\t/segmentation/train/{folder}/1.png' for folder in 'ab']
    write_list(dst / 'config_new/train.txt', lines)
    write_list(source / 'train_aug_labeled_1-2.txt', lines[:1])
    write_list(source / 'train_aug_unlabeled_1-2.txt', lines[1:])
    write_list(source / 'train_aug_unlabeled_1-4.txt', [lines[0].split('\t')[0]])
    _, out = load()
    assert read(dst / 'config_new/subset_train/train_aug_unlabeled_1-4.txt') == lines[:1]
    assert read(dst / 'config_new/subset_train/train_aug_labeled_1-2.txt') == lines[:1]
    assert read(dst / 'config_new/subset_train/train_aug_unlabeled_1-2.txt') == lines[1:]
    assert _row(out, 'train_aug_labeled_1-2')[:4] == ['1', '1', '0', '0']


def test_report(load, dst, source):
    names = make_voc(dst, 10)
    (dst / f'train_aug/image/{names[0]}.jpg').unlink()
    (dst / f'train_aug/label/{names[1]}.png').unlink()
    (dst / f'train_aug/label/{names[5]}.png').unlink()
    write_list(source / 'train_aug_labeled_1-3.txt', names[:4])
    write_list(source / 'train_aug_unlabeled_1-3.txt', names[3:8])
    _, out = load('--force')
    assert _row(out, 'train_aug_labeled_1-3') == ['4', '5', '1', '2', '2']
    image = f'{dst}/train_aug/image/{{}}.jpg'.format
    assert f'1 images are in train_aug_unlabeled_1-3.txt too: {image(names[3])}\n' in out
    assert f'2 images, or their labels, are missing: {image(names[0])}, {image(names[1])}\n' in out


def test_a_labelled_image_without_a_label_counts_as_missing(load, dst, source):
    names = make_city(dst)
    (dst / 'config_new/train.txt').unlink()
    write_list(source / 'train_aug_labeled_1-9.txt', [city_line(names[0]), city_line(names[1]).split('\t')[0]])
    write_list(source / '._train_aug_labeled_1-9.txt', ['\0'])  # as macOS leaves them
    status, out = load()
    assert status == 0
    assert _row(out, 'train_aug_labeled_1-9') == ['2', '0', '0', '-', '1']
    assert 'left out' not in out


def test_the_folder_tells_the_share(load, dst, source, monkeypatch):
    names = make_voc(dst)
    write_list(source / '1_4/labeled.txt', names[:5])
    monkeypatch.chdir(source / '1_4')
    load(source='.')
    assert read(dst / 'subset_train_aug/train_aug_labeled_1-4.txt') == names[:5]


def test_lists_of_whole_splits_only_where_there_is_none(load, dst, source):
    (dst / 'images/train').mkdir(parents=True)
    write_list(dst / 'config_new/val.txt', ['/images/val/mine.png'])
    for name in 'train', 'val', 'train_val', 'extra/train_extra':
        write_list(source / f'{name}.txt', [city_line('x'), city_line('y')])
    write_list(source / 'test.txt', _city_download(['t'], 'test'))
    write_list(source / 'sub/train_aug_labeled_1-2.txt', [city_line('x')])
    write_list(source / 'sub/train_aug_unlabeled_1-2.txt', ['/images/train/y.png'])
    _, out = load()
    written = _files(dst)
    assert set(written) == {
        f'config_new/{name}.txt'
        for name in (
            'train',
            'val',
            'test',
            'subset_train/train_aug_labeled_1-2',
            'subset_train/train_aug_unlabeled_1-2',
        )
    }
    assert written['config_new/val.txt'] == b'/images/val/mine.png\n'
    assert written['config_new/test.txt'] == b'/images/test/t.png\n'
    assert 'note: 3 other lists were left out: extra/train_extra.txt, train_val.txt, val.txt\n' in out
    assert _row(out, 'train_aug_labeled_1-2')[:4] == ['1', '1', '0', '0']
    assert 'nothing to do' in load()[1]
    assert _files(dst) == written


def test_lists_that_are_there(load, dst, source):
    names = make_city(dst)
    write_list(source / '1_2/labeled.txt', _city_download(names[:10]))
    write_list(source / '1_2/unlabeled.txt', _city_download(names[10:]))
    load()
    write_list(source / '1_2/labeled.txt', _city_download(names[1:10]))
    before = _files(dst)
    status, error = load()
    assert (status, _files(dst)) == (2, before)
    assert '1 lists are there with other lines' in error and 'train_aug_labeled_1-2.txt; --force' in error
    assert load('--force')[0] == 0
    assert len(read(dst / 'config_new/subset_train/train_aug_labeled_1-2.txt')) == 9


@pytest.mark.parametrize(
    'lists, words',
    [
        ({}, 'no labelled lists'),
        ({'val.txt': ['x']}, 'no labelled lists'),
        ({'a/1_2/labeled.txt': ['/images/train/a.png'], 'b/1_2/labeled.txt': ['/images/train/a.png']}, 'both become'),
        ({'1_2/labeled.txt': ['2007_000032']}, 'line 1 is not of a list as Cityscapes'),
        ({'1_2/labeled.txt': _city_download(['a_000000_000000']) + _voc_download(['b'])}, 'line 2 is not of a list'),
        ({'1_2/labeled.txt': [city_line('q')]}, 'none of its images is in'),
        ({'1_2/labeled.txt': []}, 'the list is empty'),
    ],
)
def test_mistakes(load, dst, source, lists, words):
    make_city(dst)
    source.mkdir()
    for name, lines in lists.items():
        write_list(source / name, lines)
    before = _files(dst)
    status, error = load()
    assert (status, _files(dst)) == (2, before)
    assert words in error
    assert str(source) in error


@pytest.mark.parametrize(
    'kind, unlabeled, words',
    [
        ('train_aug', slice(4, 9), '1 images would be in train_aug_labeled_1-2.txt and in train_aug_unlabel'),
        ('pseudoseg', slice(3, 9), '2 images would be in pseudoseg_labeled_1-2.txt and in pseudoseg_unlabel'),
        ('pseudoseg', slice(4, 9), ''),  # one, as published
        ('train_aug', slice(5, 10), '1 images would be in train_aug_unlabeled_1-2.txt and in val.txt: 2007_'),
    ],
)
def test_lists_that_overlap(load, dst, source, kind, unlabeled, words):
    names = make_voc(dst, 10)
    write_list(dst / 'val.txt', names[9:])
    write_list(source / f'{kind}_labeled_1-2.txt', names[:5])
    write_list(source / f'{kind}_unlabeled_1-2.txt', names[unlabeled])
    before = _files(dst)
    status, out = load()
    assert (status, words in out) == (2 if words else 0, True)
    assert (_files(dst) == before) == bool(words)
    assert words or f'note: {kind}_labeled_1-2.txt: 1 images are in' in out
    assert load('--force')[0] == 0


def test_a_list_that_is_there_counts_too(load, dst, source):
    names = make_voc(dst, 10)
    write_list(dst / 'subset_train_aug/train_aug_unlabeled_1-2.txt', names)
    write_list(source / 'train_aug_labeled_1-2.txt', names[:2])
    assert '2 images would be in' in load()[1]


@pytest.mark.parametrize('options', [('--ratios', '2'), ('--counts', '2'), ('--seed', '0'), ('--by-sequence',)])
def test_an_import_chooses_nothing(load, dst, source, options):
    make_city(dst)
    write_list(source / '1_2/labeled.txt', [city_line('q')])
    assert '--from imports' in load(*options)[1]


def test_no_such_folder(load, dst, source):
    make_city(dst)
    assert load() == (2, f'{source}: no such folder')


@needs_shared
def test_real_cityscapes_lists(load, dst):
    (dst / 'images/train').mkdir(parents=True)
    status, out = load(source=SPLITS / 'city')
    assert status == 0
    for r, labeled in (16, 186), (8, 372), (4, 744), (2, 1488):
        assert _row(out, f'train_aug_labeled_1-{r}') == [str(labeled), str(2975 - labeled), '0', '0', '2975']
    for name, content in _files(dst).items():
        assert content == (SPLITS / 'city' / name).read_bytes().replace(b'\r\n', b'\n')
    assert len(_files(dst)) == 11
    # Another project's form of the same choice comes out as the same bytes.
    status, out = load(source=SPLITS / 'unimatch/cityscapes')
    assert '2 of 4 lists written' in out
    assert _row(out, 'train_aug_labeled_1-16') == ['186', '2789', '0', '0', '2975']
    assert _row(out, 'train_aug_labeled_1-30') == ['100', '2875', '0', '0', '2975']


@needs_shared
def test_real_voc_lists(load, dst):
    source = SPLITS / 'pascal_voc/subset_train_aug'
    train = {line for kind in ('labeled', 'unlabeled') for line in read(source / f'train_aug_{kind}_1-2.txt')}
    write_list(dst / 'train_aug.txt', sorted(train))
    status, out = load(source=SPLITS / 'pascal_voc')
    assert status == 0
    for r, labeled in (16, 662), (8, 1323), (4, 2646), (2, 5291):
        assert _row(out, f'train_aug_labeled_1-{r}') == [str(labeled), str(10582 - labeled), '0', '0', '10582']
    # As published, one image of each few-supervision choice is in its unlabelled list too.
    for r, labeled in (16, 92), (8, 183), (4, 366), (2, 732):
        figures = [labeled, 1465 - labeled, 1, 10582 - 1464, 1464]
        assert _row(out, f'pseudoseg_labeled_1-{r}') == list(map(str, figures))
    written = _files(dst / 'subset_train_aug')
    assert len(written) == 16
    for name, content in written.items():
        assert content.splitlines() == (source / name).read_bytes().splitlines()
        assert b'\r' not in content
    status, out = load(source=SPLITS / 'unimatch/pascal')
    for n, r in (92, 16), (183, 8), (366, 4):
        assert _row(out, f'train_aug_labeled_{n}') == [str(n), str(10582 - n), '0', '0', '10582']
        assert read(dst / f'subset_train_aug/train_aug_labeled_{n}.txt') == read(
            dst / f'subset_train_aug/pseudoseg_labeled_1-{r}.txt'
        )
