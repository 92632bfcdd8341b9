"""Tables of a study's results: means and spread over the seeds."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product

from furnace.tools.compare import markdown
from furnace.tools.study.plan import Plan, Run
from furnace.utils.errors import UserError


def last(row: Mapping) -> float:
    """Mean IoU after the last epoch, in 0 … 1."""
    return row['scores'][-1]['mean_iou']


def best(row: Mapping) -> float:
    """The best mean IoU of a run's scores: chosen on the images it is scored on."""
    return max(score['mean_iou'] for score in row['scores'])


def spread(values: Iterable[float], seeds: int) -> str:
    """Mean and standard deviation (of a sample: n − 1) of shares, in percent; how many, where not of all seeds."""
    values = [100 * value for value in values]
    if not values:
        return '–'
    text = f'{statistics.fmean(values):.2f}'
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):.2f}'
    return text if len(values) == seeds else f'{text} ({len(values)} of {seeds})'


def seeds_of(rows: Iterable[Run]) -> int:
    """How many different ones."""
    return len({run.seed for run in rows})


def by_ratio(rows: Mapping[Run, dict], figure: Callable[[Mapping], float]) -> list[list[str]]:
    """A table: a row a variant, a column a ratio, mean and spread over the seeds."""
    variants, ratios = (list(dict.fromkeys(key)) for key in zip(*(run[:2] for run in rows), strict=True))
    figures = {
        (variant, ratio): [figure(rows[run]) for run in rows if run[:2] == (variant, ratio)]
        for variant, ratio in product(variants, ratios)
    }
    cells = [[variant, *(spread(figures[variant, ratio], seeds_of(rows)) for ratio in ratios)] for variant in variants]
    return [['mean IoU, %', *(f'1/{ratio}' for ratio in ratios)], *cells]


def differences(rows: Mapping[Run, dict], than: str) -> list[list[str]]:
    """As ``by_ratio``, of the last score less that of the variant ``than`` with the same ratio and seed."""
    pairs = {run: Run(than, run.ratio, run.seed) for run in rows if run.variant != than}
    both = {run: {**rows[run], 'less': last(rows[other])} for run, other in pairs.items() if other in rows}
    if not both:
        return []
    (head, *body) = by_ratio(both, lambda row: last(row) - row['less'])
    return [[f'minus {than}, points', *head[1:]], *body]


def by_class(rows: Mapping[Run, dict], ratio: int) -> list[list[str]]:
    """A table: a row a class, a column a variant, after the last epoch at one ratio."""
    chosen = {run: row for run, row in rows.items() if run.ratio == ratio}
    if not chosen:
        return []
    variants = list(dict.fromkeys(run.variant for run in chosen))
    classes = next(iter(chosen.values()))['scores'][-1]['iou']

    def values(variant: str, name: str) -> Iterator[float]:
        scores = (row['scores'][-1]['iou'][name] for run, row in chosen.items() if run.variant == variant)
        return (score for score in scores if score is not None)

    cells = [[name, *(spread(values(variant, name), seeds_of(chosen)) for variant in variants)] for name in classes]
    return [[f'IoU at 1/{ratio}, %', *variants], *cells]


def tables(plan: Plan, ratio: int | None, than: str | None) -> str:
    """All that is said of a plan's runs, in Markdown.

    Args:
        ratio: whose classes are shown; default: the middle one of the plan.
        than: the variant that the others are compared with; default: the first of the plan.
    """
    rows = plan.read()
    if not rows:
        raise UserError(f'{plan.results}: holds no run of this plan yet; python -m furnace.tools.study run {plan.path}')
    ratios = sorted({run.ratio for run in rows})
    if ratio not in (None, *ratios):
        raise UserError(f'--classes {ratio}: the results have the ratios {", ".join(map(str, ratios))}')
    parts = {
        'After the last epoch': by_ratio(rows, last),
        'The best epoch, chosen on the images it is scored on': by_ratio(rows, best),
        'Same ratio and seed': differences(rows, than or next(iter(plan.variants))),
        'By class, after the last epoch': by_class(rows, ratio or ratios[len(ratios) // 2]),
    }
    text = [f'{title}:\n\n{markdown(cells)}' for title, cells in parts.items() if cells]
    hours = sum(row['seconds'] for row in rows.values()) / 3600
    machines = (
        row['machine']['cpu'] if row['machine']['device'] == 'CPU' else row['machine']['device']
        for row in rows.values()
    )
    where = ', '.join(dict.fromkeys(machines))
    text.append(f'{len(rows)} runs, {hours:.1f} hours of training on: {where}. ±: standard deviation over the seeds.')
    return '\n\n'.join(text)
