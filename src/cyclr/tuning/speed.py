"""How long an update takes, measured on a few."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterable
from typing import Any

from cyclr.experiments.pipeline import build, find
from cyclr.experiments.task import Task
from cyclr.schedules import ExponentialSweep
from cyclr.tuning.running import out_of_memory

UPDATES = 12  # timed for each batch size
_WARM = 2  # of them, which are slower than the others
# Rates that change no weight to speak of.
_TINY = ExponentialSweep(start_lr=1e-9, end_lr=1e-8, steps=UPDATES)


def seconds_per_update(task: Task, sizes: Iterable[int], seed: int) -> dict[int, float]:
    """Time a few updates of a fresh model at each batch size.

    Returns:
        The median, by batch size; infinite for a batch that does not fit in memory.

    Raises:
        TrainingError: The loss is not finite from the first update.
    """
    return {size: _time(task, size, seed) for size in sizes}


def _time(task: Task, size: int, seed: int) -> float:
    times: list[float] = []

    def note(_: Any) -> None:
        times.append(time.perf_counter())

    try:
        parts = build(task, seed=seed, batch_size=size)
        find(parts, sweep=_TINY, validate=False, on_step=note)
    except Exception as error:
        if not out_of_memory(error):
            raise
        return math.inf
    steps = [after - before for before, after in itertools.pairwise(times)]
    return statistics.median(steps[_WARM:] or steps)
