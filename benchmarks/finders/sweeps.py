"""Our range test on every task, its records kept so that rules can be compared without training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.store import CACHE, seeds
from benchmarks.finders.train import Batches, begin
from cyclr.errors import RecordError
from cyclr.integrations.torch import confirm, range_test
from cyclr.rangetest import RangeRecord, RangeTest

_HELD = 500  # examples at most that a sweep with a validation loss measures it on
RECORDS = CACHE / "records"
QUICK = CACHE / "quick"  # of tasks under SGD, without a scout: what rules were tried on
CONFIRMED = "cyclr confirmed"
VALIDATED = "cyclr on the validation loss"  # which the other finders do not have
GIVEN_CONFIRMED = "cyclr given validation data, confirmed"


def path(name: str, seed: int) -> Path:
    """Say where a task's record is kept."""
    return RECORDS / f"{name}-{seed}.json"


def sweep(problem: Problem, seed: int, test: RangeTest | None = None) -> RangeRecord:
    """Run the range test with its defaults, or a test of one's own."""
    model, optimizer = begin(problem, seed)
    return range_test(
        model,
        optimizer,
        Batches(problem, seed),
        problem.loss_fn,
        sweep=test,
        max_grad_norm=problem.clip,
    )


def tables() -> list[str]:
    """List the nets on 300 rows of a table, which they overfit at rates that they train well at."""
    return [n for n in BY_NAME if n.startswith("diabetes") and "linear" not in n]


def has_little_data(name: str) -> bool:
    """Say whether a validation loss, if there is one, is what is read by default."""
    return load(name, 0).has_little_data


def validated(_: str, problem: Problem, seed: int) -> dict[str, Any]:
    """Sweep with the validation loss after every update, and read that; give the rate, if any."""
    record = _validated(problem, seed)
    try:
        lr: float | None = record.read(metric="val_loss").max_lr
    except RecordError:
        lr = None
    return {"lr": lr, "steps": record.updates}


def _validated(problem: Problem, seed: int) -> RangeRecord:
    model, optimizer = begin(problem, seed)
    return range_test(
        model,
        optimizer,
        Batches(problem, seed),
        problem.loss_fn,
        max_grad_norm=problem.clip,
        validate=_validation(problem),
        validate_every=1,
    )


def _validation(problem: Problem) -> Callable[[torch.nn.Module], dict[str, float]]:
    split = problem.split()
    inputs, targets = split.val_inputs[:_HELD], split.val_targets[:_HELD]

    def validation_loss(net: torch.nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"val_loss": float(problem.loss_fn(net(inputs), targets))}

    return validation_loss


def confirmed(who: str, problem: Problem, seed: int) -> dict[str, Any]:
    """Confirm a task's reading by a second sweep; give the rates and what both sweeps took."""
    given = who == GIVEN_CONFIRMED
    first = (_validated(problem, seed) if given else load(problem.name, seed)).read()
    model, optimizer = begin(problem, seed)
    reading = confirm(
        first,
        model,
        optimizer,
        Batches(problem, seed),
        problem.loss_fn,
        total_steps=problem.steps,
        max_grad_norm=problem.clip,
        validate=_validation(problem) if first.metric else None,
    )
    assert reading.second is not None
    second = reading.max_lr**2 / first.max_lr
    return {"lr": reading.max_lr, "second": second, "steps": reading.updates}


def load(name: str, seed: int) -> RangeRecord:
    """Read a task's record."""
    return RangeRecord.load(path(name, seed))


def quick(name: str, seed: int) -> RangeRecord:
    """Read the record of a quick sweep; that of any optimizer but SGD is one already."""
    kept = load(name, seed)
    return RangeRecord.load(QUICK / path(name, seed).name) if kept.scout.lr else kept


def _one(name: str, seed: int) -> None:
    torch.set_num_threads(1)
    record = sweep(BY_NAME[name], seed)
    if record.scout.lr:  # first, so that neither is missing where the other is there
        sweep(BY_NAME[name], seed, RangeTest(scout=False)).save(QUICK / path(name, seed).name)
    record.save(path(name, seed))


def run(chosen: list[Problem], jobs: int) -> None:
    """Make the records that are missing."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    QUICK.mkdir(exist_ok=True)
    wanted = [(p.name, s) for p in chosen for s in seeds(p.name) if not path(p.name, s).exists()]
    Parallel(n_jobs=jobs)(delayed(_one)(*entry) for entry in wanted)
