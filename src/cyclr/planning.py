"""From a reading and a budget to a recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cyclr.errors import SpecError, complaint
from cyclr.rangetest.reading import Reading
from cyclr.rangetest.rules.bounds import under_sgd
from cyclr.recipe import Recipe
from cyclr.schedules import (
    ExpRange,
    OneCycle,
    Opposite,
    Schedule,
    Triangular,
    Triangular2,
    WarmRestarts,
)
from cyclr.schedules.fields import Constraint

_MOMENTUM = (0.85, 0.95)  # arXiv 1803.09820, section 4.3
_FALL = 0.7  # corrects readings for how they fall with momentum; see the page about the rules
_NEAR = 0.01  # a factor so near to one is none
_LEAST_MOMENTUM = 0.8  # below this the sweep says little about momenta of .85 to .95

POLICIES = ("one_cycle", "triangular", "triangular2", "exp_range", "warm_restarts")


def plan(
    reading: Reading,
    *,
    total_steps: int,
    policy: str = "one_cycle",
    steps_per_epoch: int | None = None,
    momentum: tuple[float, float] | str | None = "auto",
) -> Recipe:
    """Make a recipe from a reading and a budget.

    - ``one_cycle``: peak at max_lr, from and back to max_lr / 10 in two legs of 45 % of the steps
      each, then down a further factor of 1000 (arXiv 1803.09820, section 4).
    - ``triangular``, ``triangular2``, ``exp_range``: whole cycles between base_lr and max_lr with a
      stepsize of 2 to 10 epochs, four cycles if they fit, at least three; when not even three fit,
      one-cycle, with a note that says so (arXiv 1506.01186, sections 3.2 and 4). ``exp_range``
      lets the amplitude decline to a tenth.
    - ``warm_restarts``: three periods, each twice as long as the one before (arXiv 1608.03983).

    Only whole cycles are planned, so up to a few steps of the budget may be left over; a note says
    how many.

    Args:
        reading: The bounds, and what the sweep ran with.
        total_steps: The budget in updates, ≥ 3.
        policy: One of the above.
        steps_per_epoch: Updates in an epoch, ≥ 1; by default what the reading knows. Without it,
            the stepsize is a share of the budget alone.
        momentum: ``(low, high)`` of a momentum opposite to the rate; None to leave the optimizer's
            alone; ``"auto"`` for (.85, .95) if the sweep ran with a momentum (or beta1) ≥ .8,
            otherwise None. With warm restarts ``"auto"`` is None: opposite to the rate, the
            momentum would jump at every restart, and the authors keep it constant.

    A sweep under SGD alone reads less the higher its momentum β, while the best rate under a
    momentum of .85 to .95 hardly changes. So with ``"auto"`` both bounds are
    multiplied by ``((1 − .9) / (1 − β))^0.7``, with a note.

    Raises:
        SpecError: An argument breaks its constraint.
    """
    if not hasattr(reading, "max_lr"):
        remedy = "call record.read() for one"
        raise SpecError(complaint("reading", "a Reading", reading, remedy))
    total = Constraint(kind="integer", ge=3).check("total_steps", total_steps)
    Constraint(kind="choice", options=POLICIES).check("policy", policy)
    per_epoch = reading.steps_per_epoch if steps_per_epoch is None else steps_per_epoch
    per_epoch = Constraint(kind="integer", ge=1, optional=True).check("steps_per_epoch", per_epoch)
    notes = [f"Caveat: {caveat}" for caveat in reading.caveats]
    notes += _updates(reading.optimizer)
    if momentum == "auto" and not _restarts(policy, total):
        reading = _at_own_momentum(reading, notes)
    lr = _schedule(policy, reading, total, per_epoch, notes)
    length = lr.total_steps or total
    if length < total:
        notes.append(
            f"{total - length} of the {total} steps are left over to end on a whole cycle."
        )
    if momentum == "auto" and isinstance(lr, WarmRestarts):
        momentum = None
        notes.append("Momentum is left as it is: SGDR restarts the rate alone.")
    bounds = _momentum_bounds(momentum, reading, notes)
    return Recipe(
        lr=lr,
        momentum=None if bounds is None else _opposite(lr, *bounds),
        total_steps=length,
        steps_per_epoch=per_epoch,
        notes=tuple(notes),
    )


def _restarts(policy: str, total: int) -> bool:
    return policy == "warm_restarts" and total >= 7


def auto_momentum(optimizer: Mapping[str, Any]) -> tuple[float, float] | None:
    """Say which momentum ``"auto"`` stands for after a sweep with an optimizer; None for none."""
    tested = optimizer.get("momentum")
    return _MOMENTUM if tested is not None and tested >= _LEAST_MOMENTUM else None


def _at_own_momentum(reading: Reading, notes: list[str]) -> Reading:
    """Turn bounds read at the sweep's momentum into those for the recipe's."""
    tested = reading.optimizer.get("momentum")
    planned = auto_momentum(reading.optimizer)
    if planned is None or tested is None:
        return reading
    if not under_sgd(reading.optimizer) or tested >= 1:
        return reading
    factor = ((1 - sum(planned) / 2) / (1 - tested)) ** _FALL
    if abs(factor - 1) < _NEAR:
        return reading
    notes.append(
        f"The sweep ran with a momentum of {tested:g}; for one of {planned[0]:g} to "
        f"{planned[1]:g} both bounds were multiplied by {factor:.2g}."
    )
    return dataclasses.replace(
        reading, base_lr=reading.base_lr * factor, max_lr=reading.max_lr * factor
    )


def _updates(optimizer: Mapping[str, Any]) -> list[str]:
    """Say how the range test made its updates, where the training has to be told to do the same."""
    told = {
        "accumulate": "{:g} batches to an update",
        "max_grad_norm": "the gradient's norm clipped to {:g}",
    }
    found = {name: optimizer[name] for name in told if name in optimizer}
    if not found:
        return []
    words = ", ".join(told[name].format(value) for name, value in found.items())
    flags = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in found.items())
    return [f"Found with {words}: train so ({flags})."]


def _schedule(
    policy: str, reading: Reading, total: int, per_epoch: int | None, notes: list[str]
) -> Schedule:
    """Choose the rate's schedule for the budget."""
    low, high = reading.base_lr, reading.max_lr
    if policy == "warm_restarts":
        if _restarts(policy, total):
            return WarmRestarts(max_lr=reading.max_lr, period=total // 7, multiplier=2, cycles=3)
        notes.append(
            f"One-cycle instead of warm_restarts: three periods do not fit in {total} steps."
        )
    elif policy != "one_cycle":
        cycles = _cycles(total, per_epoch)
        if cycles is not None:
            leg = total // (2 * cycles)
            if policy == "exp_range":
                gamma = 0.1 ** (1 / total)
                return ExpRange(base_lr=low, max_lr=high, stepsize=leg, cycles=cycles, gamma=gamma)
            cls = Triangular if policy == "triangular" else Triangular2
            return cls(base_lr=low, max_lr=high, stepsize=leg, cycles=cycles)
        notes.append(
            f"One-cycle instead of {policy}: three cycles with a stepsize of at least two epochs "
            f"need {12 * (per_epoch or 1)} steps, the budget is {total}."
        )
    notes.append(
        "One cycle from and back to a tenth of max_lr over 90 % of the steps, then down a further "
        "factor of 1000."
    )
    return OneCycle(
        max_lr=reading.max_lr,
        base_lr=reading.max_lr / 10,
        final_lr=reading.max_lr / 10_000,
        total_steps=total,
    )


def _cycles(total: int, per_epoch: int | None) -> int | None:
    """Choose how many whole cycles: four if they fit, three if not, more if legs would exceed."""
    low, high = (1, total) if per_epoch is None else (2 * per_epoch, 10 * per_epoch)
    if total // 6 < low:
        return None
    cycles = 4 if total // 8 >= low else 3
    while total // (2 * cycles) > high:
        cycles += 1
    return cycles


def _momentum_bounds(
    momentum: tuple[float, float] | str | None, reading: Reading, notes: list[str]
) -> tuple[float, float] | None:
    if momentum is None:
        return None
    if isinstance(momentum, str):
        Constraint(kind="choice", options=("auto",)).check("momentum", momentum)
        bounds, tested = auto_momentum(reading.optimizer), reading.optimizer.get("momentum")
        if bounds is not None:
            return bounds
        ran = "an unknown momentum" if tested is None else f"a momentum of {tested:g}"
        notes.append(f"Momentum is left as it is: the sweep ran with {ran}.")
        return None
    bound = Constraint(kind="real", ge=0, lt=1)
    pair = Constraint(kind="tuple", item=bound).check("momentum", momentum)
    if len(pair) != 2 or pair[0] > pair[1]:
        raise SpecError(complaint("momentum", "(low, high) with low ≤ high", momentum, "reorder"))
    return pair[0], pair[1]


def _opposite(lr: Any, low: float, high: float) -> Schedule:
    """Let the momentum fall as the rate rises, over the rate's own bounds."""
    bottom = lr.min_lr if isinstance(lr, WarmRestarts) else lr.base_lr
    return Opposite(schedule=lr, bottom=bottom, top=lr.max_lr, low=low, high=high)
