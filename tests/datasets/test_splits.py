from pathlib import Path

import numpy as np
import pytest
from samples import SHARED, needs_shared

from furnace.datasets.splits import RATIOS, block_split, counted_split, nested_split, sequence_of, write_lists
from furnace.utils.errors import UserError

NAMES = [f'{sequence}_{i:04d}.png' for sequence, n in (('a', 40), ('b', 25), ('c', 3)) for i in range(n)]


@pytest.mark.parametrize(
    'name, sequence',
    [
        ('0016E5_08061', '0016E5'),
        ('images/train/0006R0_f01290.jpg', '0006R0'),
        ('aachen_000000_000019.png', 'aachen_000000'),
        ('video-0001.png', 'video'),
        ('a_1/street_view.png', ''),
        ('000019.png', ''),
        ('x_19b.png', ''),
    ],
)
def test_sequence_of(name, sequence):
    assert sequence_of(name) == sequence


@pytest.mark.parametrize('n', [1, 2, 5, 15, 16, 17, 68])
@pytest.mark.parametrize('seed', range(20))
def test_nested_disjoint_and_complete(n, seed):
    names = NAMES[:n]
    split = nested_split(names, RATIOS, seed)
    assert list(split) == list(RATIOS)
    smaller = set()
    for r in RATIOS:
        labeled, unlabeled = split[r]
        assert sorted(labeled + unlabeled) == list(range(n))
        assert labeled == sorted(labeled) and unlabeled == sorted(unlabeled)
        assert len(labeled) in (max(1, n // r), -(-n // r))
        assert smaller <= set(labeled)
        smaller = set(labeled)


def test_every_rth_frame_in_order_of_sequence_and_name():
    shuffled = list(np.random.default_rng(0).permutation(NAMES))
    labeled, _ = nested_split(shuffled, RATIOS, 7)[4]
    places = sorted(NAMES.index(shuffled[i]) for i in labeled)
    assert set(np.diff(places)) == {4}
    assert places[0] == int(np.random.default_rng(7).integers(16)) % 4


def test_sequences_come_before_names():
    # By name alone, a1_1 lies between the frames a-1 and a_2 of sequence a.
    names = ['a-1', 'a1_1', 'a_2', 'a_3']
    halves = {tuple(nested_split(names, (2,), seed)[2][0]) for seed in range(20)}
    assert halves == {(0, 3), (1, 2)}


def test_seed_decides():
    assert nested_split(NAMES, RATIOS, 3) == nested_split(NAMES, RATIOS, 3)
    assert len({nested_split(NAMES, RATIOS, seed)[16][0][0] for seed in range(100)}) == 16


@pytest.mark.parametrize('by_sequence', [False, True])
@pytest.mark.parametrize('counts', [(1,), (68,), (5, 17, 4), (10, 68, 33, 32), (1, 2, 3)])
def test_counts_are_nested_whatever_the_order_of_names(counts, by_sequence):
    split = counted_split(NAMES, counts, 3, by_sequence)
    assert list(split) == list(counts)
    chosen = set()
    for n in sorted(counts):
        assert split[n] == sorted(set(split[n]))
        assert len(split[n]) == n
        assert chosen <= set(split[n])
        chosen = set(split[n])
    shuffled = list(np.random.default_rng(0).permutation(NAMES))
    for n, places in counted_split(shuffled, counts, 3, by_sequence).items():
        assert sorted(shuffled[i] for i in places) == sorted(NAMES[i] for i in split[n])


def test_random_choices_nest_from_call_to_call():
    small, large = (set(counted_split(NAMES, [n], 3, False)[n]) for n in (9, 20))
    assert small < large


def test_counts_by_sequence_are_spread_evenly():
    for seed in range(10):
        split = counted_split(NAMES, [7, 20], seed, True)
        gaps = np.diff(split[20])
        assert set(gaps) == {3, 4}  # 68 / 20
        places = [split[20].index(i) for i in split[7]]
        assert set(np.diff(places)) <= {2, 3}  # 20 / 7
        assert split[20][0] < 4 and split[20][-1] >= 64
    assert len({counted_split(NAMES, [7], seed, True)[7][0] for seed in range(30)}) == 10  # 68 / 7


@pytest.mark.parametrize('n', [0, -1, 69])
def test_a_count_that_cannot_be(n):
    with pytest.raises(UserError, match=f'{n} labelled images cannot be chosen from 68'):
        counted_split(NAMES, [5, n], 0, False)


def test_ratios_that_cannot_be_nested():
    with pytest.raises(UserError, match='ratios 4 and 6'):
        nested_split(NAMES, (6, 2, 4), 0)


def test_nothing_to_split():
    with pytest.raises(UserError, match='no labelled'):
        nested_split([], RATIOS, 0)
    with pytest.raises(UserError, match='1 or more'):
        nested_split(NAMES, (2, 0), 0)


def test_block_split_takes_the_last_share_of_each_sequence():
    train, val = block_split(NAMES, [True] * len(NAMES), 0.2)
    assert [NAMES[i] for i in val if NAMES[i][0] == 'a'] == [f'a_{i:04d}.png' for i in range(32, 40)]
    assert [NAMES[i] for i in val if NAMES[i][0] == 'b'] == [f'b_{i:04d}.png' for i in range(20, 25)]
    assert sorted(train + val) == list(range(len(NAMES)))


def test_block_split_of_short_sequences_and_folders():
    names = [f'{folder}/x_1.png' for folder in 'abcdefghij']
    train, val = block_split(names, [True] * 10, 0.2)
    assert (len(train), len(val)) == (8, 2)


def test_block_split_takes_a_folder_for_a_sequence():
    names = [f'{folder}/x_{i}.png' for folder in 'ab' for i in range(5)]
    _, val = block_split(names, [True] * 10, 0.2)
    assert [names[i] for i in val] == ['a/x_4.png', 'b/x_4.png']


def test_block_split_keeps_unlabelled_neighbours_out():
    has_label = [i % 4 == 0 for i in range(20)]
    train, val = block_split([f'a_{i:02d}' for i in range(20)], has_label, 0.4)
    assert val == [12, 16]
    assert train == list(range(12))


@pytest.mark.parametrize('share', [0, 1, -0.2, 20])
def test_block_split_refuses(share):
    with pytest.raises(UserError, match='between 0 and 1'):
        block_split(NAMES, [True] * len(NAMES), share)


def _pairs(names, split='train'):
    return [(f'images/{split}/{name}', f'segmentation/{split}/{Path(name).stem}_gtFine.png') for name in names]


def test_write_lists(tmp_path):
    train = _pairs(NAMES)
    train[5] = (train[5][0], None)
    pairs = {'train': train, 'val': _pairs(['x y.png'], 'val'), 'test': [('images/test/z.png', None)]}
    counts = write_lists(tmp_path, pairs, 12345)
    files = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}
    subsets = {
        f'config_new/subset_train/train_aug_{kind}_1-{r}.txt' for kind in ('labeled', 'unlabeled') for r in (*RATIOS, 1)
    }
    assert set(files) == subsets | {f'config_new/{split}.txt' for split in pairs}
    assert files['config_new/val.txt'] == b'/images/val/x y.png\t/segmentation/val/x y_gtFine.png\n'
    assert files['config_new/test.txt'] == b'/images/test/z.png\n'
    assert all(b'\r' not in content and content.endswith(b'\n') for content in files.values())
    whole = files['config_new/train.txt'].splitlines()
    assert whole[5] == b'/images/train/a_0005.png'
    assert counts[1] == len(whole) - 1
    for r in (*RATIOS, 1):
        labeled = files[f'config_new/subset_train/train_aug_labeled_1-{r}.txt'].splitlines()
        unlabeled = files[f'config_new/subset_train/train_aug_unlabeled_1-{r}.txt'].splitlines()
        assert len(labeled) == counts[r]
        assert whole[5] in unlabeled
        assert sorted(labeled + unlabeled) == sorted(whole)


def test_lists_are_replaced_whole(tmp_path, monkeypatch):
    pairs = {'train': _pairs(NAMES)}
    write_lists(tmp_path, pairs, 1)
    before = {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()}

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        write_lists(tmp_path, {'train': _pairs(NAMES[:9])}, 2)
    assert {p: p.read_bytes() for p in tmp_path.rglob('*') if p.is_file()} == before


@needs_shared
def test_camvid_is_spread_over_its_sequences():
    names = sorted(p.name for p in (SHARED / 'camvid/images/train').iterdir())
    for r, (labeled, _) in nested_split(names, RATIOS, 12345).items():
        for sequence, n in ('0016E5', 204), ('0006R0', 101), ('0001TP', 62):
            assert abs(sum(names[i].startswith(sequence) for i in labeled) - n / r) < 1


def test_a_list_of_no_image_is_not_written(tmp_path):
    write_lists(tmp_path, {'train': [('images/train/x_1.png', 'x_1.png')], 'val': [], 'test': []}, 0)
    written = {path.name for path in tmp_path.rglob('*.txt')}
    assert written == {'train.txt', *(f'train_aug_labeled_1-{r}.txt' for r in (16, 8, 4, 2))}
