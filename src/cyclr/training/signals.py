"""Ctrl-C and SIGTERM: noted when they come, acted on when an update is complete."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

_CHILD: int | None = getattr(signal, "SIGCHLD", None)  # there is none on Windows


class StopRequest:
    """Notes SIGINT and SIGTERM while in use; a second Ctrl-C interrupts at once, as usual.

    Outside the main thread, where Python takes no signals, nothing is noted.

    Attributes:
        signal: The number of the signal that came; 0 for none.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Begin to listen."""
        if threading.current_thread() is threading.main_thread():
            for number in self._SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            # None stands for a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number  # the first says why
        if number == signal.SIGTERM and _CHILD is not None and _CHILD not in self._before:
            # Sent to a whole group of processes it ends a loader's workers, too. torch's handler
            # would raise about them wherever training is; the loop finds it out by itself.
            self._before[_CHILD] = signal.signal(_CHILD, signal.SIG_DFL)
