"""Plans: from a reading and a budget to a recipe."""

import pytest

from cyclr import (
    ExpRange,
    OneCycle,
    Opposite,
    Triangular,
    Triangular2,
    WarmRestarts,
    plan,
)
from cyclr.errors import SpecError
from readings import reading as _reading


def test_one_cycle_is_the_default() -> None:
    recipe = plan(_reading(), total_steps=1000)
    assert recipe.lr == OneCycle(max_lr=0.1, base_lr=0.01, final_lr=0.00001, total_steps=1000)
    assert (recipe.lr(0), recipe.lr(450), recipe.lr(999)) == pytest.approx((0.01, 0.1, 0.00001))
    assert recipe.stopping_points == (900, 1000)
    assert recipe.total_steps == 1000


@pytest.mark.parametrize(
    ("total", "cycles", "stepsize"),
    [
        (1200, 3, 200),  # three cycles of exactly two epochs a leg
        (1599, 3, 266),  # four would need 1600
        (1600, 4, 200),
        (8000, 4, 1000),  # legs of exactly ten epochs
        (9000, 5, 900),  # four would have legs of more than ten
        (100_000, 50, 1000),
    ],
)
def test_triangular_policies_take_whole_cycles_of_two_to_ten_epochs(total, cycles, stepsize):
    recipe = plan(_reading(), total_steps=total, policy="triangular2")
    assert recipe.lr == Triangular2(base_lr=0.02, max_lr=0.1, stepsize=stepsize, cycles=cycles)
    assert recipe.total_steps == 2 * cycles * stepsize <= total
    assert recipe.stopping_points == tuple(2 * stepsize * k for k in range(1, cycles + 1))


def test_steps_left_over_are_noted() -> None:
    recipe = plan(_reading(), total_steps=1603, policy="triangular")
    assert isinstance(recipe.lr, Triangular)
    assert "3 of the 1603 steps are left over to end on a whole cycle." in recipe.notes


def test_a_budget_too_small_for_three_cycles_gets_one_cycle_and_a_note() -> None:
    recipe = plan(_reading(), total_steps=1199, policy="triangular")
    assert isinstance(recipe.lr, OneCycle)
    assert any("three cycles" in note and "1200 steps" in note for note in recipe.notes)


def test_without_an_epoch_the_budget_alone_decides() -> None:
    recipe = plan(_reading(steps_per_epoch=None), total_steps=800, policy="triangular")
    assert recipe.lr == Triangular(base_lr=0.02, max_lr=0.1, stepsize=100, cycles=4)


def test_exp_range_declines_to_a_tenth() -> None:
    recipe = plan(_reading(), total_steps=1600, policy="exp_range")
    assert isinstance(recipe.lr, ExpRange)
    assert recipe.lr.gamma**1600 == pytest.approx(0.1)


def test_warm_restarts_take_three_doubling_periods() -> None:
    recipe = plan(_reading(), total_steps=705, policy="warm_restarts")
    assert recipe.lr == WarmRestarts(max_lr=0.1, period=100, multiplier=2, cycles=3)
    assert recipe.stopping_points == (100, 300, 700)
    assert recipe.total_steps == 700


def test_momentum_moves_opposite_to_the_rate_if_the_sweep_had_one() -> None:
    recipe = plan(_reading(), total_steps=1000)
    assert isinstance(recipe.momentum, Opposite)
    assert [recipe.momentum(k) for k in (0, 450, 900, 999)] == pytest.approx(
        [0.95, 0.85, 0.95, 0.95]
    )


@pytest.mark.parametrize("optimizer", [{}, {"momentum": 0.0}, {"momentum": 0.5}])
def test_momentum_stays_if_the_sweep_had_little_or_none(optimizer) -> None:
    recipe = plan(_reading(optimizer=optimizer), total_steps=1000)
    assert recipe.momentum is None
    assert any("Momentum is left as it is" in note for note in recipe.notes)


def test_momentum_bounds_can_be_given_or_refused() -> None:
    recipe = plan(_reading(optimizer={}), total_steps=1000, momentum=(0.7, 0.9))
    assert recipe.momentum(450) == pytest.approx(0.7)
    assert plan(_reading(), total_steps=1000, momentum=None).momentum is None


