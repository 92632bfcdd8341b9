"""The page of a report: what ``templates/`` shows of results, gallery and facts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from furnace.datasets.classes import Classes
from furnace.engine.report.chart import Chart, chart
from furnace.engine.report.gallery import FOLDER, LEVELS, Picture

TEMPLATES = Path(__file__).with_name('templates')
CONFUSIONS = 8  # named beside the matrix


class Row(NamedTuple):
    """A class of the table; shares in 0 … 1, None where there is nothing to divide by."""

    number: int
    name: str
    color: str
    iou: float | None
    precision: float | None
    recall: float | None
    share: float | None
    pixels: int


class Confusion(NamedTuple):
    """Pixels of one class that were taken for another."""

    truth: str
    guess: str
    pixels: int
    share: float
    """of the pixels of ``truth``"""


def render(
    title: str,
    results: Sequence[dict],
    top: dict,
    classes: Classes,
    gallery: Sequence[Picture],
    facts: dict[str, Any],
    settings: dict[str, Any],
) -> str:
    """The whole page as HTML; names are escaped.

    Args:
        title: of the experiment.
        results: as ``evaluator.record`` makes them, in the order of evaluation.
        top: the one of them that is shown in detail, with the other branch of its checkpoint.
        gallery: pictures made with ``top``, worst first.
        facts: what was evaluated with what, by name.
        settings: the configuration, by name.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=_percent, count='{:,}'.format)
    shown = [result for result in results if result['checkpoint'] == top['checkpoint']]
    return environment.get_template('page.html').render(
        title=title,
        results=results,
        top=top,
        shown=[{**result, 'rows': rows(result['confusion'], classes)} for result in shown],
        matrix=_matrix,
        confusions=lambda result: confusions(result['confusion'], classes.names),
        charts=charts(results),
        classes=classes,
        gallery=gallery,
        facts=facts,
        settings=settings,
        images=FOLDER,
        levels=LEVELS,
        # The program's own files; nothing in them comes from elsewhere.
        style=Markup((TEMPLATES / 'style.css').read_text(encoding='utf-8')),
        script=Markup((TEMPLATES / 'script.js').read_text(encoding='utf-8')),
    )


def rows(confusion: Sequence[Sequence[int]], classes: Classes) -> list[Row]:
    """IoU, precision (of what was predicted), recall (of what is labelled) and share of the pixels, for each class."""
    counts = np.array(confusion, np.int64)
    hit, labelled, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return [
        Row(
            i,
            classes.names[i],
            '#{:02x}{:02x}{:02x}'.format(*classes.colors[i]),
            _share(hit[i], labelled[i] + predicted[i] - hit[i]),
            _share(hit[i], predicted[i]),
            _share(hit[i], labelled[i]),
            _share(labelled[i], labelled.sum()),
            int(labelled[i]),
        )
        for i in range(len(classes))
    ]


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _matrix(result: dict) -> list[list[tuple[int, float | None]]]:
    """Pixels, and their share of the row, for each cell."""
    return [[(count, _share(count, sum(row))) for count in row] for row in result['confusion']]


def confusions(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> list[Confusion]:
    """The mistakes that most pixels have part in, most first."""
    found = [
        Confusion(names[i], names[j], count, count / sum(row))
        for i, row in enumerate(confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, key=lambda entry: -entry.pixels)[:CONFUSIONS]


def charts(results: Sequence[dict]) -> list[Chart]:
    """Mean IoU by branch over the checkpoints, and the branches' agreement; nothing of a single checkpoint."""
    paths = list(dict.fromkeys(result['checkpoint'] for result in results))
    if len(paths) < 2:
        return []
    names = [Path(path).stem.removeprefix('epoch-') for path in paths]
    branches = sorted({result['branch'] for result in results})
    found = {(result['checkpoint'], result['branch']): result for result in results}

    def values(branch: int, score: str) -> list[float | None]:
        scores = [found[path, branch].get(score) for path in paths]
        return [None if value is None else 100 * value for value in scores]

    made = [chart('Mean IoU, %', names, {f'branch {branch}': values(branch, 'mean_iou') for branch in branches})]
    if len(branches) > 1:
        made.append(chart('Agreement of the branches, % of pixels', names, {'agreement': values(1, 'agreement')}))
    return made


def _percent(value: float | None, digits: int = 2) -> str:
    return '–' if value is None or math.isnan(value) else f'{100 * value:.{digits}f}'
