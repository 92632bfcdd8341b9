"""Compare methods over label ratios and seeds: train all of a plan's runs, and make tables of their scores.

python -m furnace.tools.study run docs/results/camvid.json
python -m furnace.tools.study tables docs/results/camvid.json
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from furnace.engine.config import load_config
from furnace.engine.curves import LOSSES, SCORES
from furnace.engine.devices import parse_devices
from furnace.tools.bench.measure import machine
from furnace.tools.same_losses import read_losses
from furnace.utils.errors import RunError, UserError

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 5  # significant ones of a loss in the results
KEYS = {'experiment': str, 'settings': dict, 'variants': dict, 'ratios': list, 'seeds': list}


class Run(NamedTuple):
    """One training of a plan."""

    variant: str
    ratio: int
    seed: int

    def __str__(self) -> str:
        return f'{self.variant}, 1/{self.ratio}, seed {self.seed}'

    @property
    def folder(self) -> str:
        return f'{self.variant.replace(" ", "_")}_1-{self.ratio}_{self.seed}'


class Plan:
    """What is to be compared, as a JSON file says it, and the results beside it (``.jsonl``: one run a line).

    ``experiment`` names the folder with ``config.py`` and ``train.py``, ``settings`` what all runs change in it,
    ``variants`` what each of the compared methods changes besides; each is trained for all ``ratios`` and ``seeds``.

    Raises:
        UserError: the file is not of this form.
    """

    def __init__(self, path: Path):
        self.path, self.results = path, path.with_suffix('.jsonl')
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise UserError(f'{path}: cannot be read as a plan: {error}') from None
        for key, kind in KEYS.items():
            if not isinstance(content, dict) or not isinstance(content.get(key), kind) or not content[key]:
                raise UserError(f'{path}: a plan has "experiment", "settings", "variants", "ratios" and "seeds"')
        self.experiment = ROOT / content['experiment']
        self.settings: dict[str, Any] = content['settings']
        self.variants: dict[str, dict[str, Any]] = content['variants']
        # One seed of everything comes before the next seed, so that a study that is cut short compares all of it.
        self.runs = [Run(v, r, s) for s, r, v in product(content['seeds'], content['ratios'], self.variants)]

    def overrides(self, run: Run) -> list[str]:
        """The ``NAME=VALUE`` arguments of a run's train.py."""
        settings = self.settings | self.variants[run.variant] | {'labeled_ratio': run.ratio, 'seed': run.seed}
        return [f'{name}={value}' for name, value in settings.items()]

    def read(self) -> dict[Run, dict]:
        """The runs that are done, in the order of the plan.

        Raises:
            UserError: a line is not what ``run`` writes, or its settings are not those of the plan.
        """
        rows = {}
        lines = self.results.read_text(encoding='utf-8').splitlines() if self.results.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                run = Run(row['variant'], row['ratio'], row['seed'])
                rows[run] = row
                same = run not in self.runs or row['overrides'] == self.overrides(run)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f'{self.results}: line {number} is no run of a study ({error!r})') from None
            if not same:
                raise UserError(
                    f'{self.results}: {run} was trained with {" ".join(row["overrides"])}, the plan says '
                    f'{" ".join(self.overrides(run))}; give the plan a new name'
                )
        return {run: rows[run] for run in self.runs if run in rows}


def train(plan: Plan, run: Run, folder: Path, device: torch.device, threads: int) -> dict:
    """Train one run in a process of its own, going on where an earlier one was stopped.

    Raises:
        RunError: it failed.
    """
    log = folder / run.folder
    log.mkdir(parents=True, exist_ok=True)
    which = 'cpu' if device.type == 'cpu' else str(device.index)
    command = [sys.executable, 'train.py', '-c', 'auto', '-d', which, *plan.overrides(run), f'log_dir={log}']
    begin = time.monotonic()
    with open(log / 'output.txt', 'ab') as output:
        environment = os.environ | {'OMP_NUM_THREADS': str(threads)}
        status = subprocess.call(command, cwd=plan.experiment, stdout=output, stderr=output, env=environment)
    spent = log / 'seconds.txt'  # of every attempt
    with open(spent, 'a', encoding='utf-8') as file:
        file.write(f'{time.monotonic() - begin}\n')
    if status:
        *_, said = ['', *(log / 'output.txt').read_text(encoding='utf-8', errors='replace').splitlines()]
        raise RunError(f'{run}: train.py ended with status {status}: {said} (all of it: {log / "output.txt"})')
    losses = [{name: float(f'{value:.{DIGITS}g}') for name, value in row.items()} for row in read_losses(log / LOSSES)]
    return {
        **run._asdict(),
        'overrides': plan.overrides(run),
        'seconds': round(sum(map(float, spent.read_text(encoding='utf-8').split())), 1),
        'machine': machine(device) | {'torch_threads': threads},
        'scores': [json.loads(line) for line in (log / SCORES).read_text(encoding='utf-8').splitlines()],
        'losses': losses,
    }


def train_all(plan: Plan, runs: list[Run], folder: Path, device: torch.device, jobs: int, keep: bool) -> list[str]:
    """Train ``runs``, ``jobs`` side by side, and append each to the results when it is done.

    Returns:
        What is to be said of those that failed.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    failures = []
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(train, plan, run, folder, device, threads): run for run in runs}
        for done, future in enumerate(as_completed(futures), 1):
            run = futures[future]
            try:
                row = future.result()
            except RunError as error:
                failures.append(str(error))
                print(f'{done}/{len(runs)} {error}', flush=True)
                continue
            with open(plan.results, 'a', encoding='utf-8') as file:
                file.write(json.dumps(row) + '\n')
            if not keep:
                shutil.rmtree(folder / run.folder / 'snapshot')
            print(
                f'{done}/{len(runs)} {run}: mean IoU {100 * last(row):.2f}, best {100 * best(row):.2f}, '
                f'{row["seconds"]:.0f} s',
                flush=True,
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return failures


def last(row: Mapping) -> float:
    """Mean IoU after the last epoch, in 0 … 1."""
    return row['scores'][-1]['mean_iou']


def best(row: Mapping) -> float:
    """The best mean IoU of a run's scores: chosen on the images it is scored on."""
    return max(score['mean_iou'] for score in row['scores'])


