"""The table: every finder on every task, from what the cache holds."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import Judge
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.store import Answers, compute, seeds

OURS = {"cyclr": None, "cyclr decade": "decade"}
_FASTAI = ("valley", "slide", "minimum", "steep")
PEERS = {
    **{f"fastai {name}": "fastai" for name in _FASTAI},
    "torch-lr-finder": "torch-lr-finder",
    "Lightning": "lightning",
    "ignite": "ignite",
}
CONFIRMED, VALIDATED = sweeps.CONFIRMED, sweeps.VALIDATED
GIVEN_CONFIRMED = sweeps.GIVEN_CONFIRMED
# Where there is little data; elsewhere what it stands for without validation data.
GIVEN = {"cyclr given validation data": VALIDATED, GIVEN_CONFIRMED: GIVEN_CONFIRMED}
_WITHOUT = dict(zip(GIVEN, ("cyclr", CONFIRMED), strict=True))
DEFAULT = "optimizer's default"
INSTEAD = ("Prodigy", "schedule-free AdamW", "D-Adaptation")
FINDERS = ("cyclr", CONFIRMED, *GIVEN, "cyclr decade", *PEERS, DEFAULT)


_answers = functools.cache(Answers)


class Suggested(NamedTuple):
    """A rate and what it took to find; a rate of None if the finder failed."""

    lr: float | None
    steps: int


class Row(NamedTuple):
    """A finder's line: shares by task, and mean cost in steps."""

    shares: dict[str, float]
    steps: float

    @property
    def mean(self) -> float:
        """Mean share over the tasks."""
        return statistics.fmean(self.shares.values())

    @property
    def worst(self) -> float:
        """Share on the worst task."""
        return min(self.shares.values())


def suggested(finder: str, name: str, seed: int) -> Suggested:
    """Give what a finder suggested."""
    if finder == DEFAULT:
        optimizer = BY_NAME[name].optimizer([torch.nn.Parameter(torch.zeros(1))])
        return Suggested(float(optimizer.param_groups[0]["lr"]), 0)
    if finder in GIVEN:
        known = GIVEN if sweeps.has_little_data(name) else _WITHOUT
        return _suggested(known[finder], name, seed)
    return _suggested(finder, name, seed)


def _suggested(finder: str, name: str, seed: int) -> Suggested:
    if finder in (CONFIRMED, VALIDATED, GIVEN_CONFIRMED):
        answer = _answers("confirm").get(name, finder, seed)
        return Suggested(None, 0) if answer is None else Suggested(answer["lr"], answer["steps"])
    if finder in PEERS:
        answer = _answers("peers").get(name, PEERS[finder], seed) or {"steps": 0}
        lr = answer.get(finder)
        return Suggested(lr if isinstance(lr, float) else None, answer["steps"])
    record = sweeps.load(name, seed)
    return Suggested(record.read(rule=OURS[finder]).max_lr, record.updates)


def train(names: Iterable[str], jobs: int) -> None:
    """Train every task at every suggestion that has not been trained at."""
    wanted = []
    for name in names:
        for finder in FINDERS:
            for seed in seeds(name):
                lr = suggested(finder, name, seed).lr
                if lr is not None:
                    wanted.append((name, seed, lr))
    compute(wanted, jobs)


def rows(
    names: Iterable[str], *, trained: bool = True, finders: Iterable[str] = FINDERS
) -> dict[str, Row]:
    """Score every finder, and the optimizers that need none.

    Args:
        names: Of the tasks.
        finders: Whom to score.
        trained: By a training at every suggestion; otherwise a suggestion's score is interpolated
            from the oracle's curve, and optimizers that need no rate are left out.
    """
    judges = {name: Judge(name) for name in names}
    reaches = _by_training if trained else _by_oracle
    best = {name: judge.oracle().best for name, judge in judges.items()}
    found: dict[str, Row] = {}
    for finder in finders:
        shares, steps = {}, []  # steps by task, whatever the number of its seeds
        for name, judge in judges.items():
            answers = [(seed, suggested(finder, name, seed)) for seed in seeds(name)]
            qualities = [reaches(judge, answer.lr, seed) for seed, answer in answers]
            steps.append(statistics.fmean(answer.steps for _, answer in answers))
            # Above the best of the grid's means is luck of the seeds.
            shares[name] = min(1.0, statistics.fmean(qualities) / best[name])
        found[finder] = Row(shares, statistics.fmean(steps))
    if not trained:
        return found
    instead = _answers("instead")
    for optimizer in INSTEAD:
        shares = {}
        for name, judge in judges.items():
            results = [(s, instead.get(name, optimizer, s)) for s in seeds(name)]
            got = [judge.quality({k: float(v) for k, v in r.items()}, s) for s, r in results if r]
            shares[name] = min(1.0, statistics.fmean(got) / best[name]) if got else math.nan
        found[optimizer] = Row(shares, 0)
    return found


def _by_training(judge: Judge, lr: float | None, seed: int) -> float:
    store = judge.store
    result = store.get("start", "", seed) if lr is None else store.result(lr, seed)
    if result is None:
        raise SystemExit(f"{store.name} has not been trained at {lr}: run `train` first")
    return judge.quality(result, seed)


def _by_oracle(judge: Judge, lr: float | None, seed: int) -> float:
    """Interpolate the whole curve over the rate's logarithm; beyond its ends nothing is known."""
    if lr is None:
        return judge.quality(judge.store.get("start", "", seed), seed)
    curve = judge.whole()
    return float(np.interp(np.log(lr), np.log(curve.lr), curve.mean))


def markdown(names: list[str], *, trained: bool = True) -> str:
    """Write the table: a line a finder, a column a task; ``trained`` as for :func:`rows`."""
    letters = {name: chr(ord("a") + i) for i, name in enumerate(names)}
    head = ["finder", "mean", "worst", "steps", *letters.values()]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---|" * (len(head) - 1)]
    table = rows(names, trained=trained)
    for finder, row in sorted(table.items(), key=lambda item: -item[1].mean):
        cells = [f"{row.shares[name]:.2f}".removeprefix("0") for name in names]
        start = [finder, f"{row.mean:.3f}", f"{row.worst:.3f}", f"{row.steps:.0f}"]
        lines.append("| " + " | ".join(start + cells) + " |")
    lines += [
        "",
        "| | task | measure | the oracle's rate | reaches | budget |",
        "|---|---|---|---|---|---|",
    ]
    for name, letter in letters.items():
        problem, oracle = BY_NAME[name], Judge(name).oracle()
        lines.append(
            f"| {letter} | {name} | {problem.measure} | {oracle.best_lr:g} | {oracle.best:.3f} | "
            f"{problem.steps} |"
        )
    return "\n".join(lines) + "\n"
