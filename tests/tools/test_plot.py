import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from full import full_disk
from PIL import Image

from furnace.tools.plot import draw, main, read_run


def write(folder, losses, scores=()):
    folder.mkdir()
    for name, rows in (('losses', losses), ('scores', scores)):
        if rows:
            (folder / f'{name}.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return folder


LOSSES = [{'iteration': i, 'loss': 5 + i % 3, 'sup_1': 2.0, 'overlap': 0.5, 'lr': 0.1} for i in range(1, 121)]
SCORES = [{'iteration': i, 'mean_iou': i / 200, 'pixel_accuracy': 0.9, 'iou': {'sky': None}} for i in (119, 120)]


def style(line):
    return line.get_color(), str(line._dash_pattern)


def shown(figure):
    """The lines of a figure, (x, y) each, by title and name of the run."""
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    names = dict(zip(map(style, legend.get_lines()), texts, strict=True))
    return {
        axes.get_title(): {names[style(line)]: line.get_data() for line in axes.get_lines()} for axes in figure.axes
    }


def test_lines(tmp_path):
    """Means where they are told in the title, percentages, scores as they are, what a run lacks left out."""
    one = read_run(write(tmp_path / 'a', LOSSES, SCORES))
    two = read_run(write(tmp_path / 'b', [{'iteration': i, 'loss': float(i), 'cps_1': 1.0} for i in (30, 60)]))
    figure = draw({'a': one, 'b': two})
    assert figure.get_suptitle() == 'Losses and agreement: means over 3 iterations'
    lines = shown(figure)
    assert {title: set(runs) for title, runs in lines.items()} == {
        'loss': {'a', 'b'},
        'supervised loss, branch 1': {'a'},
        'CPS loss, branch 1': {'b'},
        'agreement of the branches, %': {'a'},
        'mean IoU, %': {'a'},
        'pixel accuracy, %': {'a'},
    }
    np.testing.assert_allclose(lines['loss']['a'][1][1:-1], 6)  # the mean of 5, 6 and 7
    np.testing.assert_allclose(lines['loss']['a'][1][[0, -1]], [6.5, 6])
    np.testing.assert_allclose(lines['loss']['b'], [[30, 60]] * 2)
    np.testing.assert_allclose(lines['agreement of the branches, %']['a'], [range(1, 121), [50] * 120])
    np.testing.assert_allclose(lines['mean IoU, %']['a'], [[119, 120], [59.5, 60]])


def test_what_is_the_same_of_two_methods_shares_a_plot(tmp_path):
    methods = {'cpcl': ('inter', 'union'), 'intersection': ('inter_1', 'inter_2'), 'union': ('union_1', 'union_2')}
    runs = {m: write(tmp_path / m, [{'iteration': 1, **dict.fromkeys(names, 1.0)}]) for m, names in methods.items()}
    lines = shown(draw({method: read_run(folder) for method, folder in runs.items()}))
    assert {title: set(names) for title, names in lines.items()} == {
        'intersection loss, branch 1': {'cpcl', 'intersection'},
        'union loss, branch 2': {'cpcl', 'union'},
        'intersection loss, branch 2': {'intersection'},
        'union loss, branch 1': {'union'},
    }


def test_short_run_is_not_smoothed(tmp_path):
    figure = draw({'a': read_run(write(tmp_path / 'a', LOSSES[:9]))})
    assert figure.get_suptitle() == 'Losses and agreement'
    np.testing.assert_allclose(shown(figure)['loss']['a'][1], [row['loss'] for row in LOSSES[:9]])


def test_many_runs_differ_without_colour(tmp_path):
    """Of six runs each has dashes of its own, of forty each its pair of colour and dashes."""
    curves = read_run(write(tmp_path / 'a', LOSSES[:5]))
    styles = [style(line) for line in draw({f'run {i}': curves for i in range(40)}).axes[0].get_lines()]
    assert len({dashes for _, dashes in styles[:6]}) == 6
    assert len(set(styles)) == 40


def test_files(tmp_path, capsys):
    runs = [str(write(tmp_path / name, LOSSES, SCORES)) for name in 'ab']
    assert main([runs[0]]) == 0
    assert capsys.readouterr().out == f'written to {tmp_path}/a/curves.png\n'
    with Image.open(tmp_path / 'a' / 'curves.png') as picture:
        assert len(picture.convert('RGB').getcolors(2**24)) > 10
    assert main([*runs, '-o', str(tmp_path / 'x.svg')]) == 0
    assert ElementTree.parse(tmp_path / 'x.svg').getroot().tag == '{http://www.w3.org/2000/svg}svg'


@pytest.mark.parametrize(
    ('arguments', 'says'),
    [
        (['none'], 'none: holds no losses.jsonl'),
        (['empty'], 'empty: nothing is logged yet'),
        (['odd'], 'odd/losses.jsonl: is not what train.py writes'),
        (['good', '-o', 'none/x.png'], 'none/x.png: cannot be written: No such file or directory'),
        (['good', '-o', 'x.gif'], 'x.gif: must end in .png or .svg'),
        (['good'], 'curves are drawn by matplotlib, which is not installed: pip install matplotlib'),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'good', LOSSES)
    write(tmp_path / 'odd', [{'loss': 'low'}])
    (write(tmp_path / 'empty', []) / 'losses.jsonl').touch()
    if 'matplotlib' in says:
        monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {says}')
    assert error.count('\n') == 1


def test_a_full_disk_leaves_the_former_picture(tmp_path, capsys, monkeypatch):
    folder = write(tmp_path / 'run', LOSSES)
    (folder / 'curves.png').write_text('former')

    def save(figure, path, **_):
        Path(path).write_text('half')
        full_disk()

    monkeypatch.setattr('matplotlib.figure.Figure.savefig', save)
    assert main([str(folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'error: {folder}/curves.png: cannot be written: No space left on device; make room')
    assert (folder / 'curves.png').read_text() == 'former'
    assert sorted(os.listdir(folder)) == ['curves.png', 'losses.jsonl']
