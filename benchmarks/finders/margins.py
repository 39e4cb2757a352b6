"""How far below the edge must one stay under SGD? Trainings at shares of it, to the full budget.

Scores interpolated from the oracle's curve cannot tell: where a cliff is steep, rates a factor of
1.5 apart do not show where it lies. So these are trained, three seeds each.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import Judge
from benchmarks.finders.paces import swept_slowly
from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.research import Shares
from benchmarks.finders.store import SEEDS, Answers, rounded
from benchmarks.finders.train import Result, train
from cyclr.rangetest.rules.bounds import readable_part
from cyclr.rangetest.rules.edge import find_edge

DIVISORS = (1.0, 1.4, 2.0, 2.75, 4.0)


def reach(divisor: str, problem: Problem, seed: int) -> dict[str, Any]:
    """Train at the edge of the default's slow sweep, divided."""
    lr, loss = readable_part(sweeps.load(problem.name, seed))
    rate = rounded(float(lr[find_edge(loss).top]) / float(divisor))
    return {"lr": rate} | train(problem, seed, rate)


def run(names: Iterable[str], jobs: int) -> None:
    """Compute what is missing."""
    divisors = [f"{divisor:g}" for divisor in DIVISORS]
    Answers("margins").compute(reach, divisors, swept_slowly(names), jobs, most=len(SEEDS))


def _groups() -> dict[str, list[str]]:
    """Part the tasks under SGD by their momentum, and by whether gradients are clipped."""
    groups: dict[str, list[str]] = {"without momentum": [], "with momentum": [], "clipped": []}
    for name in swept_slowly(BY_NAME):
        moves = sweeps.load(name, 0).optimizer["momentum"] > 0
        clipped = BY_NAME[name].clip is not None
        groups["clipped" if clipped else f"with{'' if moves else 'out'} momentum"].append(name)
    return groups


def _share(known: Answers, name: str, divisor: float) -> float:
    judge = Judge(name)
    kept = [known.get(name, f"{divisor:g}", seed) for seed in SEEDS]
    results = [{k: float(v) for k, v in result.items()} for result in kept]
    # The oracle of the same seeds, where it has more.
    best = max(_mean(judge, [judge.store.result(lr, s) for s in SEEDS]) for lr in judge.oracle().lr)
    return min(1.0, _mean(judge, results) / best)


def _mean(judge: Judge, results: Sequence[Result | None]) -> float:
    return statistics.fmean(
        judge.quality(result, seed) for seed, result in enumerate(results) if result is not None
    )


def markdown() -> list[str]:
    """Give mean and worst share by momentum and clipping: a line for each divisor."""
    groups, known = _groups(), Answers("margins")
    heads = (f"{len(names)} {words}" for words, names in groups.items())
    lines = [f"| the edge divided by | {' | '.join(heads)} |", "|---|" + "---|" * len(groups)]
    for divisor in DIVISORS:
        found = [[_share(known, n, divisor) for n in names] for names in groups.values()]
        cells = (str(Shares(statistics.fmean(shares), min(shares))) for shares in found)
        lines.append(f"| {divisor:g} | {' | '.join(cells)} |")
    return lines
