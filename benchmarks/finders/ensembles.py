"""Ensembles of rules: do several together read better than the default alone?"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import interpolated
from benchmarks.finders.research import sets_table
from benchmarks.finders.store import seeds

Together = Callable[[list[float]], float]  # of logarithms of rates

ENSEMBLES: dict[str, tuple[Together, tuple[str, ...]]] = {
    "basin": (statistics.fmean, ("basin",)),
    "mean of basin and knee": (statistics.fmean, ("basin", "knee")),
    "mean of basin and decade": (statistics.fmean, ("basin", "decade")),
    "lower of basin and knee": (min, ("basin", "knee")),
    "higher of basin and decade": (max, ("basin", "decade")),
    "median of basin, knee and decade": (statistics.median, ("basin", "knee", "decade")),
    "median of these and fastai's four": (
        statistics.median,
        ("basin", "knee", "decade", "valley", "slide", "minimum", "steep"),
    ),
}


def _share(name: str, together: Together, rules: Iterable[str]) -> float:
    records = [sweeps.quick(name, seed) for seed in seeds(name)]
    read = ([math.log(record.read(rule).max_lr) for rule in rules] for record in records)
    return interpolated(name, [together(logs) for logs in read])


def markdown(sets: Mapping[str, list[str]]) -> list[str]:
    """Score every ensemble on sets of tasks: a column for each."""
    scores = {
        words: functools.partial(_share, together=together, rules=rules)
        for words, (together, rules) in ENSEMBLES.items()
    }
    return sets_table("rules together", sets, scores)
