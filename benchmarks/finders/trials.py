"""Short trainings in place of a second sweep: what they would make of the default's readings.

Three trainings of 33 updates each, from the same weights on the same batches: at the reading, at
eight times that, and at 64 times if eight did better, or else at half. The reading then goes half
of the way, in the logarithm, to the rate that did best by two standard errors. With the sweep they
cost a fifth of the budget.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import interpolated
from benchmarks.finders.problem import Problem
from benchmarks.finders.research import sets_table
from benchmarks.finders.store import Answers, seeds
from benchmarks.finders.train import Batches, begin, endless, reference
from cyclr import jsonfile
from cyclr.integrations.torch import Scheduler
from cyclr.rangetest import divergence

WHO = "trials"
_STEPS = 33
_LOWER, _HIGHER = 0.5, 8.0  # times the reading
_TAIL = 0.25  # share of a trial's losses, its last, that it is judged by
_ERRORS = 2.0

Tried = list[tuple[float, list[float]]]  # peak rate and losses of each trial


def trial(problem: Problem, seed: int, max_lr: float) -> list[float]:
    """Train for a few updates under the reference policy, up to a loss that is not finite."""
    short = dataclasses.replace(problem, steps=_STEPS)
    model, optimizer = begin(short, seed)
    scheduler = Scheduler(optimizer, reference(max_lr, short, optimizer))
    stream, losses = endless(Batches(short, seed)), []
    model.train()
    for _ in range(_STEPS):
        inputs, targets = next(stream)
        optimizer.zero_grad()
        loss = problem.loss_fn(model(inputs), targets)
        loss.backward()
        if problem.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), problem.clip)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.step()
        scheduler.step()
    return losses


def next_rate(max_lr: float, tried: Tried) -> float | None:
    """Say which rate comes next; None after three, or where the reading itself diverges."""
    if not tried:
        return max_lr
    if len(tried) == 3 or not _sound(tried[0][1]):
        return None
    if len(tried) == 1:
        return _HIGHER * max_lr
    return (_HIGHER**2 if _leads(tried[1][1], tried[0][1]) else _LOWER) * max_lr


def settled(max_lr: float, tried: Tried) -> float:
    """Give the rate that follows; a quarter of the reading if its own trial diverged."""
    if not _sound(tried[0][1]):
        return max_lr / 4
    best = tried[0]
    for other in tried[1:]:
        if _leads(other[1], best[1]):
            best = other
    return math.sqrt(max_lr * best[0])


def run_trials(_: str, problem: Problem, seed: int) -> dict[str, Any]:
    """Try the rates of one task and seed."""
    max_lr, tried = sweeps.load(problem.name, seed).read().max_lr, []
    while (lr := next_rate(max_lr, tried)) is not None:
        tried.append((lr, trial(problem, seed, lr)))
    kept = [{"max_lr": lr, "loss": jsonfile.pack(losses)} for lr, losses in tried]
    return {"trials": kept}


def _leads(other: list[float], best: list[float]) -> bool:
    """Say whether the other's last losses are lower by two standard errors."""
    count = max(3, round(_TAIL * len(best)))
    if not _sound(other):
        return False
    gain = np.asarray(best[-count:]) - np.asarray(other[-count:])
    return float(gain.mean()) > _ERRORS * float(gain.std(ddof=1)) / math.sqrt(count)


def _sound(losses: list[float]) -> bool:
    return all(map(math.isfinite, losses)) and not divergence.exploded(losses)


def _by_trials(name: str) -> float:
    known, logs = Answers("trials"), []
    for seed in seeds(name):
        kept = known.get(name, WHO, seed)["trials"]
        tried = [(t["max_lr"], list(jsonfile.unpack(t["loss"]))) for t in kept]
        logs.append(math.log(settled(tried[0][0], tried)))
    return interpolated(name, logs)


def _read(name: str) -> float:
    return interpolated(name, [math.log(sweeps.load(name, s).read().max_lr) for s in seeds(name)])


def _confirmed(name: str, what: str) -> float:
    known = Answers("confirm")
    return interpolated(
        name, [math.log(known.get(name, sweeps.CONFIRMED, s)[what]) for s in seeds(name)]
    )


def markdown(sets: Mapping[str, Iterable[str]]) -> list[str]:
    """Score ways to confirm on sets of tasks: a column for each."""
    ways = {
        "nothing": _read,
        "three short trainings": _by_trials,
        "the second sweep's reading alone": lambda name: _confirmed(name, "second"),
        "the middle of both readings (as it is)": lambda name: _confirmed(name, "lr"),
    }
    return sets_table("confirmed by", sets, ways)
