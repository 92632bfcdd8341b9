"""A run's log: a plain text file, and the same lines on the terminal."""

import errno
import itertools
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from tqdm import tqdm
from tqdm.utils import ObjectWrapper

from furnace.utils.errors import UserError


class _Terminal(logging.Handler):
    """Prints above a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(self.format(record))


@contextmanager
def unread(stream: TextIO) -> Iterator[None]:
    """Within it ``stream`` may be a closed terminal, or a pipe whose reader has ended: what comes goes nowhere then."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE):
            raise
        with suppress(OSError), open(os.devnull, 'wb') as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


class Console(ObjectWrapper):
    """A stream for a progress bar that goes on when nobody reads it any more; to tqdm it is the stream itself."""

    def __init__(self, stream: TextIO):
        super().__init__(stream)
        for name in ('write', 'flush'):
            self.wrapper_setattr(name, unread(stream)(getattr(stream, name)))

    def __eq__(self, other: object) -> bool:
        return self._wrapped == getattr(other, '_wrapped', other)

    __hash__ = None


def tell(text: str) -> None:
    """Print a line on the terminal, above a progress bar."""
    encoding = sys.stdout.encoding or 'utf-8'  # in which not every name can be written
    with unread(sys.stdout):
        tqdm.write(text.encode(encoding, 'backslashreplace').decode(encoding), file=sys.stdout)
        sys.stdout.flush()


def unused_path(folder: Path, kind: str, suffix: str) -> Path:
    """``folder/{kind}_{time}{suffix}``, with a number behind it where another run began in the same second."""
    stem = f'{kind}_{datetime.now():%Y_%m_%d_%H_%M_%S}'
    names = itertools.chain([stem], (f'{stem}_{number}' for number in itertools.count(2)))
    return next(path for name in names if not os.path.exists(path := folder / f'{name}{suffix}'))


def make_folder(path: Path) -> None:
    """The folder and those above it, where they are not there yet.

    Raises:
        UserError: the folder cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = 'there is a file of this name' if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f'{path}: the folder cannot be made: {reason}') from None


def silent_log() -> logging.Logger:
    """A logger for the processes beside rank 0."""
    logger = logging.getLogger('furnace.silent')
    logger.propagate = False
    logger.handlers = [logging.NullHandler()]
    return logger


def open_log(path: Path) -> logging.Logger:
    """A logger that appends to ``path`` and prints; its folder is made if needed."""
    make_folder(path.parent)
    logger = logging.getLogger(f'furnace.{path}')
    logger.setLevel(logging.INFO)
    logger.propagate = False
    file = logging.FileHandler(path, encoding='utf-8', errors='backslashreplace')
    file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s', '%Y-%m-%d %H:%M:%S'))
    terminal = _Terminal(logging.INFO)
    terminal.setFormatter(logging.Formatter('%(message)s'))
    logger.handlers = [file, terminal]
    return logger
