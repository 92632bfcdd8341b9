"""Curves of one or several runs: losses, agreement of the branches, scores while training.

python -m furnace.tools.plot exp_demo/log/supervised exp_demo/log -o curves.png
"""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from furnace.tools.same_losses import read_losses
from furnace.utils.errors import RunError, UserError, print_error
from furnace.utils.files import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# By the names in losses.jsonl and scores.jsonl, in the order of the plots; names of one quantity share a plot.
TITLES = {
    'loss': 'loss',
    'sup_1': 'supervised loss, branch 1',
    'sup_2': 'supervised loss, branch 2',
    'inter': 'intersection loss, branch 1',
    'union': 'union loss, branch 2',
    'cps_1': 'CPS loss, branch 1',
    'cps_2': 'CPS loss, branch 2',
    'inter_1': 'intersection loss, branch 1',
    'inter_2': 'intersection loss, branch 2',
    'union_1': 'union loss, branch 1',
    'union_2': 'union loss, branch 2',
    'overlap': 'agreement of the branches, %',
    'mean_iou': 'mean IoU, %',
    'pixel_accuracy': 'pixel accuracy, %',
}
SCORES = ('mean IoU, %', 'pixel accuracy, %')
# Okabe and Ito's colours without yellow, too pale on white; fewer dashes than colours, so that pairs repeat late.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#000000', '#56B4E9', '#E69F00')
DASHES = ('-', (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (10, 3)), (0, (3, 1.5, 1, 1.5, 1, 1.5)))
PARTS = 40  # of the longest run; a mean spans one of them


class Curve(NamedTuple):
    iterations: np.ndarray
    values: np.ndarray


def read_run(folder: Path) -> dict[str, Curve]:
    """The curves of a run by title, from its log folder's losses.jsonl and, where there is one, scores.jsonl.

    Raises:
        UserError: there is no run, or a file is not of this form.
    """
    if not (folder / 'losses.jsonl').is_file():
        raise UserError(f'{folder}: holds no losses.jsonl; give the log folder of a run')
    curves = _curves(folder / 'losses.jsonl')
    if (folder / 'scores.jsonl').is_file():
        curves |= _curves(folder / 'scores.jsonl')
    if not curves:
        raise UserError(f'{folder}: nothing is logged yet; the first line comes after C.log_every iterations')
    return curves


def _curves(path: Path) -> dict[str, Curve]:
    rows = read_losses(path)
    try:
        names = [name for name in TITLES if any(name in row for row in rows)]
        points = {name: [(row['iteration'], row[name]) for row in rows if name in row] for name in names}
        return {TITLES[name]: Curve(*np.array(pairs, np.float64).T) for name, pairs in points.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f'{path}: is not what train.py writes ({error!r})') from None


def smooth(curve: Curve, span: float) -> Curve:
    """The mean of the values that are logged within ``span`` iterations around each."""
    start, stop = (
        np.searchsorted(curve.iterations, curve.iterations + sign * span / 2, side)
        for sign, side in ((-1, 'left'), (1, 'right'))
    )
    return curve._replace(values=np.array([curve.values[i:j].mean() for i, j in zip(start, stop, strict=True)]))


def draw(runs: dict[str, dict[str, Curve]]) -> 'Figure':
    """A plot of each quantity, a line a run, in its colour and its dashes; scores as points, as they are.

    Args:
        runs: by name, as ``read_run`` gives them.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise UserError('curves are drawn by matplotlib, which is not installed: pip install matplotlib') from None
    titles = [title for title in dict.fromkeys(TITLES.values()) if any(title in curves for curves in runs.values())]
    columns = min(3, len(titles))
    rows = math.ceil(len(titles) / columns)
    width = 1 + 3.6 * columns  # inches
    figure = Figure((width, 1.2 + 2.6 * rows), layout='constrained')
    span = max(curve.iterations[-1] for curves in runs.values() for curve in curves.values()) / PARTS
    figure.suptitle(f'Losses and agreement: means over {span:.0f} iterations' if span >= 2 else 'Losses and agreement')
    lines = {}
    for i, title in enumerate(titles, 1):
        axes = figure.add_subplot(rows, columns, i, title=title)
        for number, (run, curves) in enumerate(runs.items()):
            if title not in curves:
                continue
            curve = curves[title] if title in SCORES else smooth(curves[title], span)
            (line,) = axes.plot(
                curve.iterations,
                curve.values * (100 if title.endswith('%') else 1),
                color=COLORS[number % len(COLORS)],
                linestyle=DASHES[number % len(DASHES)],
                marker='osD^v'[number % 5] if title in SCORES else '',
                markersize=4,
                linewidth=1.6,
            )
            lines.setdefault(run, line)
        if 'loss' in title:
            axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel('iteration')
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    abreast = max(1, int(10 * width / (max(map(len, runs)) + 12)))  # some ten characters take an inch
    figure.legend(
        [lines[run] for run in runs],
        list(runs),
        loc='outside lower center',
        ncols=min(abreast, len(runs)),
        handlelength=5,
    )
    return figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m furnace.tools.plot', description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', type=Path, metavar='LOG', help='log folder of a run')
    parser.add_argument(
        '-o', '--output', type=Path, metavar='FILE', help='.png or .svg; default: curves.png in the first LOG'
    )
    args = parser.parse_args(arguments)
    output = args.output or args.runs[0] / 'curves.png'
    try:
        if output.suffix not in ('.png', '.svg'):
            raise UserError(f'{output}: must end in .png or .svg')
        figure = draw({str(run): read_run(run) for run in args.runs})
        with drawing(output) as temporary:
            figure.savefig(temporary, dpi=150)
        print(f'written to {output}')
    except (UserError, RunError) as error:
        return print_error(error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
