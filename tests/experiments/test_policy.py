"""Policies of a grid as recipes."""

from typing import Any

import pytest

from cyclr import Triangular
from cyclr.errors import SpecError
from cyclr.experiments.policy import make_recipe, record_of
from cyclr.rangetest.record import Outcome
from experiments.paper_runs import sweep_result

TRIANGLE = {"kind": "triangular", "base_lr": 0.1, "max_lr": 1.0, "stepsize": "0.5run"}


def test_a_schedule_with_durations_follows_the_scaled_length() -> None:
    recipe = make_recipe(TRIANGLE, steps="4ep", scale=0.5, per_epoch=100)
    assert recipe.lr == Triangular(base_lr=0.1, max_lr=1.0, stepsize=100)
    assert (recipe.total_steps, recipe.steps_per_epoch) == (200, 100)


def test_momentum_is_written_out_or_opposite() -> None:
    policy = {"lr": TRIANGLE, "momentum": [0.85, 0.95]}
    recipe = make_recipe(policy, steps=100)
    assert recipe.momentum is not None
    assert [round(recipe.momentum(step), 6) for step in (0, 50, 100)] == [0.95, 0.85, 0.95]
    written = {"lr": TRIANGLE, "momentum": {"kind": "constant", "value": 0.8}}
    momentum = make_recipe(written, steps=100).momentum
    assert momentum is not None
    assert momentum(3) == 0.8


def test_a_one_cycles_own_lower_bound_is_where_momentum_is_high() -> None:
    lr = {"kind": "one_cycle", "max_lr": 1.0, "total_steps": "1run", "stepsize": 40}
    momentum = make_recipe({"lr": lr, "momentum": [0.85, 0.95]}, steps=100).momentum
    assert momentum is not None
    assert [round(momentum(step), 6) for step in (0, 40, 80, 99)] == [0.95, 0.85, 0.95, 0.95]


def test_a_sweeps_result_becomes_a_record() -> None:
    record = record_of(sweep_result())
    assert len(record) == 40
    assert record.lr[0] == pytest.approx(0.02 * 50 / 3999)
    series = record.metrics["validation accuracy"]
    assert series.steps[:3] == (1, 2, 3)
    assert record.optimizer["momentum"] == 0.9
    assert record.outcome is Outcome.COMPLETED
    reading = record.read()
    assert reading.rule == "accuracy"
    assert 0.001 <= reading.base_lr < 0.003
    assert 0.005 < reading.max_lr < 0.008


def test_a_diverged_sweep_says_so() -> None:
    assert record_of({**sweep_result(), "outcome": "diverged"}).outcome is Outcome.DIVERGED


def test_a_policy_is_planned_from_a_range_test() -> None:
    result = sweep_result()
    reading = record_of(result).read()
    plan = {"range_test": "sweep", "plan": "one_cycle"}
    planned = make_recipe(plan, steps=1000, per_epoch=10, range_test=result)
    assert planned.lr.max_lr == reading.max_lr  # type: ignore[attr-defined]
    assert planned.momentum is not None
    bounds = {"range_test": "sweep", "bounds": {"kind": "triangular2", "stepsize": "0.1run"}}
    read = make_recipe(bounds, steps=1000, range_test=result)
    assert read.lr.to_dict() == {
        "kind": "triangular2",
        "base_lr": reading.base_lr,
        "max_lr": reading.max_lr,
        "stepsize": 100,
    }


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"kind": "triangle"}, "policy.kind must be one of"),
        ({"lr": TRIANGLE, "beta2": 0.9}, r"policy\.beta2 is not a key"),
        ({"momentum": TRIANGLE}, "policy must be a schedule, or have lr"),
        ({"lr": TRIANGLE, "momentum": [0.9]}, r"policy\.momentum must be a pair \[low, high\]"),
        (
            {"lr": {"kind": "constant", "value": 1}, "momentum": [0.8, 0.9]},
            r"policy\.momentum must be a pair \[low, high\] beside a rate with base_lr",
        ),
        ({"range_test": "sweep", "plan": "one_cycle"}, "the result of row 'sweep' is not there"),
    ],
)
def test_what_is_no_policy_is_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_recipe(policy, steps=100)
