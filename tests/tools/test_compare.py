"""The table of several evaluations."""

import json
import os

import pytest
from full import full_disk

from furnace.tools.compare import main


def write(path, method, *results):
    """A val_*.json with results of (epoch, mean IoU, IoU of each class)."""
    results = [
        {
            'checkpoint': 'log/released.pth',
            'epoch': epoch,
            'trained': {'method': method, 'labeled_ratio': 8},
            'mean_iou': mean,
            'mean_iou_no_background': mean,
            'pixel_accuracy': 0.5,
            'iou': iou,
        }
        for epoch, mean, iou in results
    ]
    path.write_text(json.dumps({'results': results}))
    return str(path)


@pytest.fixture
def files(tmp_path):
    first = write(tmp_path / 'a.json', 'supervised', (3, 0.25, {'road': 0.25, 'sky': None}))
    second = write(
        tmp_path / 'b.json', 'cpcl', (None, None, {'road': None}), (5, 0.75, {'road': 0.6, 'sky': 0.9}), (7, 0.5, {})
    )
    return [first, second]


TABLE = """\
| %                        | supervised, 1/8 labels, epoch 3 | cpcl, 1/8 labels, epoch 5 |
| ------------------------ | ------------------------------: | ------------------------: |
| road                     |                           25.00 |                     60.00 |
| sky                      |                               – |                     90.00 |
| mean IoU                 |                           25.00 |                     75.00 |
| mean IoU without class 0 |                           25.00 |                     75.00 |
| pixel accuracy           |                           50.00 |                     50.00 |
"""


def test_table_of_the_best_results(files, capsys):
    assert main(files) == 0
    assert capsys.readouterr().out == TABLE


def test_a_checkpoint_that_does_not_tell_its_method_stands_under_its_name(tmp_path, capsys):
    assert main([write(tmp_path / 'a.json', None, (None, 0.25, {'road': 0.25}))]) == 0
    assert capsys.readouterr().out.startswith('| %                        | released.pth |')


def test_written_too(files, capsys, tmp_path):
    path = tmp_path / 'table.md'
    assert main([*files, '-o', str(path)]) == 0
    assert path.read_text() == TABLE
    assert capsys.readouterr().out == TABLE + f'written to {path}\n'


@pytest.mark.parametrize('text', [None, '', '{', '[]', '{}', '3', '{"config": {}, "results": []}'])
def test_other_files(files, capsys, tmp_path, text):
    path = tmp_path / 'other.json'
    if text is not None:
        path.write_text(text)
    assert main([files[0], str(path)]) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ''
    assert stderr.startswith(f'error: {path}: is not a val_*.json of eval.py')
    assert stderr.count('\n') == 1


def test_output_that_cannot_be_written(files, capsys, tmp_path):
    assert main([*files, '-o', str(tmp_path / 'none' / 'x.md')]) == 2
    assert capsys.readouterr().err == f'error: {tmp_path}/none/x.md: cannot be written: No such file or directory\n'


def test_a_full_disk_leaves_the_former_table(files, capsys, tmp_path, monkeypatch):
    path = tmp_path / 'table.md'
    path.write_text('former')
    monkeypatch.setattr(os, 'fsync', full_disk)
    assert main([*files, '-o', str(path)]) == 1
    assert capsys.readouterr().err.startswith(f'error: {path}: cannot be written: No space left on device; make room')
    assert path.read_text() == 'former'
