"""Bring data into this project's layout, choose its lists, and check what is there.

From the root of the checkout:

    python -m furnace.datasets.prepare folder ~/roads DATA/roads
    python -m furnace.datasets.prepare splits DATA/roads --counts 50 100
    python -m furnace.datasets.prepare check DATA/roads
    python -m furnace.datasets.prepare folder --help
"""

import argparse
import io
import sys
from collections.abc import Sequence

from furnace.datasets import check, subsets
from furnace.datasets.prepare import camvid, city, folder, voc
from furnace.utils.errors import RunError, UserError, file_error, print_error

# Each has add_parser(subparsers), which sets the default ``prepare``: a function of the parsed arguments, by name, that
# returns the exit status (None is 0).
SUBCOMMANDS = (folder, camvid, city, voc, subsets, check)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status: what the subcommand returns, 2 after a mistake, 1 where a run could not go on (one line on
        stderr), 130 after Ctrl-C.
    """
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')  # names and signs that the terminal has not
    parser = argparse.ArgumentParser(
        prog='python -m furnace.datasets.prepare', description="Bring data into this project's layout."
    )
    kinds = parser.add_subparsers(required=True, metavar='KIND')
    for subcommand in SUBCOMMANDS:
        subcommand.add_parser(kinds)
    arguments = vars(parser.parse_args(argv))
    prepare = arguments.pop('prepare')
    try:
        return prepare(**arguments) or 0
    except (UserError, RunError) as error:
        return print_error(error)
    except OSError as error:
        return print_error(file_error(error) or RunError(error))
    except KeyboardInterrupt as error:
        print(f'interrupted{": " * bool(str(error))}{error}', file=sys.stderr)
        return 130


if __name__ == '__main__':
    sys.exit(main())
