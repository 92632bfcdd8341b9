"""Whether two runs logged exactly the same losses: the way to show that a change alters nothing.

python -m furnace.tools.same_losses exp_demo/log exp_demo/log_before
"""

import argparse
import json
import sys
from itertools import zip_longest
from pathlib import Path

from furnace.utils.errors import UserError, print_error


def read_losses(path: Path) -> list[dict[str, float]]:
    """The lines of a ``losses.jsonl`` (or of the one in a log folder)."""
    path = path / 'losses.jsonl' if path.is_dir() else path
    try:
        return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f'{path}: is not a losses.jsonl of train.py ({error})') from None


def first_difference(one: list[dict[str, float]], two: list[dict[str, float]]) -> str | None:
    """A line that tells where two runs part, or None. nan equals nan."""
    for a, b in zip_longest(one, two):
        if a is None or b is None:
            longer, last = ('first', two) if b is None else ('second', one)
            return f'only the {longer} goes on after iteration {last[-1]["iteration"] if last else 0}'
        if json.dumps(a) != json.dumps(b):
            names = [name for name in {**a, **b} if json.dumps(a.get(name)) != json.dumps(b.get(name))]
            pairs = ', '.join(f'{name} {a.get(name)!r} and {b.get(name)!r}' for name in names)
            return f'iteration {a["iteration"]}: {pairs}'
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog='python -m furnace.tools.same_losses',
        description=f'{__doc__.splitlines()[0]} Exit status 0: the same, 1: different.',
    )
    parser.add_argument('runs', nargs=2, type=Path, metavar='LOG', help='log folder of a run, or its losses.jsonl')
    args = parser.parse_args(arguments)
    try:
        one, two = map(read_losses, args.runs)
    except UserError as error:
        return print_error(error)
    difference = first_difference(one, two)
    print(f'different: {difference}' if difference else f'the same in all {len(one)} logged iterations')
    return 1 if difference else 0


if __name__ == '__main__':
    sys.exit(main())
