"""What was tried for the default rule, scored without training: on the records and oracle curves.

A rule's rate is scored by interpolating the oracle's curve over the rate's logarithm. What a rule
has to be fitted is chosen on one half of the tasks and reported on the other, and the other way
round. The rule that came of it is scored by real trainings in the table.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import Judge, interpolated
from benchmarks.finders.problems import HALVES, NAMES
from benchmarks.finders.store import SEEDS, seeds
from cyclr.errors import RecordError
from cyclr.rangetest import RangeRecord
from cyclr.rangetest.rules import RULES
from cyclr.rangetest.rules.basin import Basin, find_basin, recovers
from cyclr.rangetest.rules.bounds import finite_part, noise, running_mean
from cyclr.rangetest.way_back import NO_LEG

Floats = npt.NDArray[np.float64]
Place = Callable[[RangeRecord], float]
_MARGINS = np.round(np.arange(-0.8, 3.01, 0.05), 2)  # in the rate's logarithm
_EXPONENTS = np.round(np.arange(0.0, 0.61, 0.05), 2)


class Shares(NamedTuple):
    """Mean and worst share of a set of tasks."""

    mean: float
    worst: float

    @property
    def merit(self) -> float:
        """What fitting maximizes: the mean, and a quarter of the worst."""
        return self.mean + self.worst / 4

    def __str__(self) -> str:
        """Write both."""
        return f"{self.mean:.3f} / {self.worst:.3f}"


class Bench:
    """All records and curves, and scores of logarithms of rates, by task and seed."""

    def __init__(self) -> None:
        self.names = list(NAMES)
        self.records = [[sweeps.quick(name, seed) for seed in SEEDS] for name in self.names]
        self.curves = []
        for name in self.names:
            oracle = Judge(name).whole()
            best = Judge(name).oracle().best
            self.curves.append((np.log(oracle.lr), np.asarray(oracle.mean) / best))

    def logs(self, place: Place) -> Floats:
        """Apply something that gives a rate to every record."""
        return np.log([[place(record) for record in records] for records in self.records])

    def shares(self, logs: Floats) -> Floats:
        """Score rates, a row of seeds for each task; a mean above the best counts as the best."""
        rows = zip(logs, self.curves, strict=True)
        return np.array([np.minimum(1, np.interp(row, *curve).mean()) for row, curve in rows])

    def over(self, shares: Floats, names: Iterable[str]) -> Shares:
        """Summarize some tasks."""
        chosen = [shares[self.names.index(name)] for name in names]
        return Shares(float(np.mean(chosen)), float(np.min(chosen)))


def _crossing(share: float, *, rising: bool, after: bool) -> Place:
    """Make what gives the first rate below (or the last before above) a share of the fall."""

    def place(record: RangeRecord) -> float:
        lr, loss = finite_part(record)
        width = max(3, round(0.05 * loss.size)) | 1
        start, spread = noise(loss)
        low = float(running_mean(np.minimum(loss, start), width).min())
        smooth = running_mean(np.minimum(loss, start + max(start - low, 6 * spread)), width)
        lowest = int(np.argmin(smooth))
        level = start - share * max(start - float(smooth[lowest]), 1e-300)
        if not rising:
            return float(lr[int(np.argmax(smooth <= level))])
        if after:
            return float(lr[int(np.flatnonzero(smooth <= level)[-1])])
        high = smooth[lowest:] > level
        return float(lr[lowest + (int(np.argmax(high)) - 1 if high.any() else high.size - 1)])

    return place


def _basin(record: RangeRecord) -> Basin:
    return find_basin(*finite_part(record))[0]


PLACES: dict[str, Place] = {
    "half of the fall is done": _crossing(0.5, rising=False, after=False),
    "80 % of the fall is done": _crossing(0.8, rising=False, after=False),
    "lowest average": _crossing(1.0, rising=False, after=False),
    "5 % of the fall is lost again": _crossing(0.95, rising=True, after=False),
    "a quarter is lost again": _crossing(0.75, rising=True, after=False),
    "half is lost again": _crossing(0.5, rising=True, after=False),
    "back at the start for good": _crossing(0.0, rising=True, after=True),
    "middle of the basin": lambda record: float(
        np.sqrt(_basin(record).begins * _basin(record).ends)
    ),
}


class _Row(NamedTuple):
    """What is fitted for a row: a place, exponents to choose from, and a rate to stay above."""

    place: str
    words: str
    logs: Floats
    exponents: Floats
    least: Floats | float = -np.inf


def _rows(bench: Bench) -> Iterable[_Row]:
    for name, place in PLACES.items():
        logs = bench.logs(place)
        yield _Row(name, "constant", logs, np.zeros(1))
        yield _Row(name, "by clearness", logs, _EXPONENTS)
    with np.errstate(divide="ignore"):  # a rate of 0 where no net recovered
        back = bench.logs(lambda record: recovers(record.way_back, _basin(record)))
    name = "… or, if higher, where the way back recovers"
    yield _Row(name, "by clearness", logs, _EXPONENTS, back)


def _fit(bench: Bench, row: _Row, clear: Floats, on: Iterable[str]) -> Floats:
    """Choose margin and exponent on some tasks; give the shares of all."""
    names = list(on)
    tried = [
        bench.shares(np.maximum(row.logs - margin - exponent * clear, row.least))
        for margin, exponent in itertools.product(_MARGINS, row.exponents)
    ]
    return max(tried, key=lambda shares: bench.over(shares, names).merit)


def places_table(bench: Bench) -> list[str]:
    """Compare places on the curve, with a constant margin and one that grows with clearness."""
    first, second = HALVES
    clear = bench.logs(lambda record: _basin(record).clearness)
    lines = [
        "| max_lr a margin below where | margin | on the 2nd half, fitted on the 1st | on the 1st, "
        "fitted on the 2nd |",
        "|---|---|---|---|",
    ]
    for row in _rows(bench):
        there = bench.over(_fit(bench, row, clear, first), second)
        back = bench.over(_fit(bench, row, clear, second), first)
        lines.append(f"| {row.place} | {row.words} | {there} | {back} |")
    return lines


def rules_table(bench: Bench) -> list[str]:
    """Score the rules as they are, on all tasks; a rule that fails on a record gets nothing."""
    lines = ["| rule, on our records | mean / worst |", "|---|---|"]
    for name, rule in RULES.items():
        if name == "accuracy":
            continue

        def place(record: RangeRecord, rule: Callable[..., object] = rule) -> float:
            try:
                return float(rule(record).max_lr)  # type: ignore[attr-defined] # Bounds
            except RecordError:
                return 1e-12

        lines.append(f"| {name} | {bench.over(bench.shares(bench.logs(place)), bench.names)} |")
    return lines


def rates_table(bench: Bench) -> list[str]:
    """Set the oracle's rate beside what is read, and what the way back adds on a quick sweep."""
    lines = [
        "| task | the oracle's rate over max_lr, by seed | basin's with way back over without |",
        "|---|---|---|",
    ]
    for name, records in zip(bench.names, bench.records, strict=True):
        oracle = Judge(name).oracle()
        best = oracle.lr[int(np.argmax(oracle.mean))]
        read = [sweeps.load(name, seed).read().max_lr for seed in SEEDS]
        quick = [record.read("basin").max_lr for record in records]
        without = [replace(record, way_back=NO_LEG).read("basin").max_lr for record in records]
        beside = ", ".join(f"{best / lr:.2g}" for lr in read)
        raised = ", ".join(f"{a / b:.2g}" for a, b in zip(quick, without, strict=True))
        lines.append(f"| {name} | {beside} | {raised} |")
    return lines


