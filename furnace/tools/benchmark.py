"""What this code costs, in turns with a plain version of the same method: data, memory, step, evaluation.

python -m furnace.tools.benchmark                          everything that this machine can measure
python -m furnace.tools.benchmark step --device cuda:0     one part, on a GPU
python -m furnace.tools.benchmark --quick                  a look at everything in about a minute
"""

import argparse
import re
import shlex
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

import torch

from furnace.engine.logger import make_folder
from furnace.engine.precision import set_up
from furnace.tools.bench import data, evaluation, memory, plain, profile, step
from furnace.tools.bench.measure import Row, machine, table
from furnace.tools.bench.recipes import RECIPES, Plan
from furnace.utils.errors import RunError, UserError, print_error
from furnace.utils.files import write_json

PARTS = {
    'data': data.rows,
    'memory': memory.rows,
    'step': step.rows,
    'profile': profile.rows,
    'eval': evaluation.rows,
}
# What a GPU costs comes first there, and what needs no GPU last: its minutes are counted.
ON_GPU = ('step', 'eval', 'profile', 'memory', 'data')
QUICK = {
    'quick': True, 'rounds': 1, 'images': 1, 'backbone': 'resnet18', 'memory_side': 65, 'step_side': 33, 'waits': 1,
    'list_lengths': (100, 100_000),
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m furnace.tools.benchmark',
        description=f'{__doc__.splitlines()[0]} Medians (least–most); only ratios carry over to other machines.',
    )
    parser.add_argument('part', nargs='?', default='all', choices=(*PARTS, 'all'), help='default: all')
    parser.add_argument('--device', default='cpu', help='cpu (default) or cuda:0')
    parser.add_argument('--recipe', choices=RECIPES, help='one of the recipes; default: each')
    parser.add_argument('--quick', action='store_true', help='small networks and crops, few rounds')
    parser.add_argument(
        '--data', type=Path, metavar='DIR', help="data root of the recipe's own images instead of drawn ones"
    )
    parser.add_argument(
        '--json',
        type=Path,
        metavar='FILE',
        help='write the figures there; in a folder, to a file named after device and part',
    )
    args = parser.parse_args(arguments)
    command = shlex.join(
        ['python', '-m', 'furnace.tools.benchmark', *(sys.argv[1:] if arguments is None else arguments)]
    )
    try:
        _run(args, command)
    except (UserError, RunError) as error:
        return print_error(error)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130
    return 0


def _run(args: argparse.Namespace, command: str) -> None:
    device = _device(args.device)
    if args.data and not args.recipe:
        raise UserError('--data: whose layout is it? name it with --recipe city or --recipe voc')
    plain.load('data')  # told before anything is measured
    described = machine(device)
    path = args.json and _json_path(args.json, described['device'], args.part)
    set_up(device, deterministic=False)
    recipes = (RECIPES[args.recipe],) if args.recipe else tuple(RECIPES.values())
    print(
        f'{described["device"]}, {described["cpu"]}, {described["torch_threads"]} threads, torch {described["torch"]}'
    )
    on_gpu, rows, failed = device.type == 'cuda', [], []
    amount = QUICK if args.quick else {}
    if on_gpu:  # enough iterations that what the loader has ready beforehand does not hide a wait
        amount = {**amount, 'waits': 20 if args.quick else 40}
    try:
        with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
            plan = Plan(recipes, device, Path(folder), args.data, **amount)
            for name in (ON_GPU if on_gpu else PARTS) if args.part == 'all' else (args.part,):
                print(f'measuring: {name}', file=sys.stderr)
                try:
                    for row in PARTS[name](plan):
                        rows.append(row)
                except (UserError, RunError):
                    raise
                except Exception:  # of a device that nothing here was tried on; the other parts may work
                    traceback.print_exc()
                    failed.append(name)
                if path:  # after each part: what comes later may be stopped
                    content = {'machine': described, 'command': command, 'quick': args.quick, 'rows': _plain(rows)}
                    write_json(path, content | ({'failed': failed} if failed else {}))
    finally:
        if rows:
            print(table(rows))
    if path:
        print(f'written to {path}')
    if failed:
        raise RunError(f'{", ".join(failed)}: could not be measured; the reason stands above')


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError:
        device = None
    if device is None or device.type not in ('cpu', 'cuda'):
        raise UserError(f'--device {text}: expected cpu or cuda:0')
    if device.type == 'cuda':
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise UserError(f'--device {text}: PyTorch sees {count or "no"} GPU{"s" * (count > 1)} here')
        device = torch.device('cuda', device.index or 0)
        torch.cuda.set_device(device)
    return device


def _json_path(path: Path, device_name: str, part: str) -> Path:
    """The file itself, or one named after device and part in a folder; a mistake shows before anything is measured."""
    if path.is_dir():
        name = device_name if part == 'all' else f'{device_name} {part}'
        return path / f'benchmark_{re.sub("[^a-z0-9]+", "_", name.lower())}.json'
    make_folder(path.parent)
    return path


def _plain(rows: list[Row]) -> list[dict]:
    return [{**asdict(row), 'ratio': row.ratio} for row in rows]


if __name__ == '__main__':
    sys.exit(main())
