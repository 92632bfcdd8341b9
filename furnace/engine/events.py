"""TensorBoard's event files.

They are written here and now: tensorboardX's SummaryWriter has a thread for that, which a full disk ends, and it then
waits for it for ever; nor does its flush write what the thread has not.
"""

import os
import socket
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

FLUSH_SECONDS = 120  # for those who watch a run


class EventFile:
    """A new one in ``folder``, which is made if needed.

    Args:
        folder: TensorBoard reads all the files in it as one run.
        purge_step: it forgets what earlier files say of this iteration and of later ones; None: nothing.

    Raises:
        OSError: here and in every method: it cannot be written.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        folder.mkdir(parents=True, exist_ok=True)
        name = f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}'
        self.records = RecordWriter(str(folder / name))
        self.flushed = time.monotonic()
        self._write(Event(file_version='brain.Event:2'))
        if purge_step is not None:
            self._write(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, tag: str, value: float, iteration: int) -> None:
        """A point of the curve ``tag``."""
        self._write(Event(step=iteration, summary=summary.scalar(tag, value)))

    def image(self, tag: str, picture: np.ndarray, iteration: int) -> None:
        """uint8 (H, W, 3) RGB."""
        self._write(Event(step=iteration, summary=summary.image(tag, picture, dataformats='HWC')))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self.records.write(event.SerializeToString())
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """To the disk."""
        self.records.flush()
        self.flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        self.records.close()
