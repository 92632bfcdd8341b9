import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from full import full_disk
from samples import NUM_CLASSES, blocks, make_items, save

from furnace.datasets import cache as cache_module
from furnace.datasets.cache import Cache
from furnace.datasets.images import read_image, read_pair
from furnace.datasets.train_set import TrainSet, batches
from furnace.utils.errors import RunError, UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def labeled(tmp_path):
    return make_items(tmp_path / 'labeled', 3)


@pytest.fixture
def unlabeled(tmp_path):
    return make_items(tmp_path / 'unlabeled', 2, (25, 13), labels=False)


@pytest.fixture
def cache(tmp_path, labeled, unlabeled):
    cache = Cache(tmp_path / 'cache', NUM_CLASSES)
    cache.build(cache.missing(labeled, unlabeled), threads=2, show=False)
    return cache


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(path, *_):
        raise AssertionError(f'{path}: decoded')

    monkeypatch.setattr(cache_module, 'read_image', refuse)
    monkeypatch.setattr(cache_module, 'read_label', refuse)


def entries(cache):
    return sorted(os.listdir(cache.folder))


def test_what_it_lends_is_what_the_files_hold(cache, labeled, unlabeled, no_decoding):
    for item in labeled:
        image, label = read_pair(item.image, item.label, NUM_CLASSES)
        lent = cache.pair(item.image, item.label)
        np.testing.assert_array_equal(lent[0], image)
        np.testing.assert_array_equal(lent[1], label)
        assert not lent[0].flags.writeable  # mapped, shared by whoever reads it
    for item in unlabeled:
        np.testing.assert_array_equal(cache.image(item.image), read_image(item.image))


def test_batches_are_the_same_with_it(cache, labeled, unlabeled, no_decoding):
    def run(cache):
        data = TrainSet(labeled, unlabeled, NUM_CLASSES, (16, 18), (0.5, 1, 2), 12, 5, cache=cache)
        return list(batches(data, 3, 0, 4, 0))

    for a, b in zip(run(None), run(cache), strict=True):
        assert a.tensors().keys() == b.tensors().keys()
        assert all(torch.equal(tensor, b.tensors()[name]) for name, tensor in a.tensors().items())


def test_its_size_is_told_beforehand(tmp_path, labeled, unlabeled):
    cache = Cache(tmp_path / 'cache', NUM_CLASSES)
    files = cache.missing(labeled, unlabeled)
    assert len(files) == 3 + 3 + 2
    assert cache.bytes_for(files) == 3 * 20 * 24 * 4 + 2 * 25 * 13 * 3
    cache.build(files, show=False)
    header = 128
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) == cache.bytes_for(files) + header * len(files)


def test_a_second_build_has_nothing_to_do(cache, labeled, unlabeled):
    before = entries(cache)
    assert cache.missing(labeled, unlabeled) == []
    cache.build([], show=False)
    assert entries(cache) == before


def test_a_file_that_changed_is_decoded_anew(cache, labeled, unlabeled):
    item, count = labeled[1], len(entries(cache))
    save(Path(item.image), np.full((20, 24, 3), 77, np.uint8))
    os.utime(item.image, ns=(1, 1))  # by its time alone, too
    assert (cache.image(item.image) == 77).all()
    missing = cache.missing(labeled, unlabeled)
    assert missing == [(item.image, '')]
    cache.build(missing, show=False)
    assert len(entries(cache)) == count  # the outdated entry is gone
    assert (cache.image(item.image) == 77).all()


def test_label_maps_of_another_class_count_are_checked_anew(cache, labeled):
    assert (blocks((20, 24), seed=0) == NUM_CLASSES - 1).any()
    with pytest.raises(UserError, match='has class ids 4 outside'):
        Cache(cache.folder, NUM_CLASSES - 1).pair(labeled[0].image, labeled[0].label)


def test_sizes_that_differ_are_told(cache, labeled, unlabeled):
    with pytest.raises(UserError, match='is 24x20 pixels, its image'):
        cache.pair(unlabeled[0].image, labeled[0].label)


def test_a_file_that_cannot_be_decoded_is_named(tmp_path, labeled):
    Path(labeled[2].image).write_bytes(b'no image')
    cache = Cache(tmp_path / 'cache', NUM_CLASSES)
    with pytest.raises(UserError, match=rf'^{labeled[2].image}: '):
        cache.build(cache.missing(labeled, None), show=False)
    assert not any(name.startswith('.') for name in os.listdir(cache.folder))


def test_a_damaged_entry_is_named(cache, unlabeled):
    entry = cache.folder / cache._name(unlabeled[0].image, '')
    entry.write_bytes(entry.read_bytes()[:500])
    with pytest.raises(UserError, match=rf'^{entry}: is damaged; delete it'):
        cache.image(unlabeled[0].image)


def test_no_room(tmp_path, labeled, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 100))
    cache = Cache(tmp_path / 'cache', NUM_CLASSES)
    with pytest.raises(UserError, match='6 decoded files take'):
        cache.build(cache.missing(labeled, None), show=False)
    assert entries(cache) == []


def test_a_disk_that_fills_up(tmp_path, labeled, monkeypatch):
    cache = Cache(tmp_path / 'cache', NUM_CLASSES)
    monkeypatch.setattr(os, 'fsync', full_disk)
    with pytest.raises(RunError, match=rf'^cache_dir = {tmp_path}/cache: cannot be written: No space .*; make room'):
        cache.build(cache.missing(labeled, None), show=False)
    assert os.listdir(cache.folder) == []


def test_what_a_killed_process_left_is_removed_when_it_is_old(cache):
    old, new = cache.folder / '.part-old', cache.folder / '.part-new'
    for path in old, new:
        path.write_bytes(b'')
    os.utime(old, (time.time() - 7200,) * 2)
    cache.build([], show=False)
    assert not old.exists() and new.exists()


def test_what_another_process_is_just_renaming_is_no_failure(cache, monkeypatch):
    gone = cache.folder / '.part-gone'
    there = list(cache.folder.iterdir())
    monkeypatch.setattr(Path, 'iterdir', lambda folder: iter([gone, *there]))
    cache.build([], show=False)


def test_several_processes_build_it_together(tmp_path, labeled, unlabeled):
    """Both decode every file: neither sees a part of what the other writes."""
    script = (
        'import sys\n'
        'from furnace.datasets.cache import Cache\n'
        f'cache = Cache(sys.argv[1], {NUM_CLASSES})\n'
        'cache.build([(path, "") for path in sys.argv[2:]], show=False)\n'
        'print(sum(cache.image(path).sum() for path in sys.argv[2:]))\n'
    )
    paths = [item.image for item in [*labeled, *unlabeled]]
    command = [sys.executable, '-c', script, str(tmp_path / 'cache'), *paths]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = {int(process.communicate(timeout=300)[0]) for process in running}
    assert found == {sum(int(read_image(path).sum()) for path in paths)}
    assert len(os.listdir(tmp_path / 'cache')) == len(paths)
