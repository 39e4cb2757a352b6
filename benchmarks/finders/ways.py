"""How far to go to the trial that did best: from the trials that ``confirm`` made on every task."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping

from benchmarks.finders import sweeps, table
from benchmarks.finders.oracle import interpolated
from benchmarks.finders.research import sets_table
from benchmarks.finders.store import Answers, seeds
from cyclr import jsonfile
from cyclr.rangetest import Reading
from cyclr.rangetest.confirm import settle, winner
from cyclr.rangetest.reading import Trial

Way = Callable[[Reading, list[Trial]], float]  # gives max_lr

WAYS: dict[str, Way] = {
    "no trials": lambda reading, _: reading.max_lr,
    "half of the way": lambda reading, trials: _part(reading, trials, 0.5),
    "all of the way": lambda reading, trials: _part(reading, trials, 1.0),
    "half, but all where it fell further by a fifth (as it is)": (
        lambda reading, trials: settle(reading, trials).max_lr
    ),
}


def _part(reading: Reading, trials: list[Trial], part: float) -> float:
    if not all(map(math.isfinite, trials[0].loss)):
        return settle(reading, trials).max_lr
    return reading.max_lr * (winner(reading, trials).max_lr / reading.max_lr) ** part


def _share(name: str, way: Way) -> float:
    known, logs = Answers("confirm"), []
    for seed in seeds(name):
        kept = known.get(name, table.CONFIRMED, seed)["trials"]
        trials = [Trial(t["max_lr"], jsonfile.unpack(t["loss"])) for t in kept]
        logs.append(math.log(way(sweeps.load(name, seed).read(), trials)))
    return interpolated(name, logs)


def markdown(sets: Mapping[str, Iterable[str]]) -> list[str]:
    """Score every way on sets of tasks: a column for each."""
    scores = {words: functools.partial(_share, way=way) for words, way in WAYS.items()}
    return sets_table("to the winner", sets, scores)
