"""What moves a reading, and whether the best rate moves along: one thing changed at a time.

Four small trainings under SGD with momentum, and variants of each that differ in one thing. Every
variant is read (three sweeps) and trained at rates around a reading, three to a decade; these are
kept when the rule changes, and only read anew.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import nn
from torch.nn import functional

from benchmarks.finders import data, nets, sweeps
from benchmarks.finders.problem import Problem, adam, adamw, sgd
from benchmarks.finders.store import CACHE, SEEDS, write
from benchmarks.finders.train import begin, measure, quality, train

PATH = CACHE / "roles.json"
STEPS = range(-4, 6)  # of a third of a decade, from the reading
_TRAINED = (0, 1)  # seeds of the trainings
_LEVEL = 0.99  # share of the best from which on a rate is one of the best

BASES = [
    Problem(
        name="clothes, convolutions", split=data.fashion, optimizer=sgd(0.9),
        model=lambda: nets.conv(1, 10, 4, norm=False, size=28),
    ),
    Problem(
        name="digits, with BatchNorm", split=data.digits, optimizer=sgd(0.9),
        model=lambda: nets.conv(1, 10, 8, norm=True, size=8),
    ),
    Problem(
        name="next letter", split=data.next_letter, optimizer=sgd(0.9), measure="loss",
        model=lambda: nets.Window(64, 8),
    ),
    Problem(
        name="photograph", split=data.photograph, optimizer=sgd(0.9), measure="loss",
        model=lambda: nets.mlp(24, 64, 64, 3, act=nn.Tanh), loss_fn=functional.mse_loss,
    ),
]  # fmt: skip
_AS_IT_IS = "as it is"


def _with(**changes: Any) -> Callable[[Problem], Problem]:
    return lambda problem: dataclasses.replace(problem, **changes)


VARIANTS: dict[str, Callable[[Problem], Problem]] = {
    _AS_IT_IS: _with(),
    "batch of 16": _with(batch_size=16),
    "batch of 256": _with(batch_size=256),
    "no momentum": _with(optimizer=sgd()),
    "no momentum, batch of 16": _with(optimizer=sgd(), batch_size=16),
    "no momentum, clipped at 1": _with(optimizer=sgd(), clip=1.0),
    "momentum .5": _with(optimizer=sgd(0.5)),
    "momentum .8": _with(optimizer=sgd(0.8)),
    "momentum .95": _with(optimizer=sgd(0.95)),
    "momentum .99": _with(optimizer=sgd(0.99)),
    "weight decay 5e-4": _with(optimizer=sgd(0.9, 5e-4)),
    "weight decay 5e-3": _with(optimizer=sgd(0.9, 5e-3)),
    "Nesterov": _with(optimizer=sgd(0.9, nesterov=True)),
    "RMSprop": _with(optimizer=lambda p: torch.optim.RMSprop(p)),
    "Adam": _with(optimizer=lambda p: adam(p)),
    "AdamW": _with(optimizer=lambda p: adamw(p)),
    "Adagrad": _with(optimizer=lambda p: torch.optim.Adagrad(p)),
    "250 steps": _with(steps=250),
    "4000 steps": _with(steps=4000),
    "clipped at 1": _with(clip=1.0),
    "clipped at .1": _with(clip=0.1),
}


class Course(NamedTuple):
    """What one variant of one training came to.

    Attributes:
        reading: Geometric mean of what the default rule reads.
        lr: Rates that were trained.
        share: What each reaches of what the best of them does.
    """

    reading: float
    lr: list[float]
    share: list[float]

    @property
    def best(self) -> float:
        """The middle, in the logarithm, of the rates that reach 99 % of the best."""
        good = [math.log(lr) for lr, s in zip(self.lr, self.share, strict=True) if s >= _LEVEL]
        return math.exp(sum(good) / len(good))

    @property
    def reached(self) -> float:
        """The share that the reading reaches."""
        return float(np.interp(math.log(self.reading), np.log(self.lr), self.share))


def _read(problem: Problem) -> float:
    logs = [math.log(sweeps.sweep(problem, seed).read().max_lr) for seed in SEEDS]
    return float(f"{math.exp(sum(logs) / len(logs)):.6g}")


def _one(base: Problem, words: str, known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Read and, if that is missing, train one variant; qualities by rate, a seed each."""
    torch.set_num_threads(1)
    problem = VARIANTS[words](base)
    reading = _read(problem)
    if not known:
        known = {"center": reading, "trained": _train_about(problem, reading)}
    return f"{base.name}: {words}", {**known, "reading": reading}


