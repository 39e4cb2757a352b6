"""A grid's policy as a recipe: written out, or planned from a range test's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyclr.errors import SpecError, complaint
from cyclr.planning import plan
from cyclr.rangetest import RangeRecord
from cyclr.rangetest.record import Outcome, Series
from cyclr.recipe import Recipe
from cyclr.schedules import Opposite, Schedule, from_dict
from cyclr.schedules.units import Units

_SCHEDULES = ("lr", "momentum", "weight_decay")


def make_recipe(
    policy: Mapping[str, Any],
    *,
    steps: int | str,
    scale: float = 1,
    per_epoch: int | None = None,
    range_test: Mapping[str, Any] | None = None,
) -> Recipe:
    """Make the recipe of a row.

    Three forms of a policy: a schedule of the rate (``kind = …``); a recipe (``lr = {…}`` and
    ``momentum = {…}``, or ``momentum = [low, high]`` for one opposite to the rate); or
    ``range_test = "row"`` with ``plan``, one of the policies of :func:`~cyclr.planning.plan`, or
    with ``bounds``, a schedule whose base_lr and max_lr are read off the range test.

    Args:
        policy: The policy.
        steps: Length in updates, or as ``"30ep"``.
        scale: What to multiply the length by, > 0. Durations written as ``"…run"`` follow.
        per_epoch: Updates in an epoch.
        range_test: The result of the range test, where the policy needs one.

    Raises:
        SpecError: The policy is not one of these, or a field is out of bounds.
    """
    length = Units(steps_per_epoch=per_epoch).steps(steps, where="steps")
    length = max(3, round(length * scale))
    units = Units(steps_per_epoch=per_epoch, total_steps=length)
    if "range_test" in policy:
        return _planned(dict(policy), range_test, length, per_epoch, units)
    if "kind" in policy:
        lr = from_dict(policy, where="policy", units=units)
        return Recipe(lr=lr, total_steps=length, steps_per_epoch=per_epoch)
    return _written(policy, length, per_epoch, units)


def _written(policy: Mapping[str, Any], length: int, per_epoch: int | None, units: Units) -> Recipe:
    """Read a recipe that is written out."""
    if unknown := sorted(set(policy) - set(_SCHEDULES)):
        raise SpecError(f"policy.{unknown[0]} is not a key; the keys: kind, {_SCHEDULES}")
    if "lr" not in policy:
        raise SpecError(complaint("policy", "a schedule, or have lr", policy, "add lr = {…}"))
    lr = from_dict(policy["lr"], where="policy.lr", units=units)
    parts: dict[str, Any] = {}
    for key, value in policy.items():
        if key == "momentum" and isinstance(value, list):
            parts[key] = _opposite(lr, value)
        elif key != "lr":
            parts[key] = from_dict(value, where=f"policy.{key}", units=units)
    return Recipe(lr=lr, total_steps=length, steps_per_epoch=per_epoch, **parts)


def _opposite(lr: Schedule, bounds: list[float]) -> Schedule:
    """Let the momentum fall from the upper bound to the lower as the rate rises."""
    bottom, top = getattr(lr, "base", getattr(lr, "base_lr", None)), getattr(lr, "max_lr", None)
    if len(bounds) != 2 or bottom is None or top is None:
        form = "a pair [low, high] beside a rate with base_lr and max_lr"
        raise SpecError(complaint("policy.momentum", form, bounds, "write a schedule instead"))
    return Opposite(schedule=lr, bottom=bottom, top=top, low=bounds[0], high=bounds[1])


def _planned(
    policy: dict[str, Any],
    result: Mapping[str, Any] | None,
    length: int,
    per_epoch: int | None,
    units: Units,
) -> Recipe:
    """Take bounds from a range test."""
    row = policy.pop("range_test")
    if result is None:
        raise SpecError(f"policy.range_test: the result of row {row!r} is not there yet")
    reading = record_of(result).read(policy.pop("rule", None))
    if "plan" in policy:
        return plan(
            reading,
            total_steps=length,
            policy=policy["plan"],
            steps_per_epoch=per_epoch,
            momentum=policy.get("momentum", "auto"),
        )
    bounds = {"base_lr": reading.base_lr, "max_lr": reading.max_lr}
    lr = from_dict({**policy["bounds"], **bounds}, where="policy.bounds", units=units)
    return Recipe(lr=lr, total_steps=length, steps_per_epoch=per_epoch)


def record_of(result: Mapping[str, Any]) -> RangeRecord:
    """Turn the result of a run along a sweep into a range test's record.

    The losses are means over the result's stretches, at the rate of a stretch's middle; the
    accuracies are the evaluations.
    """
    recipe = Recipe.from_dict(result["spec"]["recipe"])
    curve = result["curve"]
    stretch, losses = curve["stretch"], [float(loss) for loss in curve["loss"]]
    middles = [min(i * stretch + stretch // 2, recipe.total_steps - 1) for i in range(len(losses))]
    evaluations = [e for e in curve["evaluations"] if e["step"] // stretch < len(losses)]
    return RangeRecord(
        sweep=recipe.lr,
        lr=tuple(float(recipe.lr(step)) for step in middles),
        loss=tuple(losses),
        metrics={
            "validation accuracy": Series(
                tuple(e["step"] // stretch for e in evaluations),
                tuple(float(e["accuracy"]) for e in evaluations),
            )
        },
        outcome=Outcome.DIVERGED if result["outcome"] == "diverged" else Outcome.COMPLETED,
        optimizer={"momentum": _momentum(result), "name": result["spec"]["optimizer"]["kind"]},
        steps_per_epoch=None,
    )


def _momentum(result: Mapping[str, Any]) -> float | None:
    value = result["spec"]["optimizer"].get("momentum")
    return None if value is None else float(value)
