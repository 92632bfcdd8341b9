"""A disk that is full."""

import errno
import os


def full_disk(*_, **__):
    """In place of a function that writes."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
