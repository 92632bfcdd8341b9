"""Draws the scores of a study over its iterations: the mean of each variant, and the range of its seeds.

python img/results.py docs/results/scenes.json img/results_scenes.png --only supervised CPS CPCL
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from furnace.tools.plot import COLORS, DASHES
from furnace.tools.study.plan import Plan, Run
from furnace.utils.errors import RunError, UserError, print_error
from furnace.utils.files import drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(rows: Mapping[Run, dict], ratio: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By variant: iterations (T), and mean IoU in percent (seeds, T)."""
    found = {}
    for run, row in rows.items():
        if run.ratio == ratio:
            found.setdefault(run.variant, []).append(
                [(score['iteration'], score['mean_iou']) for score in row['scores']]
            )
    arrays = {variant: np.array(runs).transpose(2, 0, 1) for variant, runs in found.items()}
    return {variant: (iterations[0], 100 * scores) for variant, (iterations, scores) in arrays.items()}


def draw(rows: Mapping[Run, dict]) -> 'Figure':
    """A plot a ratio, few labels first."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('charts are drawn by matplotlib, which is not installed: pip install matplotlib') from None
    ratios = sorted({run.ratio for run in rows}, reverse=True)
    variants = list(dict.fromkeys(run.variant for run in rows))
    figure = Figure((1.8 + 4.2 * len(ratios), 4.2), layout='constrained')
    lines = {}
    for i, ratio in enumerate(ratios, 1):
        axes = figure.add_subplot(1, len(ratios), i, title=f'1/{ratio} of the labels', xlabel='iteration')
        axes.set_ylabel('mean IoU, %')
        for variant, (iterations, scores) in curves(rows, ratio).items():
            color = COLORS[variants.index(variant) % len(COLORS)]
            dashes = DASHES[variants.index(variant) % len(DASHES)]
            (lines[variant],) = axes.plot(iterations, scores.mean(axis=0), color=color, linestyle=dashes, linewidth=1.8)
            axes.fill_between(iterations, scores.min(axis=0), scores.max(axis=0), color=color, alpha=0.15, linewidth=0)
        axes.grid(alpha=0.25)
        axes.spines[['top', 'right']].set_visible(False)
    figure.legend(lines.values(), lines, loc='outside lower center', ncols=4, handlelength=4)
    return figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python img/results.py', description=__doc__.splitlines()[0])
    parser.add_argument('plan', type=Path, metavar='PLAN.json', help='the results lie beside it')
    parser.add_argument('output', type=Path, metavar='FILE.png')
    parser.add_argument('--only', nargs='+', metavar='VARIANT', help='these variants')
    args = parser.parse_args(arguments)
    try:
        plan = Plan(args.plan)
        plan.require(args.only or [])
        rows = {run: row for run, row in plan.read().items() if run.variant in (args.only or plan.variants)}
        if not rows:
            raise UserError(f'{plan.results}: holds no such run of this plan yet')
        figure = draw(rows)
        try:
            with drawing(args.output) as temporary:
                figure.savefig(temporary, dpi=110)
        except ValueError as error:  # a suffix of no known format
            raise UserError(f'{args.output}: cannot be written: {error}') from None
    except (RunError, UserError) as error:
        return print_error(error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
