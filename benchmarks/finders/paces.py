"""How slow must a sweep be under SGD? One stretch of rates at several paces, read by two rules.

Every sweep begins where the default's slow run begins and ends where that would end at the latest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import interpolated
from benchmarks.finders.problem import Problem
from benchmarks.finders.research import sets_table
from benchmarks.finders.store import SEEDS, Answers, seeds
from cyclr.errors import RecordError
from cyclr.rangetest import RangeTest
from cyclr.rangetest.rules.bounds import readable_part
from cyclr.rangetest.rules.edge import find_edge, margin
from cyclr.schedules import ExponentialSweep

PACES = (12, 20, 30, 45)  # updates to a decade
RULES = ("basin", "edge")
_ABOVE = 8.0  # times where the scout turned
_USUAL = {"momentum": 0.9}
_NOTHING = 1e-12  # the rate that stands for a record that cannot be read


def swept_slowly(names: Iterable[str]) -> list[str]:
    """List the tasks that have quick sweeps and slow ones, but for tables of 300 rows."""
    hard = sweeps.tables()
    return [n for n in names if n not in hard and sweeps.load(n, 0).scout.lr]


def read(pace: str, problem: Problem, seed: int) -> dict[str, Any]:
    """Sweep at a pace; give what the rules read, and the updates it took."""
    known = sweeps.load(problem.name, seed)
    start, end = known.lr[0], _ABOVE * known.scout.lr[-1]
    steps = 1 + round(float(pace) * math.log10(end / start))
    sweep = ExponentialSweep(start_lr=start, end_lr=end, steps=steps)
    record = sweeps.sweep(problem, seed, RangeTest(sweep))
    return {"steps": len(record)} | {rule: _max_lr(record, rule) for rule in RULES}


def _max_lr(record: Any, rule: str) -> float:
    try:
        return float(record.read(rule).max_lr)
    except RecordError:
        return _NOTHING


def run(names: Iterable[str], jobs: int) -> None:
    """Compute what is missing."""
    paces = [str(pace) for pace in PACES]
    Answers("paces").compute(read, paces, swept_slowly(names), jobs, most=len(SEEDS))


def _share(name: str, rule: str, pace: int) -> float:
    known = Answers("paces")
    return interpolated(name, [math.log(known.get(name, str(pace), s)[rule]) for s in SEEDS])


def _quick(name: str, rule: str) -> float:
    return interpolated(name, [math.log(_max_lr(sweeps.quick(name, s), rule)) for s in SEEDS])


def markdown(sets: Mapping[str, Iterable[str]]) -> list[str]:
    """Score both rules at every pace, on the tasks under SGD: a column for each set."""
    ways = {
        f"quick sweep from 1e-7, {rule}": functools.partial(_quick, rule=rule) for rule in RULES
    }
    for pace in PACES:
        for rule in RULES:
            ways[f"{pace} updates to a decade, {rule}"] = functools.partial(
                _share, rule=rule, pace=pace
            )
    return sets_table(
        "sweep and rule", {head: swept_slowly(names) for head, names in sets.items()}, ways
    )


def _at(name: str, divisor: float, last: bool = False, same: bool = False) -> float:
    logs = []
    for seed in seeds(name):
        record = sweeps.load(name, seed)
        lr, loss = readable_part(record)
        found = find_edge(loss)
        rate = float(lr[found.last if last else found.top])
        below = divisor * (1.0 if same else margin(record.optimizer) / margin(_USUAL))
        logs.append(math.log(rate / (below if found.fell else 1.0)))
    return interpolated(name, logs)


def _default(name: str, rule: str, quick: bool) -> float:
    load = sweeps.quick if quick else sweeps.load
    return interpolated(name, [math.log(_max_lr(load(name, s), rule)) for s in seeds(name)])


def edges(sets: Mapping[str, Iterable[str]]) -> list[str]:
    """Score ways to read the default's slow sweeps under SGD, all seeds: a column for each set."""
    ways = {
        "quick sweep, basin": functools.partial(_default, rule="basin", quick=True),
        "basin": functools.partial(_default, rule="basin", quick=False),
    }
    first, last = "where it first leaves the low stretch", "where it is low for the last time"
    for divisor in (2.0, 2.5, 2.75, 3.0, 3.5, 4.0):
        ways[f"{first} / {divisor:g}"] = functools.partial(_at, divisor=divisor)
    ways[f"{first} / 2.75 at any momentum"] = functools.partial(_at, divisor=2.75, same=True)
    for divisor in (2.75, 4.0):
        ways[f"{last} / {divisor:g}"] = functools.partial(_at, divisor=divisor, last=True)
    return sets_table(
        "slow sweep read by", {head: swept_slowly(names) for head, names in sets.items()}, ways
    )