def spread(values: Iterable[float]) -> str:
    """Mean and standard deviation (of a sample: n − 1) of shares, in percent."""
    values = [100 * value for value in values]
    if not values:
        return '–'
    mean = f'{statistics.fmean(values):.2f}'
    return f'{mean} ± {statistics.stdev(values):.2f}' if len(values) > 1 else mean


def by_ratio(rows: Mapping[Run, dict], figure: Callable[[Mapping], float]) -> list[list[str]]:
    """A table: a row a variant, a column a ratio, mean and spread over the seeds."""
    variants, ratios = (list(dict.fromkeys(key)) for key in zip(*(run[:2] for run in rows), strict=True))
    cells = [
        [variant, *(spread(figure(rows[run]) for run in rows if run[:2] == (variant, ratio)) for ratio in ratios)]
        for variant in variants
    ]
    return [['mean IoU, %', *(f'1/{ratio}' for ratio in ratios)], *cells]


def differences(rows: Mapping[Run, dict], than: str) -> list[list[str]]:
    """As ``by_ratio``, of the last score less that of the variant ``than`` with the same ratio and seed."""
    pairs = {run: Run(than, run.ratio, run.seed) for run in rows if run.variant != than}
    both = {run: {**rows[run], 'less': last(rows[other])} for run, other in pairs.items() if other in rows}
    if not both:
        return []
    (head, *body) = by_ratio(both, lambda row: last(row) - row['less'])
    return [[f'less {than}, points', *head[1:]], *body]


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

    cells = [[name, *(spread(values(variant, name)) for variant in variants)] for name in classes]
    return [[f'IoU at 1/{ratio}, %', *variants], *cells]


def markdown(cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells]
    lines.insert(1, ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


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
    parts = {
        'After the last epoch': by_ratio(rows, last),
        'The best epoch, chosen on the images it is scored on': by_ratio(rows, best),
        'Same ratio and seed': differences(rows, than or next(iter(plan.variants))),
        'By class, after the last epoch': by_class(rows, ratio or ratios[len(ratios) // 2]),
    }
    text = [f'{title}:\n\n{markdown(cells)}' for title, cells in parts.items() if cells]
    seconds = sum(row['seconds'] for row in rows.values())
    count = len({run.seed for run in rows})
    return '\n\n'.join([*text, f'{len(rows)} runs, {count} seeds, {seconds / 3600:.1f} hours of training.'])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m furnace.tools.study',
        description=__doc__.splitlines()[0],
        epilog='A plan is a JSON file such as docs/results/camvid.json; the results lie beside it, as .jsonl.',
    )
    commands = parser.add_subparsers(dest='command', required=True, metavar='run|tables')
    run = commands.add_parser('run', help='train what is not in the results yet')
    run.add_argument('plan', type=Path, metavar='PLAN.json')
    run.add_argument('--jobs', type=int, default=1, metavar='N', help='trainings side by side (1)')
    run.add_argument('--only', nargs='+', metavar='VARIANT', help='these variants')
    run.add_argument('-d', '--device', default='0', metavar='GPU|cpu', help='where all runs train (0)')
    run.add_argument('--logs', type=Path, metavar='DIR', help='where they log; default: EXPERIMENT/log/PLAN')
    run.add_argument('--keep-checkpoints', action='store_true', help='else they are deleted when a run is done')
    show = commands.add_parser('tables', help='make tables of the results')
    show.add_argument('plan', type=Path, metavar='PLAN.json')
    show.add_argument('--classes', type=int, metavar='RATIO', help='show the classes of this ratio')
    show.add_argument('--than', metavar='VARIANT', help='what the others are compared with, run by run')
    args = parser.parse_args(arguments)
    try:
        plan = Plan(args.plan)
        for name in filter(None, [*(getattr(args, 'only', None) or []), getattr(args, 'than', None)]):
            if name not in plan.variants:
                raise UserError(f'{name}: {args.plan} has the variants {", ".join(plan.variants)}')
        if args.command == 'tables':
            print(tables(plan, args.classes, args.than))
            return 0
        return _run(plan, args)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted; the same command goes on', file=sys.stderr)
        return 130


def _run(plan: Plan, args: argparse.Namespace) -> int:
    if args.jobs < 1:
        raise UserError(f'--jobs {args.jobs}: must be at least 1')
    devices = parse_devices(args.device)
    if len(devices) > 1:
        raise UserError(f'-d {args.device}: the runs of a study share one device')
    done = plan.read()
    runs = [run for run in plan.runs if run not in done and run.variant in (args.only or plan.variants)]
    for run in runs:  # all mistakes in the plan before hours of training
        if not load_config(plan.experiment / 'config.py', plan.overrides(run)).eval_every:
            raise UserError(f'{plan.path}: eval_every is 0; a study needs scores')
    folder = (args.logs or plan.experiment / 'log' / plan.path.stem).absolute()
    print(f'{len(runs)} runs to train, {len(done)} done; logs: {folder}', flush=True)
    failures = train_all(plan, runs, folder, devices[0], args.jobs, args.keep_checkpoints)
    if failures:
        print(f'error: {len(failures)} of {len(runs)} runs failed; the first: {failures[0]}', file=sys.stderr)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
