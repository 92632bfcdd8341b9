"""Compare methods over label ratios and seeds: train all of a plan's runs, and make tables of their scores.

python -m furnace.tools.study run docs/results/camvid.json
python -m furnace.tools.study tables docs/results/camvid.json
"""

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from furnace.engine.config import ENVIRONMENT, load_config
from furnace.engine.devices import parse_devices
from furnace.engine.signals import Stopped
from furnace.tools.study.plan import Plan
from furnace.tools.study.tables import tables
from furnace.tools.study.train import train_all
from furnace.utils.errors import RunError, UserError, print_error, write_error


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
    run.add_argument('--only', nargs='+', metavar='VARIANT', help='these variants alone')
    run.add_argument('--ratios', nargs='+', type=int, metavar='RATIO', help='these ratios alone; 8: 1/8 of the labels')
    run.add_argument('-d', '--device', default='0', metavar='GPU|cpu', help='where all runs train (0)')
    run.add_argument('--logs', type=Path, metavar='DIR', help='where they log; default: EXPERIMENT/log/PLAN')
    run.add_argument('--keep-checkpoints', action='store_true', help='else they are deleted when a run is done')
    show = commands.add_parser('tables', help='make tables of the results')
    show.add_argument('plan', type=Path, metavar='PLAN.json')
    show.add_argument('--classes', type=int, metavar='RATIO', help='show the classes of this ratio (the middle one)')
    show.add_argument('--than', metavar='VARIANT', help='what the others are compared with, run by run (the first)')
    args = parser.parse_args(arguments)
    try:
        plan = Plan(args.plan)
        if args.command == 'tables':
            plan.require([args.than] if args.than else [])
            print(tables(plan, args.classes, args.than))
            return 0
        plan.require(args.only or [], args.ratios or [])
        with _stopping():
            return _run(plan, args)
    except (UserError, RunError) as error:
        return print_error(error)
    except Stopped as stopped:
        print(f'{stopped}; the same command goes on', file=sys.stderr)
        return 128 + stopped.number


@contextmanager
def _stopping() -> Iterator[None]:
    """Within it a signal that ends a process raises Stopped, but for those that it was started to ignore (nohup)."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    taken = {number: handler for number, handler in former.items() if handler != signal.SIG_IGN}
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _run(plan: Plan, args: argparse.Namespace) -> int:
    if args.jobs < 1:
        raise UserError(f'--jobs {args.jobs}: must be at least 1')
    for variable in ENVIRONMENT.keys() - {'volna'}:  # the settings are the plan's alone; volna says where furnace lies
        os.environ.pop(variable, None)
    devices = parse_devices(args.device)
    if len(devices) > 1:
        raise UserError(f'-d {args.device}: the runs of a study share one device')
    done = plan.read()
    variants, ratios = args.only or plan.variants, args.ratios or plan.ratios
    runs = [run for run in plan.runs if run not in done and run.variant in variants and run.ratio in ratios]
    for run in runs:  # all mistakes in the plan before hours of training
        if not load_config(plan.experiment / 'config.py', plan.overrides(run)).eval_every:
            raise UserError(f'{plan.path}: eval_every is 0; a study needs scores')
    try:
        plan.results.open('a').close()
    except OSError as error:
        raise write_error(error, plan.results) from None
    folder = (args.logs or plan.experiment / 'log' / plan.path.stem).absolute()
    print(f'{len(runs)} runs to train, {len(done)} done; logs: {folder}', flush=True)
    failures = train_all(plan, runs, folder, devices[0], args.jobs, args.keep_checkpoints)
    if failures:
        print(f'error: {len(failures)} of {len(runs)} runs failed; the first: {failures[0]}', file=sys.stderr)
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
