"""Time spent, on the wall and by this process's threads."""

from __future__ import annotations

import time


class Clock:
    """Adds up the time between starts and stops.

    Time of the processor is what counts on a machine that others use as well.

    Args:
        wall: Seconds on the wall so far.
        cpu: Seconds of this process's threads so far.
    """

    def __init__(self, wall: float = 0.0, cpu: float = 0.0) -> None:
        self.wall, self.cpu = wall, cpu
        self._since = (0.0, 0.0)

    def start(self) -> None:
        """Begin to count."""
        self._since = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """Add what has passed since the start."""
        self.wall += time.perf_counter() - self._since[0]
        self.cpu += time.process_time() - self._since[1]
