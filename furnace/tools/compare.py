"""A table of several evaluations side by side.

python -m furnace.tools.compare exp_demo/log/supervised/val_last.json exp_demo/log/val_last.json
"""

import argparse
import json
import sys
from pathlib import Path

from furnace.utils.errors import RunError, UserError, print_error
from furnace.utils.files import write_text


def read_column(path: Path) -> tuple[str, dict[str, float | None]]:
    """Heading and rows (name to a share in 0 … 1) of the best model in a ``val_*.json``."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        result = max(content['results'], key=lambda result: result['mean_iou'] or 0)
        rows = {
            **result['iou'],
            'mean IoU': result['mean_iou'],
            'mean IoU without class 0': result['mean_iou_no_background'],
            'pixel accuracy': result['pixel_accuracy'],
        }
        trained = result['trained']
        if trained['method'] is None:  # a released checkpoint does not tell
            return Path(result['checkpoint']).name, rows
        return f'{trained["method"]}, 1/{trained["labeled_ratio"]} labels, epoch {result["epoch"]}', rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path}: is not a val_*.json of eval.py ({error!r})') from None


def table(columns: list[tuple[str, dict[str, float | None]]]) -> str:
    """Percentages as a Markdown table, one row a class."""
    names = list(dict.fromkeys(name for _, rows in columns for name in rows))
    body = [
        [name, *('–' if rows.get(name) is None else f'{100 * rows[name]:.2f}' for _, rows in columns)] for name in names
    ]
    return markdown([['%', *(heading for heading, _ in columns)], *body])


def markdown(cells: list[list[str]]) -> str:
    """A Markdown table of rows, the first of which is its head; numbers, from the second column on, to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in cells]
    lines.insert(1, ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='python -m furnace.tools.compare', description=__doc__.splitlines()[0])
    parser.add_argument(
        'files',
        nargs='+',
        type=Path,
        metavar='val_*.json',
        help='what eval.py wrote; of several checkpoints or branches in one, the best',
    )
    parser.add_argument('-o', '--output', type=Path, metavar='FILE.md', help='write the table there too')
    args = parser.parse_args(arguments)
    try:
        text = table([read_column(path) for path in args.files])
        print(text)
        if args.output:
            write_text(args.output, text)
            print(f'written to {args.output}')
    except (UserError, RunError) as error:
        return print_error(error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
