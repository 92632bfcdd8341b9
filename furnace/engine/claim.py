"""The folders of a training are its own while it runs."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from furnace.engine.logger import make_folder
from furnace.utils.errors import UserError

LOCK = '.lock'


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Within it no other training, of this machine or another, may claim ``folder``, which is made if needed.

    A process may claim a folder again. The kernel ends its claims with it, however it ends; where the file system
    knows no locks, nothing is claimed.

    Raises:
        UserError: a training that goes on has claimed it.
    """
    make_folder(folder)
    with open(folder / LOCK, 'a+', encoding='utf-8') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which loader workers would inherit
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise UserError(
                f'{folder}: a training runs there ({file.read()}); end that one, or give this one a log_dir and a '
                'snapshot_dir of its own'
            ) from None
        except OSError:  # no locks on this file system
            pass
        else:
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}')
            file.flush()
        yield
