"""The tables of a study are those of its results."""

import pytest
from studies import row

from furnace.tools.study.plan import ROOT, Plan, Run
from furnace.tools.study.tables import best, by_class, by_ratio, differences, last, spread, tables

ROWS = {
    Run('A', 8, 1): row(Run('A', 8, 1), 0.30, 0.40, {'sky': 0.5, 'car': None}),
    Run('A', 8, 2): row(Run('A', 8, 2), 0.32, 0.36, {'sky': 0.7, 'car': 0.2}),
    Run('A', 4, 1): row(Run('A', 4, 1), 0.50),
    Run('B', 8, 1): row(Run('B', 8, 1), 0.33, None, {'sky': 0.5, 'car': 0.25}),
    Run('B', 8, 2): row(Run('B', 8, 2), 0.34, None, {'sky': 0.5, 'car': 0.25}),
    Run('B', 8, 3): row(Run('B', 8, 3), 0.90, None, {'sky': 0.5, 'car': 0.25}),
}


def test_means_and_spread():
    assert by_ratio(ROWS, last)[:2] == [
        ['mean IoU, %', '1/8', '1/4'],
        ['A', '31.00 ± 1.41 (2 of 3)', '50.00 (1 of 3)'],
    ]
    assert by_ratio(ROWS, best)[1] == ['A', '38.00 ± 2.83 (2 of 3)', '50.00 (1 of 3)']
    assert by_ratio(ROWS, last)[2][1:] == ['52.33 ± 32.62', '–']
    assert spread([0.5], 1) == '50.00'


def test_differences_are_those_of_the_same_seed():
    """Seed 3 has no partner."""
    assert differences(ROWS, 'A') == [['minus A, points', '1/8'], ['B', '2.50 ± 0.71']]
    assert differences({Run('A', 8, 1): ROWS[Run('A', 8, 1)]}, 'A') == []


def test_classes_that_are_not_there_do_not_count():
    assert by_class(ROWS, 8) == [
        ['IoU at 1/8, %', 'A', 'B'],
        ['sky', '60.00 ± 14.14 (2 of 3)', '50.00 ± 0.00'],
        ['car', '20.00 (1 of 3)', '25.00 ± 0.00'],
    ]


@pytest.mark.parametrize('path', sorted((ROOT / 'docs' / 'results').glob('*.jsonl')), ids=lambda path: path.stem)
def test_the_published_tables_are_those_of_the_logs(path):
    published = (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8')
    for part in tables(Plan(path.with_suffix('.json')), None, None).split('\n\n'):
        assert part in published
