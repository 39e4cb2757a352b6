"""Budgets divided: literals for one case, and what holds for every budget."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr.tuning.budget import (
    Wishes,
    budget_updates,
    divide,
    least_length,
    refuse,
    smallest_budget,
)

ALL = Wishes(own=True, noise=True, decays=3, bisections=2, momenta=4, rates=3)
wishes = st.builds(
    Wishes,
    own=st.just(True),
    noise=st.booleans(),
    batch_sizes=st.lists(st.floats(0.2, 8), max_size=3).map(tuple),
    decays=st.integers(0, 5),
    bisections=st.integers(0, 2),
    momenta=st.integers(0, 5),
    rates=st.sampled_from([0, 3]),
)


def test_a_plan_in_figures() -> None:
    # Half is for longer runs. 11 short runs; 2 with a range test and 5 with a short one, at 1.1
    # times what they are counted as: (10000 - 1.1 * (2 + 5 * 0.65) * 100) / 11 = 856.6
    plan = divide(20_000, ALL, sweep=100, run=3900)
    assert plan is not None
    assert (plan.length, plan.longer, plan.reserve, plan.dropped) == (856, 3333, 10_000, ())
    assert plan.updates == pytest.approx(11 * 856 + 577.5 + 3 * 3333, abs=0.6)
    assert [(line.stage, line.trials, line.updates) for line in plan.lines] == [
        ("own settings", 1, pytest.approx(966)),
        ("noise", 1, pytest.approx(966)),
        ("momentum", 4, 856),
        ("weight decay", 3, pytest.approx(927.5)),
        ("bisection", 2, pytest.approx(927.5)),
        ("longer run", 3, 3333),
    ]


def test_a_run_is_never_longer_than_the_training() -> None:
    plan = divide(1e6, ALL, sweep=100, run=300)
    assert plan is not None
    assert (plan.length, plan.longer) == (300, 300)


def test_longer_runs_are_half_as_long_again_as_short_ones() -> None:
    plan = divide(3000, Wishes(own=True, rates=3), sweep=100, run=3900)
    assert plan is not None
    assert (plan.longer, plan.length) == (500, 333)


def test_what_a_small_budget_drops_and_in_which_order() -> None:
    # Each budget is the smallest of its kind at 50 updates a run and 60 a range test.
    seen: list[tuple[str, ...] | None] = []
    for budget in range(2600, 400, -10):
        plan = divide(budget, ALL, sweep=60, run=500)
        seen.append(None if plan is None else plan.dropped)
    *found, nothing = dict.fromkeys(seen)
    assert nothing is None
    kept = [dropped for dropped in found if dropped is not None]
    order = (
        "the second bisection of the weight decay",
        "the first bisection of the weight decay",
        "the repeat that measures the noise",
        "one of the momenta",
        "one of the momenta",
    )
    rates = "a reserve for comparing rates in longer runs"
    with_rates = [order[:n] for n in range(6)]
    # Without longer runs there is room for short ones again, for a while.
    without = [(rates, *order[:n]) for n in range(6)]
    assert kept == with_rates + [dropped for dropped in without if dropped in kept]
    assert kept[-1] == (rates, *order)


@given(st.integers(1, 50_000), wishes, st.integers(60, 100), st.integers(50, 20_000))
def test_a_plan_keeps_the_budget_and_the_least_length(
    budget: int, wished: Wishes, sweep: int, run: int
) -> None:
    plan = divide(budget, wished, sweep=sweep, run=run)
    least = smallest_budget(wished, sweep=sweep, run=run)
    if plan is None:
        assert budget < least
    else:
        assert sum(line.total for line in plan.lines) <= budget + 1e-5
        assert least_length(run) <= plan.length <= run
        assert budget >= least - 1


@given(wishes, st.integers(60, 100), st.integers(50, 20_000))
def test_the_smallest_budget_is_the_smallest(wished: Wishes, sweep: int, run: int) -> None:
    least = smallest_budget(wished, sweep=sweep, run=run)
    assert divide(least, wished, sweep=sweep, run=run) is not None
    assert divide(least - 1, wished, sweep=sweep, run=run) is None


@given(st.integers(1, 20_000), wishes, st.integers(50, 500))
def test_runs_that_must_be_shorter_leave_room_for_the_best_to_be_run_again(
    budget: int, wished: Wishes, length: int
) -> None:
    wished = dataclasses.replace(wished, rates=0)
    plan = divide(budget, wished, sweep=60, run=2000, at_most=length)
    if plan is not None and plan.wishes.runs:
        again = plan.length + 60 if plan.length < length else 0
        assert plan.length <= length
        assert sum(line.total for line in plan.lines) + again <= budget + 1e-5


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [(3000, "st", 3000), (10, "ep", 220), (2, "run", 1320), (1.5, "run", 990), (20, "min", 60000)],
)
def test_budgets_in_every_unit(amount: float, unit: str, expected: int) -> None:
    found = budget_updates(amount, unit, run=660, per_epoch=22, seconds_per_update=0.02)
    assert found == expected


def test_the_refusal_names_the_smallest_budget() -> None:
    assert str(refuse(400, 708, 22)).startswith(
        "budget must be at least 708 updates (32.2 epochs) for these stages, got 400; "
    )


def test_the_least_length() -> None:
    assert [least_length(run) for run in (30, 600, 3900)] == [30, 50, 195]


def test_seconds_are_unknown_until_they_are_measured() -> None:
    plan = divide(7800, ALL, sweep=100, run=3900)
    assert plan is not None
    assert math.isnan(plan.seconds)
