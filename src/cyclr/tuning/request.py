"""What was asked for: checked at once, with the defaults filled in from the task."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cyclr.errors import InputError, SpecError, complaint
from cyclr.experiments.task import Task
from cyclr.planning import POLICIES
from cyclr.schedules.fields import Constraint
from cyclr.tuning.facts import Facts, digest, find_weights
from cyclr.tuning.trial import Momentum, Trial

_T = TypeVar("_T")

STAGES = ("batch-size", "momentum", "weight-decay", "rate")
SHALLOW = (1e-2, 1e-3, 1e-4)
DEEP = (1e-3, 1e-4, 1e-5, 0.0)
MOMENTA = (0.99, 0.97, 0.95, 0.9, "cyclical")
CYCLE = (0.85, 0.95)

_DEEP_FROM = 10  # weight layers
_SURE = 0.8  # an own momentum from which on plan moves it
_FORM = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(st|ep|run|min)?\s*")
_BUDGET = 'updates (3000), epochs ("10ep"), lengths of the training ("2run") or minutes ("20min")'


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to tune, how, and for which training.

    Attributes:
        facts: Of the task.
        budget: As the user wrote it.
        epochs: Length of the training the recipe is for, ≥ 1.
        policy: Of the recipe; see :func:`~cyclr.planning.plan`.
        seed: Of every trial but the one that measures the noise.
        stages: Which stages to run.
        weight_decay: The grid.
        momentum: Values to try, and ``"cyclical"``.
        batch_size: Sizes to compare, the task's own among them; empty for no comparison.
        start: File of the weights that every trial starts from; None for fresh ones.
        start_digest: SHA-256 of that file.
        left_out: Stages that the optimizer has nothing for, in words.
    """

    facts: Facts
    budget: str
    epochs: int
    policy: str
    seed: int
    stages: tuple[str, ...]
    weight_decay: tuple[float, ...]
    momentum: tuple[float | str, ...]
    batch_size: tuple[int, ...]
    start: str | None
    start_digest: str | None
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Write the request as plain data."""
        return dataclasses.asdict(self)

    @property
    def run(self) -> int:
        """Updates of the training the recipe is for, at the task's own batch size."""
        return self.epochs * self.facts.updates_per_epoch(self.facts.batch_size)

    @property
    def own_momentum(self) -> Momentum:
        """Give a training's momentum when nobody says, cyclical if the optimizer has one."""
        own = self.facts.momentum
        moves = own is not None and own >= _SURE and self.policy != "warm_restarts"
        return CYCLE if moves else None

    def momenta(self) -> tuple[Momentum, ...]:
        """Give the momenta to try besides the one of the trials before."""
        found = [CYCLE if value == "cyclical" else float(value) for value in self.momentum]
        return tuple(value for value in found if value != self.own_momentum)

    def trial(self, *, updates: int, sweep_steps: int) -> Trial:
        """Make the trial of the task's own settings."""
        return Trial(
            seed=self.seed,
            updates=updates,
            sweep_steps=sweep_steps,
            batch_size=self.facts.batch_size,
            weight_decay=self.facts.weight_decay,
            momentum=self.own_momentum,
            policy=self.policy,
            start=self.start,
        )


def make_request(
    task: Task,
    *,
    budget: int | str,
    epochs: int | None,
    policy: str,
    seed: int,
    weight_decay: str | Iterable[float] | None,
    momentum: Iterable[float | str] | None,
    batch_size: Iterable[int] | None,
    stages: Iterable[str] | None,
    start: str | os.PathLike[str] | None,
    source: Mapping[str, Any] | None,
) -> Request:
    """Check what was asked for and fill in what was not; see :func:`cyclr.tuning.tune`.

    Raises:
        InputError: An argument breaks its constraint, or the stages have nothing to do.
    """
    parse_budget(budget)
    Constraint(kind="choice", options=POLICIES).check("policy", policy)
    Constraint(kind="integer", ge=1, optional=True).check("epochs", epochs)
    chosen = _stages(stages, batch_size)
    weights = None if start is None else find_weights(start)
    facts = Facts.of(task, seed, source, weights)
    left_out = _left_out(chosen, facts)
    request = Request(
        facts=facts,
        budget=str(budget),
        epochs=task.epochs if epochs is None else epochs,
        policy=policy,
        seed=seed,
        stages=tuple(stage for stage in chosen if stage not in left_out),
        weight_decay=_decays(weight_decay, facts),
        momentum=_momenta(momentum),
        batch_size=_sizes(batch_size, facts),
        start=None if weights is None else str(weights),
        start_digest=None if weights is None else digest(weights),
        left_out=tuple(left_out.values()),
    )
    if not request.stages:
        raise InputError(f"there is nothing to tune: {' '.join(request.left_out)}")
    return request


