"""Conformance checks that any integration can be run through, ours and third parties'.

Write a handle for the integration (a subclass of :class:`~cyclr.integrations.base.Integration`) and
call :func:`check_integration` in a test of your own::

    def test_conformance():
        cyclr.testing.check_integration(MyIntegration())

A check that does not hold raises ``AssertionError`` with the step, the value used and the value
due.
"""

from __future__ import annotations

import math

from cyclr.integrations.base import Integration, Interruption
from cyclr.recipe import Recipe
from cyclr.schedules import (
    Chain,
    Constant,
    ExponentialSweep,
    LinearSweep,
    OneCycle,
    Opposite,
    Schedule,
    Triangular2,
    WarmRestarts,
    warmup,
)

__all__ = [
    "check_integration",
    "check_range_test",
    "check_resume",
    "check_values",
    "recipes",
]


def recipes() -> dict[str, Recipe]:
    """Make the recipes that the checks run: every family, with momentum where it is usual."""
    cycle = Triangular2(base_lr=0.01, max_lr=0.1, stepsize=4, cycles=3)
    one = OneCycle(max_lr=0.1, base_lr=0.01, total_steps=20, stepsize=8)
    plain: dict[str, Schedule] = {
        "constant": Constant(value=0.05, steps=6),
        "warm restarts": WarmRestarts(max_lr=0.1, period=3, multiplier=2, cycles=3),
        "chain": Chain(schedules=(LinearSweep(start_lr=0.0, end_lr=0.1, steps=5), cycle)),
        "warmup": warmup(cycle, steps=3),
    }
    made = {
        name: Recipe(lr=schedule, total_steps=schedule.total_steps or 1)
        for name, schedule in plain.items()
    }
    for name, lr in (("triangular2", cycle), ("one-cycle", one)):
        momentum = Opposite(schedule=lr, bottom=0.01, top=0.1, low=0.85, high=0.95)
        made[name] = Recipe(lr=lr, momentum=momentum, total_steps=lr.total_steps or 1)
    return made


def check_integration(integration: Integration) -> None:
    """Run every check that the integration has the means for.

    Raises:
        AssertionError: A check does not hold.
    """
    for name, recipe in recipes().items():
        check_values(integration, recipe, name)
    check_resume(integration)
    check_range_test(integration)


def check_values(integration: Integration, recipe: Recipe, name: str = "recipe") -> None:
    """Check that update k uses the recipe's values at k, from the first to past the end.

    Raises:
        AssertionError: An update used another value.
    """
    integration.begin(recipe)
    for step in range(recipe.total_steps + 3):
        _compare(integration, recipe, step, integration.update(), name)


def check_resume(integration: Integration) -> None:
    """Check that a state saved in the middle of a cycle goes on with the next update's values.

    The same state is loaded twice: the first time must not have changed it.

    Raises:
        AssertionError: An update after resuming used another value.
    """
    recipe = recipes()["triangular2"]
    integration.begin(recipe)
    for _ in range(6):
        integration.update()
    state = integration.state()
    if state is None:
        return
    for name in ("resumed triangular2", "triangular2 resumed from the same state again"):
        integration.resume(recipe, state)
        for step in range(6, recipe.total_steps):
            _compare(integration, recipe, step, integration.update(), name)


def check_range_test(integration: Integration) -> None:
    """Check that a range test uses the sweep's rates and leaves no trace, also after a failure.

    Raises:
        AssertionError: A rate differs, or something was not put back.
    """
    sweep = ExponentialSweep(start_lr=1e-4, end_lr=1e-2, steps=8)
    integration.begin(recipes()["triangular2"])
    integration.update()
    before = integration.fingerprint()
    record = integration.range_test(sweep)
    if record is None:
        return
    assert len(record) == 8, f"the range test made {len(record)} updates, the sweep has 8"
    for step, rate in enumerate(record.lr):
        assert math.isclose(rate, sweep(step), rel_tol=integration.tolerance), (
            f"range test, step {step}: recorded rate {rate!r}, due {sweep(step)!r}"
        )
    assert all(map(math.isfinite, record.loss)), f"losses are not finite: {record.loss}"
    assert integration.fingerprint() == before, "the range test left a trace"
    try:
        integration.range_test(sweep, fail_at=4)
    except Interruption:
        pass
    else:
        raise AssertionError("an exception within the range test did not come through")
    assert integration.fingerprint() == before, "an interrupted range test left a trace"


def _compare(integration: Integration, recipe: Recipe, step: int, used: object, name: str) -> None:
    assert isinstance(used, dict), f"update() must give a dict, got {used!r}"
    for key, due in recipe.values(step).items():
        assert key in used, f"{name}, step {step}: update() says nothing of {key}"
        # A rate of exactly zero has no relative error; the largest rate sets the scale.
        assert math.isclose(
            used[key], due, rel_tol=integration.tolerance, abs_tol=0.1 * integration.tolerance
        ), f"{name}, step {step}: {key} used {used[key]!r}, due {due!r}"
