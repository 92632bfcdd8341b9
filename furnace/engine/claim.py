"""A folder belongs to one training at a time."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from furnace.engine.logger import make_folder
from furnace.utils.errors import UserError


@contextmanager
def claimed(log_dir: Path, snapshot_dir: Path) -> Iterator[None]:
    """Within it no other training, of this machine or another, may claim one of the two folders.

    The kernel ends a claim with its process, however that ends. Where the file system knows no locks, nothing is
    claimed.

    Raises:
        UserError: a training that goes on has claimed one of them.
    """
    with ExitStack() as stack:
        # Beside the folder of checkpoints, which a new run renames.
        for path in (log_dir / '.lock', snapshot_dir.parent / f'.{snapshot_dir.name}.lock'):
            make_folder(path.parent)
            file = stack.enter_context(open(path, 'a+', encoding='utf-8'))
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which loader workers would inherit
            except (BlockingIOError, PermissionError):
                file.seek(0)
                raise UserError(
                    f'{log_dir}: a training runs there ({file.read().strip()}); give this one another log_dir (and '
                    'snapshot_dir), or end that one'
                ) from None
            except OSError:
                continue
            file.truncate(0)
            file.write(f'process {os.getpid()} on {socket.gethostname()}')
            file.flush()
        yield
