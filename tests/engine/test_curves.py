"""What a run logs: neither a gap nor a double where it goes on, and one line where it cannot be written."""

import io
import json
import os
import time

import numpy as np
import pytest
from full import full_disk
from PIL import Image
from tensorboardX.proto import event_pb2

from furnace.engine.curves import LOSSES, SCORES, TENSORBOARD, Curves
from furnace.seg_opr.metric import Scores
from furnace.utils.errors import RunError, UserError

SCORE = Scores(iou=[0.5, 0.7], mean_iou=0.6, mean_iou_no_background=0.7, pixel_accuracy=0.8)


def records(folder):
    """The events in the order of the files."""
    for path in sorted((folder / TENSORBOARD).iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], 'little')
            yield event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def events(folder):
    """(tag, step) of all that TensorBoard shows; a new start drops what it purges."""
    found = []
    for event in records(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            found = [(tag, step) for tag, step in found if step < event.step]
        found += [(value.tag, event.step) for value in event.summary.value]
    return found


def iterations(path):
    return [json.loads(line)['iteration'] for line in path.read_text().splitlines()]


@pytest.fixture
def seconds(monkeypatch):
    """A new start comes in a second of its own, which the name of its event file tells."""
    now = iter(range(10**9, 10**9 + 10**6))
    monkeypatch.setattr(time, 'time', lambda: float(next(now)))


@pytest.mark.parametrize(('scored', 'watched'), [(2, [1, 2, 3]), (4, [1, 2, 3, 4])], ids=['before', 'after'])
def test_a_score_that_no_checkpoint_knows_is_dropped(tmp_path, seconds, scored, watched):
    """Killed after iteration 5; the last checkpoint is of iteration 4, saved before or after that was scored."""
    with Curves(tmp_path, 0) as curves:
        for iteration in range(1, 6):
            curves.add(iteration, {'loss': iteration / 3})
            curves.add_watched(iteration, {'speed': 1.0})
            if iteration in (2, 4):
                curves.add_scores(iteration, SCORE, ['a', 'b'])
    before = (tmp_path / LOSSES).read_text().splitlines(keepends=True)
    with Curves(tmp_path, 4, scored=scored) as curves:
        if scored < 4:
            curves.add_scores(4, SCORE, ['a', 'b'])
    assert (tmp_path / LOSSES).read_text() == ''.join(before[:4])
    assert iterations(tmp_path / SCORES) == [2, 4]
    shown = events(tmp_path)
    for tag, want in (('train/loss', [1, 2, 3, 4]), ('val/mean_iou', [2, 4]), ('speed', watched)):
        assert [step for name, step in shown if name == tag] == want, tag


def test_what_is_flushed_is_there(tmp_path, monkeypatch):
    """All of it, at once, for a checkpoint that follows."""
    with Curves(tmp_path, 0) as curves:
        for iteration in range(1, 50):
            curves.add(iteration, {'loss': 1.0})
        synced = []
        monkeypatch.setattr(os, 'fsync', synced.append)
        curves.flush()
        assert curves.file.fileno() in synced
        assert events(tmp_path) == [('train/loss', iteration) for iteration in range(1, 50)]


def test_those_who_watch_see_what_is_two_minutes_old(tmp_path, monkeypatch):
    with Curves(tmp_path, 0) as curves:
        curves.add(1, {'loss': 1.0})
        assert events(tmp_path) == []
        now = time.monotonic()
        monkeypatch.setattr(time, 'monotonic', lambda: now + 121)
        curves.add(2, {'loss': 1.0})
        assert events(tmp_path) == [('train/loss', 1), ('train/loss', 2)]


def test_a_full_disk_is_told(tmp_path, small_files):
    """At once, in one line, also at the end; nothing waits for it."""
    picture = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with small_files(), pytest.raises(RunError) as caught, Curves(tmp_path, 0) as curves:
        curves.add_image(1, 'panel', picture)
    assert str(caught.value) == f'{tmp_path}: File too large'


@pytest.mark.parametrize(
    ('call', 'arguments', 'fails'),
    [
        ('add', (2, {'a': 1.0}), 'write'),
        ('add_watched', (2, {'a': 1.0}), 'write'),
        ('add_image', (2, 'panel', np.zeros((4, 4, 3), np.uint8)), 'write'),
        ('add_scores', (2, SCORE, ['a', 'b']), 'write'),
        ('add_scores', (2, SCORE, ['a', 'b']), 'fsync'),
        ('flush', (), 'fsync'),
        ('flush', (), 'flush'),
        ('__exit__', (None,), 'close'),
    ],
)
def test_a_disk_that_fills_up_is_told_everywhere(tmp_path, monkeypatch, call, arguments, fails):
    """By the call itself, not by the end."""
    curves = Curves(tmp_path, 0)
    monkeypatch.setattr(os if fails == 'fsync' else curves.events.records, fails, full_disk)
    with pytest.raises(RunError, match=f'^{tmp_path}: No space left on device; '):
        getattr(curves, call)(*arguments)


def test_a_disk_that_is_full_at_the_end_too_does_not_hide_why(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), Curves(tmp_path, 0) as curves:
        monkeypatch.setattr(curves.events.records, 'close', full_disk)
        raise KeyboardInterrupt


def test_a_picture_arrives_as_it_is(tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    begin = time.time()
    with Curves(tmp_path, 0) as curves:
        curves.add_image(7, 'panel', picture)
    version, event = records(tmp_path)
    (value,) = event.summary.value
    assert version.file_version == 'brain.Event:2'
    assert (value.tag, event.step) == ('panel', 7) and begin <= event.wall_time <= time.time()
    assert np.array_equal(Image.open(io.BytesIO(value.image.encoded_image_string)), picture)


@pytest.mark.parametrize('name', [LOSSES, TENSORBOARD])
def test_a_folder_that_cannot_be_used_is_a_mistake(tmp_path, name):
    (tmp_path / name).mkdir() if name == LOSSES else (tmp_path / name).touch()
    with pytest.raises(UserError, match=f'^{tmp_path}/{name}: (Is a directory|File exists)$'), Curves(tmp_path, 0):
        pass
