import os

import pytest
from prepared import city_line, make_city, make_voc, read, run, write_list

from furnace.datasets import subsets

FOLDERS = {make_city: 'config_new/subset_train', make_voc: 'subset_train_aug'}
TRAIN = {make_city: 'config_new/train.txt', make_voc: 'train_aug.txt'}
both_layouts = pytest.mark.parametrize('make', [make_city, make_voc])


@pytest.fixture
def splits(tmp_path, capsys):
    return lambda *options: run(subsets, capsys, 'splits', tmp_path, *options)


def _lists(root, make, tag):
    folder = root / FOLDERS[make]
    return tuple(read(folder / f'train_aug_{kind}_{tag}.txt') for kind in ('labeled', 'unlabeled'))


def _state(root):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in root.rglob('*.txt')}


@both_layouts
@pytest.mark.parametrize('options', [(), ('--by-sequence',)])
def test_ratios_are_nested_and_complete(splits, tmp_path, make, options):
    make(tmp_path, 35)
    status, out = splits(*options)
    assert status == 0
    train, smaller = read(tmp_path / TRAIN[make]), set()
    for r in (16, 8, 4, 2):
        labeled, unlabeled = _lists(tmp_path, make, f'1-{r}')
        assert labeled == [line for line in train if line in labeled]
        assert unlabeled == [line for line in train if line not in labeled]
        assert len(labeled) in ((35 // r, -(-35 // r)) if options else (-(-35 // r),))
        assert smaller < set(labeled)
        smaller = set(labeled)
        row = next(line for line in out.splitlines() if line.startswith(f'train_aug_labeled_1-{r} '))
        assert list(map(int, row.split()[1:])) == [len(labeled), len(unlabeled), 0, 0, 0]
    assert 'note' not in out


@both_layouts
@pytest.mark.parametrize('options', [(), ('--by-sequence',)])
def test_counts(splits, tmp_path, make, options):
    make(tmp_path)
    assert splits('--counts', 3, 7, 11, *options)[0] == 0
    small, middle, large = (set(_lists(tmp_path, make, n)[0]) for n in (3, 7, 11))
    assert (len(small), len(middle), len(large)) == (3, 7, 11)
    assert small < middle < large


def test_the_seed_decides(splits, tmp_path):
    make_city(tmp_path)
    chosen = set()
    for seed in range(8):
        splits('--ratios', 4, '--seed', seed, '--force')
        chosen.add(tuple(_lists(tmp_path, make_city, '1-4')[0]))
    assert len(chosen) > 4
    splits('--ratios', 4, '--seed', 0, '--force')
    first = _lists(tmp_path, make_city, '1-4')
    splits('--ratios', 4, '--seed', 0, '--force')
    assert _lists(tmp_path, make_city, '1-4') == first


def test_default_seed_and_ratios(splits, tmp_path):
    make_city(tmp_path)
    splits()
    before = _state(tmp_path)
    assert 'nothing to do' in splits('--ratios', 2, 4, 8, 16, '--seed', 12345)[1]
    assert _state(tmp_path) == before


@both_layouts
def test_other_lists_stay_unless_forced(splits, tmp_path, make):
    make(tmp_path)
    splits('--ratios', 4)
    before = _state(tmp_path)
    status, out = splits('--ratios', 4)
    assert (status, _state(tmp_path)) == (0, before)
    assert 'nothing to do' in out
    status, error = splits('--ratios', 2, 4, '--seed', 1)
    assert (status, _state(tmp_path)) == (2, before)
    assert str(tmp_path / FOLDERS[make] / 'train_aug_labeled_1-4.txt') in error
    assert '--force' in error
    assert splits('--ratios', 4, '--seed', 1, '--force')[0] == 0
    assert _state(tmp_path).keys() == before.keys()
    assert _state(tmp_path) != before


def test_lists_with_other_line_ends_say_the_same(splits, tmp_path):
    make_city(tmp_path)
    splits('--ratios', 4)
    for path in (tmp_path / 'config_new').rglob('*.txt'):
        path.write_bytes(path.read_bytes().replace(b'\n', b'\r\n'))
    before = _state(tmp_path)
    assert 'nothing to do' in splits('--ratios', 4)[1]
    assert _state(tmp_path) == before


def test_images_without_a_label_are_never_labelled(splits, tmp_path):
    make_city(tmp_path, 12)
    train = tmp_path / 'config_new/train.txt'
    lines = [line if i % 3 else line.split('\t')[0] for i, line in enumerate(read(train))]
    write_list(train, lines, '\r\n')
    assert splits('--counts', 8)[0] == 0  # all that have one
    labeled, unlabeled = _lists(tmp_path, make_city, 8)
    assert labeled == [line for line in lines if '\t' in line]
    assert unlabeled == [line for line in lines if '\t' not in line]
    splits('--ratios', 2, 1)
    assert len(_lists(tmp_path, make_city, '1-2')[0]) == 4
    assert _lists(tmp_path, make_city, '1-1') == (labeled, unlabeled)


def test_missing_images_and_labels_are_counted(splits, tmp_path):
    names = make_city(tmp_path, 6)
    splits('--counts', 3)
    labeled, unlabeled = ([line.split('\t') for line in lines] for lines in _lists(tmp_path, make_city, 3))
    for path in labeled[0][0], labeled[1][1], unlabeled[0][1], unlabeled[1][0]:
        os.remove(tmp_path / path[1:])
    _, out = splits('--counts', 3)
    assert out.splitlines()[-2].split() == ['train_aug_labeled_3', '3', '3', '0', '0', '3']
    assert out.splitlines()[-1].startswith('note: 3 images, or their labels, are missing: ')
    assert unlabeled[0][0] not in out
    assert len(names) == 6


@pytest.mark.parametrize(
    'options, words',
    [
        (('--ratios', '0'), 'ratios are 1 or more'),
        (('--ratios', '1'), 'none unlabelled'),
        (('--counts', '0'), '0 labelled images cannot be chosen from 20'),
        (('--counts', '21'), '21 labelled images cannot be chosen from 20'),
        (('--counts', '20'), 'none unlabelled'),
        (('--seed', '-1'), 'seed must be 0 or more'),
        (('--ratios', '3', '2', '--by-sequence'), 'ratios 2 and 3'),
    ],
)
def test_mistakes(splits, tmp_path, options, words):
    make_city(tmp_path)
    before = _state(tmp_path)
    status, error = splits(*options)
    assert (status, _state(tmp_path)) == (2, before)
    assert words in error


def test_a_training_list_is_needed(splits, tmp_path):
    assert 'no prepared data set' in splits()[1]
    (tmp_path / 'images/train').mkdir(parents=True)
    assert f'{tmp_path}/config_new/train.txt: no such list' in splits()[1]
    write_list(tmp_path / 'config_new/train.txt', [city_line(name) for name in 'aba'])
    status, error = splits('--counts', 1)
    assert (status, f'{tmp_path}/config_new/train.txt: 1 lines are there more than once' in error) == (2, True)
    (tmp_path / 'train_aug.txt').touch()
    assert 'as Cityscapes, and train_aug.txt, as VOC' in splits()[1]
    assert not (tmp_path / 'config_new/subset_train').exists()


def test_no_such_folder(tmp_path, capsys):
    assert run(subsets, capsys, 'splits', tmp_path / 'x') == (2, f'{tmp_path}/x: no such folder')


def test_the_lists_of_prepare_folder(splits, tmp_path):
    """The same choice by sequence as the lists that come with a prepared folder."""
    from furnace.datasets.splits import write_lists

    make_city(tmp_path, 40)
    pairs = [tuple(column[1:] for column in line.split('\t')) for line in read(tmp_path / 'config_new/train.txt')]
    write_lists(tmp_path, {'train': pairs}, 5)
    assert 'nothing to do' in splits('--by-sequence', '--seed', 5)[1]
    assert 'other lines' in splits('--by-sequence', '--seed', 6)[1]
