"""A run's log: a plain text file, and the same lines on the terminal."""

import errno
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from furnace.utils.errors import UserError


class _Terminal(logging.Handler):
    """Prints above a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(self.format(record))


class Console:
    """A stream whose terminal may be closed, or the reader of its pipe ended: what comes then goes nowhere."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's."""
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """As the stream's."""
        self._try(self._stream.flush)

    def _try(self, call: Callable, *arguments: str) -> None:
        try:
            call(*arguments)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EPIPE):
                raise
            with suppress(OSError), open(os.devnull, 'wb') as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextmanager
def unread() -> Iterator[None]:
    """Within it nothing ends because nobody reads what it prints; the log files have it."""
    former = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Console, former)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = former


def tell(text: str) -> None:
    """Print a line on the terminal, above a progress bar."""
    encoding = sys.stdout.encoding or 'utf-8'  # in which not every name can be written
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
