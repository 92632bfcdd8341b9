"""Stopping politely: a signal is noted, the step is finished, the run is saved."""

import os
import signal
from time import monotonic
from types import FrameType

from furnace.engine.distributed import run_id

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
# Seconds in which one stop may come twice: from a scheduler that signals each process of a job, and from the launcher,
# which got it too.
COPIES = 2.0


class Stopped(Exception):  # noqa: N818 (no error)
    """A run that a signal ended after saving."""

    def __init__(self, number: int):
        super().__init__(f'stopped by {signal.Signals(number).name}')
        self.number = number


class Stop:
    """Within it SIGTERM, SIGINT, SIGHUP and SIGUSR1 are noted in ``number``; another one, later, kills.

    SIGHUP is a closed terminal's, and stays ignored under nohup; SIGUSR1 is a cluster's notice.
    """

    def __init__(self):
        self._number: int | None = None
        self._first = 0.0
        self._launcher = os.getppid() if run_id() else None

    @property
    def number(self) -> int | None:
        """The signal's; SIGTERM's where the launcher is gone, as it is after a signal that it does not pass on."""
        if self._number is None and self._launcher not in (None, os.getppid()):
            return signal.SIGTERM
        return self._number

    def __enter__(self) -> 'Stop':
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        taken = [number for number in SIGNALS if not (nohup and number == signal.SIGHUP)]
        self._former = {number: signal.signal(number, self._note) for number in taken}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = monotonic()
        if self._number is None:
            self._number, self._first = number, now
        elif now - self._first > COPIES:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