def parse_budget(budget: int | str) -> tuple[float, str]:
    """Split a budget into its amount, > 0, and its unit: ``st``, ``ep``, ``run`` or ``min``.

    Raises:
        SpecError: The form is unknown.
    """
    match = None if isinstance(budget, bool) else _FORM.fullmatch(str(budget))
    if match is None or float(match[1]) <= 0:
        raise SpecError(complaint("budget", _BUDGET, budget, "write one of these forms"))
    amount, unit = float(match[1]), match[2] or "st"
    if unit == "st" and amount != int(amount):
        raise SpecError(complaint("budget", "a whole number of updates", budget, "round it"))
    return amount, unit


def _stages(stages: Iterable[str] | None, batch_size: Any) -> tuple[str, ...]:
    if stages is None:
        return STAGES if batch_size is not None else STAGES[1:]
    if isinstance(stages, str):
        raise InputError(complaint("stages", "several names", stages, "pass a list of them"))
    wanted = tuple(stages)
    for stage in wanted:
        Constraint(kind="choice", options=STAGES).check("stages", stage)
    if not wanted:
        raise InputError(f"stages must name at least one of {', '.join(STAGES)}, got none")
    if "batch-size" in wanted and batch_size is None:
        raise InputError(
            "the stage batch-size compares sizes; name them with batch_size (--batch-size 64,128)"
        )
    if "batch-size" not in wanted and batch_size is not None:
        raise InputError("batch_size is given and stages leaves batch-size out; drop one of them")
    return tuple(stage for stage in STAGES if stage in wanted)


def _left_out(stages: Sequence[str], facts: Facts) -> dict[str, str]:
    """Say of stages that the optimizer has nothing for why they are left out."""
    found = {}
    if "weight-decay" in stages and facts.weight_decay is None:
        found["weight-decay"] = f"{facts.optimizer} has no weight decay in every group."
    if "momentum" in stages and facts.momentum is None:
        found["momentum"] = f"{facts.optimizer} has no momentum."
    return found


def _decays(grid: str | Iterable[float] | None, facts: Facts) -> tuple[float, ...]:
    named = {"shallow": SHALLOW, "deep": DEEP}
    if grid is None:
        return SHALLOW if facts.weight_layers < _DEEP_FROM else DEEP
    if isinstance(grid, str):
        if grid not in named:
            constraint = '"shallow", "deep" or numbers'
            raise SpecError(complaint("weight_decay", constraint, grid, "pick one"))
        return named[grid]
    item = Constraint(kind="real", ge=0, le=1)
    found: tuple[float, ...] = Constraint(kind="tuple", item=item).check("weight_decay", grid)
    return _several("weight_decay", found)


def _momenta(values: Iterable[float | str] | None) -> tuple[float | str, ...]:
    if values is None:
        return MOMENTA
    if isinstance(values, str):
        raise SpecError(complaint("momentum", "several values", values, "pass a list"))
    item = Constraint(kind="real", ge=0, lt=1)
    return _several(
        "momentum",
        tuple(
            value if value == "cyclical" else item.check(f"momentum[{i}]", value)
            for i, value in enumerate(values)
        ),
    )


def _sizes(values: Iterable[int] | None, facts: Facts) -> tuple[int, ...]:
    if values is None:
        return ()
    item = Constraint(kind="integer", ge=1, is_duration=False)
    found: tuple[int, ...] = Constraint(kind="tuple", item=item).check("batch_size", values)
    for i, size in enumerate(_several("batch_size", found)):
        if size > facts.examples:
            constraint = f"at most the {facts.examples:,} training examples"
            raise SpecError(complaint(f"batch_size[{i}]", constraint, size, "make it smaller"))
    return tuple(sorted({*found, facts.batch_size}))


def _several(where: str, values: tuple[_T, ...]) -> tuple[_T, ...]:
    if not values:
        raise SpecError(complaint(where, "at least one value", values, "name some"))
    if len(set(values)) < len(values):
        raise SpecError(complaint(where, "different values", values, "name each once"))
    return values
