"""Files that are written as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = '.tmp-'  # how the names of unfinished files begin


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A new file beside ``path``, in an existing folder, which takes its place when all is written and on the disk.

    Until then, and after an exception, ``path`` is as it was. The name ends as that of ``path`` does.
    """
    path = Path(path)
    # Not tempfile: its files are private (0600), and data and weights are often shared.
    temporary = path.with_name(f'{TEMPORARY}{os.getpid()}-{path.name}')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
