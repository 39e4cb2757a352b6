"""The oracle: every rate of a grid trained to the full budget, and what the best one reaches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.store import Store, compute, rounded, seeds
from benchmarks.finders.train import Result, quality

_CLIFF = 0.1  # of the best: a larger step from one rate to the next, near the best, is looked into
_LEVEL = 0.93  # share of the best around which the grid is filled
_WORTH = 0.9  # share of the best from which a rate gets all seeds


def grid(problem: Problem) -> list[float]:
    """Three rates to a decade, both ends included."""
    low, high = problem.lr_range
    return [rounded(10 ** (low + k / 3)) for k in range(3 * (high - low) + 1)]


class Oracle(NamedTuple):
    """A task's best result, and the whole curve.

    Attributes:
        lr: Rates that all seeds were trained at, ascending.
        mean: Their mean quality over the seeds.
        floor: What losses are measured above; see ``quality``.
    """

    lr: list[float]
    mean: list[float]
    floor: float

    @property
    def best(self) -> float:
        """The quality of the best single rate."""
        return max(self.mean)

    @property
    def best_lr(self) -> float:
        """The rate that reaches it."""
        return self.lr[self.mean.index(self.best)]


class Judge:
    """Scores results of one task against its oracle."""

    def __init__(self, name: str) -> None:
        self.problem, self.store = BY_NAME[name], Store(name)
        self.floor = self._floor()

    def _floor(self) -> float:
        losses = [
            float(result["loss"])
            for seeds in self.store.data["trained"].values()
            for result in seeds.values()
        ]
        lowest = min((loss for loss in losses if math.isfinite(loss)), default=0.0)
        return 0.0 if lowest > 0 else lowest - 1.0

    def quality(self, result: Result, seed: int) -> float:
        """Give what is compared with the oracle's."""
        start = self.store.get("start", "", seed)
        return quality(self.problem, result, self.floor, start)

    def oracle(self, *, least: int | None = None) -> Oracle:
        """Read the curve of the rates on the grid that have at least so many seeds, or all."""
        return self._curve(grid(self.problem), least)

    def whole(self) -> Oracle:
        """Read the curve of all rates of the grid, and of those in the middle of its cliffs."""
        rates = grid(self.problem)
        return self._curve(sorted([*rates, *map(_middle, rates, rates[1:])]), 1)

    def _curve(self, rates: Iterable[float], least: int | None) -> Oracle:
        points, everyone = [], seeds(self.problem.name)
        for lr in rates:
            results = [(s, self.store.result(lr, s)) for s in everyone]
            got = [self.quality(r, s) for s, r in results if r is not None]
            if len(got) >= (len(everyone) if least is None else least):
                points.append((lr, sum(got) / len(got)))
        return Oracle([lr for lr, _ in points], [mean for _, mean in points], self.floor)


def _middle(low: float, high: float) -> float:
    return rounded(math.sqrt(low * high))


def interpolated(name: str, logs: Iterable[float]) -> float:
    """Score rates, one a seed, without training: off the curve, over their logarithm."""
    judge = Judge(name)
    curve, best = judge.whole(), judge.oracle().best
    reached = np.interp(list(logs), np.log(curve.lr), np.asarray(curve.mean) / best)
    return min(1.0, float(reached.mean()))


def run(chosen: list[Problem], jobs: int) -> None:
    """Compute what is missing.

    Each decade once, then all about the best, then every seed there, then the middle of cliffs.
    """
    compute([(p.name, seed, None) for p in chosen for seed in seeds(p.name)], jobs)
    compute([(p.name, 0, lr) for p in chosen for lr in grid(p)[::3]], jobs)
    compute([(n, 0, lr) for n, lr in _beside(chosen, _LEVEL, reach=2)], jobs)
    best = _beside(chosen, _WORTH, reach=1)
    compute([(n, seed, lr) for n, lr in best for seed in seeds(n)], jobs)
    cliffs = [(p.name, lr) for p in chosen for lr in _cliffs(p)]
    compute([(n, seed, lr) for n, lr in cliffs for seed in seeds(n)], jobs)


def _cliffs(problem: Problem) -> list[float]:
    """List the middles between rates, one of them good, of which one does far better."""
    curve = Judge(problem.name).oracle()
    pairs = itertools.pairwise(zip(curve.lr, curve.mean, strict=True))
    return [
        _middle(low, high)
        for (low, one), (high, other) in pairs
        if max(one, other) >= _WORTH * curve.best and abs(one - other) > _CLIFF * curve.best
    ]


def _beside(chosen: list[Problem], share: float, *, reach: int) -> list[tuple[str, float]]:
    """List the rates of the grid near those that reach a share of the best."""
    wanted = []
    for problem in chosen:
        curve, rates = Judge(problem.name).oracle(least=1), grid(problem)
        known = zip(curve.lr, curve.mean, strict=True)
        good = [rates.index(lr) for lr, mean in known if mean >= share * curve.best]
        near = {i for g in good for i in range(g - reach, g + reach + 1) if 0 <= i < len(rates)}
        wanted += [(problem.name, rates[i]) for i in sorted(near)]
    return wanted
