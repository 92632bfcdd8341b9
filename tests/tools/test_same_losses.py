import json

import pytest

from furnace.tools.same_losses import main


def write(folder, rows):
    folder.mkdir()
    (folder / 'losses.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    return str(folder)


ROWS = [{'iteration': i, 'loss': i / 3, 'sup_1': float('nan')} for i in (1, 2, 3)]


@pytest.mark.parametrize(
    'other, status, said',
    [
        (ROWS, 0, 'the same in all 3 logged iterations'),
        ([*ROWS[:2], {**ROWS[2], 'loss': 1.0000000000000002}], 1, 'iteration 3: loss 1.0 and 1.0000000000000002'),
        (ROWS[:2], 1, 'only the first goes on after iteration 2'),
        ([], 1, 'only the first goes on after iteration 0'),
        ([{**ROWS[0], 'extra': 1}, *ROWS[1:]], 1, 'extra None and 1'),
    ],
)
def test_difference(tmp_path, capsys, other, status, said):
    assert main([write(tmp_path / 'a', ROWS), write(tmp_path / 'b', other)]) == status
    assert said in capsys.readouterr().out


def test_no_such_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / 'a'), str(tmp_path / 'b')]) == 2
    assert capsys.readouterr().err.count('\n') == 1
