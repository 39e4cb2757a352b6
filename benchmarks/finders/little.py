"""Where is the validation loss the better guide? By how much data there is."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import NamedTuple

from benchmarks.finders import sweeps, table
from benchmarks.finders.oracle import interpolated
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.research import Shares
from benchmarks.finders.store import seeds
from cyclr.rangetest.record import LITTLE

_ENDS = (0, LITTLE // 2, LITTLE, 30, 100, math.inf)


class _Seen(NamedTuple):
    """How many updates a task's epoch has, and what each loss's reading reaches."""

    per_epoch: float
    by_loss: float
    by_validation: float


def _look(name: str) -> _Seen:
    shares = (
        interpolated(name, [math.log(rate) for rate in _rates(finder, name)])
        for finder in ("cyclr", table.VALIDATED)
    )
    return _Seen(sweeps.load(name, 0).steps_per_epoch or math.inf, *shares)


def _rates(finder: str, name: str) -> list[float]:
    rates = (table.suggested(finder, name, seed).lr for seed in seeds(name))
    return [rate for rate in rates if rate is not None]


def markdown() -> list[str]:
    """Give mean and worst share by either loss, and the tasks that gain or lose a hundredth."""
    seen = [_look(name) for name in BY_NAME]
    lines = [
        "| updates in an epoch | tasks | training loss | validation loss | better | worse |",
        "|---|---|---|---|---|---|",
    ]
    for low, high in itertools.pairwise(_ENDS):
        group = [task for task in seen if low < task.per_epoch <= high]
        loss, validation = ([task[i] for task in group] for i in (1, 2))
        better = sum(task.by_validation > task.by_loss + 0.01 for task in group)
        worse = sum(task.by_validation < task.by_loss - 0.01 for task in group)
        words = f"{low + 1} to {high}" if math.isfinite(high) else f"more than {low}"
        cells = (str(Shares(statistics.fmean(x), min(x))) for x in (loss, validation))
        lines.append(f"| {words} | {len(group)} | {' | '.join(cells)} | {better} | {worse} |")
    return lines