def test_caveats_stay_with_the_recipe() -> None:
    recipe = plan(_reading(caveats=("The record is flat.",)), total_steps=1000)
    assert recipe.notes[0] == "Caveat: The record is flat."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"total_steps": 2}, "total_steps must be an int ≥ 3, got 2"),
        ({"total_steps": 10.5}, "total_steps must be an int ≥ 3, got 10.5"),
        ({"policy": "two"}, "policy must be one of 'one_cycle', 'triangular'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be an int ≥ 1 or None, got 0"),
        ({"momentum": (0.9, 0.8)}, "momentum must be (low, high) with low ≤ high"),
        ({"momentum": (0.9, 1.0)}, "momentum[1] must be a finite real number ≥ 0 and < 1"),
        ({"momentum": "high"}, "momentum must be one of 'auto', got 'high'"),
    ],
)
def test_a_wrong_argument_is_named(options, message) -> None:
    with pytest.raises(SpecError) as caught:
        plan(_reading(), **{"total_steps": 1000, **options})
    assert message in str(caught.value)


def test_a_record_in_place_of_a_reading_is_told_to_be_read() -> None:
    with pytest.raises(SpecError, match=r"reading must be a Reading, .*call record\.read\(\)"):
        plan({"loss": []}, total_steps=1000)


def test_warm_restarts_leave_the_momentum_alone_unless_asked() -> None:
    """Opposite to the rate it would jump at each restart."""
    recipe = plan(_reading(), total_steps=700, policy="warm_restarts")
    assert recipe.momentum is None
    assert "Momentum is left as it is: SGDR restarts the rate alone." in recipe.notes
    asked = plan(_reading(), total_steps=700, policy="warm_restarts", momentum=(0.8, 0.9))
    assert asked.momentum(0) == pytest.approx(0.8)
    short = plan(_reading(), total_steps=6, policy="warm_restarts")  # becomes a one-cycle
    assert short.momentum is not None


def test_how_the_range_test_made_its_updates_is_noted() -> None:
    found = {"name": "SGD", "accumulate": 2, "max_grad_norm": 0.5}
    notes = plan(_reading(optimizer=found), total_steps=100).notes
    assert (
        "Found with 2 batches to an update, the gradient's norm clipped to 0.5: train so "
        "(--accumulate 2 --max-grad-norm 0.5)."
    ) in notes
    assert not any("Found with" in note for note in plan(_reading(), total_steps=100).notes)


@pytest.mark.parametrize(
    ("optimizer", "factor"),
    [
        ({"name": "SGD", "momentum": 0.99}, 10**0.7),
        ({"name": "SGD", "momentum": 0.95}, 2**0.7),
        ({"name": "SGD", "momentum": 0.8}, 0.5**0.7),
        ({"name": "SGD", "momentum": 0.9}, 1.0),
        ({"name": "SGD", "momentum": 0.5}, 1.0),  # whose momentum is left alone
        ({"name": "AdamW", "momentum": 0.95}, 1.0),  # which divides by the gradient's size
        ({"name": "SGD + Adam", "momentum": 0.99}, 1.0),  # of which one has no such momentum
    ],
)
@pytest.mark.parametrize("policy", ["one_cycle", "triangular2"])
@pytest.mark.parametrize("rule", ["basin", "edge confirmed"])
def test_bounds_read_at_another_momentum_are_turned_into_those_for_the_recipes(
    optimizer, factor, policy, rule
) -> None:
    reading = _reading(optimizer=optimizer, rule=rule)
    recipe = plan(reading, total_steps=1600, policy=policy)
    assert recipe.lr.max_lr == pytest.approx(0.1 * factor)
    moved = [note for note in recipe.notes if "both bounds were multiplied" in note]
    assert len(moved) == (factor != 1)
    assert plan(reading, total_steps=1600, policy=policy, momentum=None).lr.max_lr == 0.1
    assert plan(reading, total_steps=1600, policy=policy, momentum=(0.85, 0.95)).lr.max_lr == 0.1


@pytest.mark.parametrize("rule", ["basin", "edge confirmed"])
def test_warm_restarts_keep_bounds_as_they_keep_the_momentum(rule: str) -> None:
    reading = _reading(optimizer={"name": "SGD", "momentum": 0.99}, rule=rule)
    assert plan(reading, total_steps=700, policy="warm_restarts").lr.max_lr == 0.1
