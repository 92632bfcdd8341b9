"""The exceptions that reach a person as one line."""

import errno
import os
import sys
from collections.abc import Sequence

FULL = (errno.ENOSPC, errno.EDQUOT)
ROOM = 'make room on the disk, or in your quota (df -h)'
MISTAKES = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.ENOENT, errno.EEXIST,
    errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


class UserError(Exception):
    """A mistake in a setting, a file or a command: its text is one line that says what to do about it.

    Command lines print it after ``error:`` and exit with status 2.
    """

    status = 2


class RunError(Exception):
    """A run that cannot go on though nobody made a mistake: printed in the same way, exit status 1."""

    status = 1


def file_error(error: OSError, path: str | os.PathLike | None = None) -> UserError | RunError | None:
    """In words, the user's mistake or a failure; None where it tells of no file, but of a connection, say.

    Args:
        path: the file or folder it is about, if it does not say: a write that fails does not.
    """
    name = path if error.filename is None else error.filename
    if error.errno in FULL:
        prefix = '' if name is None else f'{name}: '
        return RunError(f'{prefix}{error.strerror}; {ROOM}')
    if name is None:
        return None
    return (UserError if error.errno in MISTAKES else RunError)(f'{name}: {error.strerror or error}')


def write_error(error: OSError, path: str | os.PathLike, what: str = 'cannot be written') -> UserError | RunError:
    """In words, that ``path`` could not be written: the user's mistake or a failure."""
    hint = f'; {ROOM}' if error.errno in FULL else ''
    return (UserError if error.errno in MISTAKES else RunError)(f'{path}: {what}: {error.strerror or error}{hint}')


def print_error(error: UserError | RunError) -> int:
    """Print it on stderr, as one line. Returns the exit status."""
    print(f'error: {" ".join(str(error).splitlines())}', file=sys.stderr)
    return error.status


def some(names: Sequence[str], number: int = 3) -> str:
    """The first few of many names, for such a line."""
    return ', '.join(names[:number]) + (', …' if len(names) > number else '')
