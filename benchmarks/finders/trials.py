"""Which trials to confirm a reading by: short trainings at many rates, and rules that use a few.

Every rate is tried that is a power of two times the reading, for as many updates as a fifth of the
budget leaves to two trials or to three, and for a hundred. A rule's rate is scored by interpolating
the oracle's curve, as in ``research``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from joblib import Parallel, delayed

from benchmarks.finders import sweeps
from benchmarks.finders.oracle import interpolated
from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.research import Shares
from benchmarks.finders.store import CACHE, SEEDS, write
from benchmarks.finders.train import Batches, begin, endless, reference
from cyclr.integrations.torch import Scheduler
from cyclr.rangetest.rules.basin import find_basin
from cyclr.rangetest.rules.bounds import readable_part

PATH = CACHE / "trials.json"
EXPONENTS = {33: range(-2, 7), 50: range(-3, 5), 100: range(-3, 5)}  # by the number of updates
_TAIL = 0.25
_ERRORS = 2.0
_OFTEN = 20  # trials after which they are written down

Losses = npt.NDArray[np.float64]
Key = tuple[str, int, int, int]  # task, seed, updates, exponent of the rate


def trial(problem: Problem, seed: int, steps: int, max_lr: float) -> list[float]:
    """Train for a few updates under the reference policy; give the last quarter of the losses.

    A loss that is not finite ends a trial; nothing is given then.
    """
    short = dataclasses.replace(problem, steps=steps)
    model, optimizer = begin(short, seed)
    scheduler = Scheduler(optimizer, reference(max_lr, short, optimizer))
    stream, losses = endless(Batches(short, seed)), []
    model.train()
    for _ in range(steps):
        inputs, targets = next(stream)
        optimizer.zero_grad()
        loss = problem.loss_fn(model(inputs), targets)
        loss.backward()
        if problem.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), problem.clip)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return []
        optimizer.step()
        scheduler.step()
    return losses[-round(_TAIL * steps) :]


def _one(key: Key) -> tuple[Key, list[float]]:
    torch.set_num_threads(1)
    name, seed, steps, exponent = key
    reading = sweeps.load(name, seed).read()
    losses = trial(BY_NAME[name], seed, steps, reading.max_lr * 2.0**exponent)
    return key, [float(f"{loss:.5g}") for loss in losses]


def _text(key: Key) -> str:
    return " ".join(map(str, key))


def run(chosen: list[Problem], jobs: int) -> None:
    """Run the trials that are missing."""
    known: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}
    wanted = [
        (problem.name, seed, steps, exponent)
        for problem in chosen
        for seed in SEEDS
        for steps, exponents in EXPONENTS.items()
        for exponent in exponents
    ]
    work = (delayed(_one)(key) for key in wanted if _text(key) not in known)
    done = Parallel(n_jobs=jobs, return_as="generator_unordered")(work)
    for count, (key, losses) in enumerate(done):
        known[_text(key)] = losses
        if count % _OFTEN == 0:
            write(PATH, known)
    write(PATH, known)


class Case(NamedTuple):
    """The trials of one task and seed.

    Attributes:
        tails: The last losses by updates and exponent, empty if the trial diverged.
        clear: Whether the sweep's loss clearly fell.
    """

    tails: dict[tuple[int, int], Losses]
    clear: bool

    def mean(self, steps: int, exponent: int) -> float:
        """Give the mean of the last losses, infinite of a trial that diverged."""
        tail = self.tails[steps, exponent]
        return float(tail.mean()) if tail.size else math.inf

    def lead(self, steps: int, exponent: int) -> float:
        """Say by how many standard errors a trial is better than that at the reading itself."""
        own, other = self.tails[steps, 0], self.tails[steps, exponent]
        if not own.size or not other.size:
            return -math.inf
        gain = own - other
        error = float(gain.std(ddof=1)) / math.sqrt(gain.size)
        return float(gain.mean()) / error if error else 0.0


Chooser = Callable[[Case], float]  # gives an exponent


def middle(steps: int, exponents: Iterable[int], *, errors: float = _ERRORS) -> Chooser:
    """Make the rule that goes half of the way to the best trial.

    Args:
        steps: Updates of each trial.
        exponents: Of the rates that are tried beside the reading.
        errors: Standard errors by which another rate must be better; a lower one also needs a clear
            fall in the sweep.
    """
    others = list(exponents)

    def choose(case: Case) -> float:
        if not case.tails[steps, 0].size:
            return -2.0
        able = [e for e in others if (e > 0 or case.clear) and case.lead(steps, e) > errors]
        return min([0, *able], key=lambda e: case.mean(steps, e)) / 2

    return choose


def further(steps: int, *, up: int, down: int) -> Chooser:
    """Make the rule that tries a third rate in the direction that the first two point to.

    Args:
        steps: Updates of each trial.
        up: Exponent of the second rate; of the third, twice that, if the second is better.
        down: … or else this.
    """
    upward, downward = middle(steps, [up, 2 * up]), middle(steps, [up, down])

    def choose(case: Case) -> float:
        return (upward if case.lead(steps, up) > _ERRORS else downward)(case)

    return choose


RULES: dict[str, Chooser] = {
    "none": lambda _: 0.0,
    "two of 50 updates: 1, 4": middle(50, [2]),
    "two of 50 updates: 1, 8": middle(50, [3]),
    "three of 33 updates: 1/2, 1, 4": middle(33, [-1, 2]),
    "three of 33 updates: 1/2, 1, 8": middle(33, [-1, 3]),
    "… where any lower mean wins": middle(33, [-1, 3], errors=0.0),
    "three of 33 updates: 1, 8 and 1/2 or 64": further(33, up=3, down=-1),
    "three of 33 updates: 1/2, 1, 16": middle(33, [-1, 4]),
    "nine of 33 updates: 1/4 to 64": middle(33, EXPONENTS[33]),
    "eight of 50 updates: 1/8 to 16": middle(50, EXPONENTS[50]),
    "eight of 100 updates: 1/8 to 16": middle(100, EXPONENTS[100]),
}


def _cases(name: str) -> list[Case]:
    known = json.loads(PATH.read_text())
    cases = []
    for seed in SEEDS:
        keys = [(steps, e) for steps, exponents in EXPONENTS.items() for e in exponents]
        tails = {key: np.asarray(known[_text((name, seed, *key))], float) for key in keys}
        cases.append(Case(tails, find_basin(*readable_part(sweeps.load(name, seed)))[0].clear))
    return cases


def _share(name: str, exponents: list[float]) -> float:
    return interpolated(
        name,
        [
            math.log(sweeps.load(name, seed).read().max_lr) + exponent * math.log(2)
            for seed, exponent in zip(SEEDS, exponents, strict=True)
        ],
    )


def table(parts: list[list[str]]) -> list[str]:
    """Score every rule on parts of the tasks: a column for each."""
    cases = {name: _cases(name) for part in parts for name in part}
    heads = " | ".join(f"{len(part)} tasks" for part in parts)
    lines = [f"| trials, in multiples of the reading | {heads} |", "|---|" + "---|" * len(parts)]
    for words, choose in RULES.items():
        cells = []
        for part in parts:
            shares = [_share(name, [choose(case) for case in cases[name]]) for name in part]
            cells.append(str(Shares(float(np.mean(shares)), min(shares))))
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines
