"""Where is the validation loss the better guide? By how often a sweep goes through its data."""

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

_EDGES = (0.0, 1.0, 2.0, 4.0, 8.0, math.inf)


class _Seen(NamedTuple):
    """How often a task's sweeps go through its data, and what each loss's reading reaches."""

    passes: float
    by_loss: float
    by_validation: float


def _look(name: str) -> _Seen:
    passes = statistics.fmean(sweeps.load(name, seed).passes for seed in seeds(name))
    shares = (
        interpolated(name, [math.log(rate) for rate in _rates(finder, name)])
        for finder in ("cyclr", table.VALIDATED)
    )
    return _Seen(passes, *shares)


def _rates(finder: str, name: str) -> list[float]:
    rates = (table.suggested(finder, name, seed).lr for seed in seeds(name))
    return [rate for rate in rates if rate is not None]


def markdown() -> list[str]:
    """Give mean and worst share by either loss, and the tasks that gain or lose a hundredth."""
    seen = [_look(name) for name in BY_NAME]
    lines = [
        "| passes through the data | tasks | training loss | validation loss | better | worse |",
        "|---|---|---|---|---|---|",
    ]
    for low, high in itertools.pairwise(_EDGES):
        group = [task for task in seen if low <= task.passes < high]
        loss, validation = ([task[i] for task in group] for i in (1, 2))
        better = sum(task.by_validation > task.by_loss + 0.01 for task in group)
        worse = sum(task.by_validation < task.by_loss - 0.01 for task in group)
        words = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"
        cells = (str(Shares(statistics.fmean(x), min(x))) for x in (loss, validation))
        lines.append(f"| {words} | {len(group)} | {' | '.join(cells)} | {better} | {worse} |")
    return lines