def repeats_table(bench: Bench) -> list[str]:
    """Score the mean of several sweeps' readings, which differ in weights and data."""
    logs = bench.logs(lambda record: RULES["basin"](record).max_lr)
    means = {1: logs, 2: (logs + np.roll(logs, 1, axis=1)) / 2}
    means[3] = np.repeat(logs.mean(axis=1, keepdims=True), 3, axis=1)
    lines = ["| sweeps | mean / worst |", "|---|---|"]
    return lines + [
        f"| {count} | {bench.over(bench.shares(mean), bench.names)} |"
        for count, mean in means.items()
    ]


class Margin(NamedTuple):
    """How far below the basin's middle to stay: ``(clearness / none)^exponent``.

    Attributes:
        exponent: How it grows.
        none: Clearness at which there is no margin.
        least: Clearness below which it stays as it is.
        most: … and above which.
    """

    exponent: float
    none: float = 1.0
    least: float = 0.0
    most: float = 200.0

    def __call__(self, clearness: float) -> float:
        """Give the factor."""
        return float((min(max(clearness, self.least), self.most) / self.none) ** self.exponent)


MARGINS = {
    "clearness^0.3, as it is": Margin(0.3),
    "clearness^0.2": Margin(0.2),
    "clearness^0.4": Margin(0.4),
    "none up to 6, then clearness / 6, at most 5": Margin(1.0, none=6.0, least=6.0, most=30.0),
}


def margins_table(parts: dict[str, list[str]]) -> list[str]:
    """Score margins below the basin's middle on sets of tasks, a column for each.

    The last margin was found by looking for one that lifts the worst of the first set.
    """
    scores = {w: functools.partial(_margin_share, margin=m) for w, m in MARGINS.items()}
    return sets_table("margin", parts, scores)


def sets_table(
    head: str, sets: Mapping[str, Iterable[str]], scores: Mapping[str, Callable[[str], float]]
) -> list[str]:
    """Write a table of mean and worst shares: a line a way to score tasks, a column a set."""
    lines = [f"| {head} | {' | '.join(sets)} |", "|---|" + "---|" * len(sets)]
    for words, score in scores.items():
        found = [[score(name) for name in names] for names in sets.values()]
        cells = (str(Shares(float(np.mean(shares)), min(shares))) for shares in found)
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def _margin_share(name: str, margin: Margin) -> float:
    logs = []
    for seed in seeds(name):
        record = sweeps.quick(name, seed)
        basin = _basin(record)
        rate = float(np.sqrt(basin.begins * basin.ends)) / margin(basin.clearness)
        logs.append(np.log(max(rate, recovers(record.way_back, basin))))
    return interpolated(name, logs)


def ceiling(names: Iterable[str]) -> Shares:
    """Score the oracle as a finder: the rate that is best of the other seeds, trained with one.

    What it falls short of 1 is the seeds' doing, and no finder can be told from it by less.
    """
    shares = []
    for name in names:
        judge = Judge(name)
        oracle, everyone = judge.oracle(), seeds(name)
        known = [[(s, judge.store.result(lr, s)) for s in everyone] for lr in oracle.lr]
        quality = np.array([[judge.quality(r, s) for s, r in row if r] for row in known])
        others = [np.delete(quality, s, axis=1).mean(axis=1).argmax() for s in everyone]
        got = float(np.mean([quality[best, s] for s, best in enumerate(others)]))
        shares.append(min(1.0, got / oracle.best))
    return Shares(float(np.mean(shares)), min(shares))


def markdown() -> str:
    """Write all tables."""
    bench = Bench()
    parts = (places_table(bench), rules_table(bench), repeats_table(bench), rates_table(bench))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"
