"""Stopping politely: a signal is noted, the step is finished, the run is saved."""

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Stopped(Exception):  # noqa: N818 (no error)
    """A run that a signal ended after saving."""

    def __init__(self, number: int):
        super().__init__(f'stopped by {signal.Signals(number).name}')
        self.number = number


class Stop:
    """Within it SIGTERM, SIGINT and SIGUSR1 (a cluster's notice) are noted in ``number``; a second one kills."""

    number: int | None = None

    def __enter__(self) -> 'Stop':
        self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.number = number
