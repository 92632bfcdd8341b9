"""A log folder belongs to one training at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnace.engine.logger import make_folder
from furnace.utils.errors import UserError


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it no other training, of this machine or another, may claim ``folder``, which is made if needed.

    The kernel ends a claim with its process, however that ends. Where the file system knows no locks, nothing is
    claimed.

    Raises:
        UserError: a training that goes on has claimed it.
    """
    make_folder(folder)
    with open(folder / '.lock', 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which loader workers would inherit
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(
                f'{folder}: a training runs there ({file.read()}); give this one another log_dir, or end that one'
            ) from None
        except OSError:  # no locks on this file system
            pass
        else:
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}')
            file.flush()
        yield