def _train_about(problem: Problem, center: float) -> dict[str, list[float]]:
    starts = [measure(problem, begin(problem, seed)[0]) for seed in _TRAINED]
    found = {}
    for k in STEPS:
        lr = center * 10 ** (k / 3)
        results = [train(problem, seed, lr) for seed in _TRAINED]
        pairs = zip(results, starts, strict=True)
        reached = [quality(problem, result, 0.0, start) for result, start in pairs]
        found[str(k)] = [float(f"{q:.5g}") for q in reached]
    return found


def run(_: object, jobs: int) -> None:
    """Compute what is missing."""
    known: dict[str, Any] = json.loads(PATH.read_text()) if PATH.exists() else {}
    wanted = [(base, words) for words in VARIANTS for base in BASES]
    kept = [known.get(f"{base.name}: {words}", {}) for base, words in wanted]
    work = (
        delayed(_one)(*pair, found)
        for pair, found in zip(wanted, kept, strict=True)
        if "reading" not in found
    )
    for count, (key, found) in enumerate(
        Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(work)
    ):
        known[key] = found
        write(PATH, known)
        print(f"{count + 1}: {key}", flush=True)


def _courses(words: str) -> list[Course]:
    known = json.loads(PATH.read_text())
    courses = []
    for base in BASES:
        found = known[f"{base.name}: {words}"]
        mean = {k: float(np.mean(values)) for k, values in found["trained"].items()}
        best = max(mean.values())
        rates = [found["center"] * 10 ** (k / 3) for k in STEPS]
        courses.append(Course(found["reading"], rates, [mean[str(k)] / best for k in STEPS]))
    return courses


def _times(new: Iterable[float], old: Iterable[float]) -> str:
    """Word by how much rates have moved, each of the trainings counting alike."""
    logs = [math.log(a / b) for a, b in zip(new, old, strict=True)]
    return f"× {math.exp(sum(logs) / len(logs)):.2g}"


def markdown() -> list[str]:
    """Say for every variant how readings and best rates move, and what the readings reach."""
    lines = [
        "| what is changed | readings | best rates | best over reading, each | reached, each |",
        "|---|---|---|---|---|",
    ]
    before = _courses(_AS_IT_IS)
    for words in VARIANTS:
        now = _courses(words)
        read = _times((c.reading for c in now), (c.reading for c in before))
        best = _times((c.best for c in now), (c.best for c in before))
        each = ", ".join(f"{c.best / c.reading:.2g}" for c in now)
        reached = ", ".join(f"{c.reached:.2f}" for c in now)
        lines.append(f"| {words} | {read} | {best} | {each} | {reached} |")
    return lines


_MOMENTA = {"momentum .8": 0.8, _AS_IT_IS: 0.9, "momentum .95": 0.95, "momentum .99": 0.99}
_EXPONENTS = (0.0, 0.5, 0.7, 1.0)


def momenta() -> list[str]:
    """Say what rates reach that are turned from the sweep's momentum into the recipe's.

    ``((1 - .9) / (1 - momentum))`` to some exponent is what they are multiplied by.
    """
    heads = " | ".join(f"to the power of {exponent:g}" for exponent in _EXPONENTS)
    lines = [f"| the sweep's momentum | {heads} |", "|---|" + "---|" * len(_EXPONENTS)]
    for words, momentum in _MOMENTA.items():
        cells = []
        for exponent in _EXPONENTS:
            factor = (0.1 / (1 - momentum)) ** exponent
            reached = (c._replace(reading=c.reading * factor).reached for c in _courses(words))
            cells.append(", ".join(f"{share:.2f}" for share in reached))
        lines.append(f"| {momentum:g} | {' | '.join(cells)} |")
    return lines
