"""The stages on landscapes whose best point is known."""

import dataclasses
import math
from typing import Any

import pytest

from cyclr.errors import TrainingError
from cyclr.tuning import Trial
from cyclr.tuning.budget import Wishes
from cyclr.tuning.request import CYCLE, Request
from cyclr.tuning.stages import Stages
from tuning.tasks import Formula, desk_of, facts, plan_of

EVERYTHING = Wishes(own=True, noise=True, decays=3, bisections=2, momenta=4, rates=3)


def _request(**changes: Any) -> Request:
    fields: dict[str, Any] = {
        "facts": facts(),
        "budget": "2run",
        "epochs": 10,
        "policy": "one_cycle",
        "seed": 0,
        "stages": ("momentum", "weight-decay", "rate"),
        "weight_decay": (1e-2, 1e-3, 1e-4),
        "momentum": (0.99, 0.97, 0.95, 0.9, "cyclical"),
        "batch_size": (),
        "start": None,
        "start_digest": None,
        "left_out": (),
    }
    return Request(**{**fields, **changes})


def _bowl(decay: float, momentum: float, rate: float) -> Any:
    """Make a loss with its lowest point at given settings.

    The rate is one at the cyclical momentum, and what counts is lr / (1 − momentum) at the peak.
    """

    def loss(trial: Trial, max_lr: float) -> float:
        assert trial.weight_decay is not None
        exponent = math.log10(max(trial.weight_decay, 1e-6) / decay)
        m = sum(trial.momentum) / 2 if isinstance(trial.momentum, tuple) else trial.momentum
        assert m is not None
        peak = trial.momentum[0] if isinstance(trial.momentum, tuple) else m
        reach = max_lr / (1 - peak) * (1 - 0.85)
        return (
            1
            + 0.1 * exponent**2
            + 50 * (m - momentum) ** 2
            + math.log10(reach / rate) ** 2
            + 0.001 * trial.seed
        )

    return loss


def stages_on(formula: Formula, budget: int = 10_000, **changes: Any) -> Stages:
    costs = changes.pop("costs", {64: 1.0})
    wishes = changes.pop("wishes", EVERYTHING)
    length = changes.pop("length", 100)
    request = _request(**changes)
    return Stages(request, desk_of(formula, costs), plan_of(budget, length, wishes=wishes), costs)


def test_the_best_of_every_stage_is_taken_on_to_the_next() -> None:
    formula = Formula(_bowl(10**-3.5, 0.97, 0.3))
    stages = stages_on(formula, budget=3000)
    winner = stages.run()
    assert winner.trial.weight_decay == pytest.approx(10**-3.5, rel=0.6)
    assert winner.trial.momentum == 0.97
    assert winner.max_lr == pytest.approx(0.3 * 0.03 / 0.15)
    names = [choice.stage for choice in stages.choices]
    assert names == ["momentum", "weight decay", "own settings", "rate"]
    assert stages.noise == pytest.approx(0.001 / 1.477, rel=1e-3)


def test_nothing_is_run_twice_and_the_own_momentum_costs_nothing() -> None:
    formula = Formula(_bowl(1e-3, 0.9, 0.1))
    stages = stages_on(formula, budget=2000)
    stages.run()
    keys = [trial.key for trial in formula.ran]
    assert len(keys) == len(set(keys))
    assert sum(trial.momentum == CYCLE for trial in formula.ran if trial.bounds is None) <= 7


def test_a_weight_decay_beyond_the_grid_is_found_by_stepping_outward() -> None:
    stages = stages_on(Formula(_bowl(1e-1, 0.9, 0.1)), stages=("weight-decay",))
    assert stages.run().trial.weight_decay == pytest.approx(1e-1)


def test_the_largest_stable_rate_decides_among_equal_weight_decays() -> None:
    formula = Formula(lambda *_: 1.0, rate=lambda t: 0.1 if t.weight_decay == 5e-4 else 0.4)
    winner = stages_on(formula, stages=("weight-decay",)).run()
    assert winner.trial.weight_decay in (1e-2, 1e-3, 1e-4)
    assert not any(t.weight_decay not in (1e-2, 1e-3, 1e-4, 5e-4) for t in formula.ran)


def test_a_stable_rate_within_a_factor_of_three_decides_nothing() -> None:
    formula = Formula(lambda *_: 1.0, rate=lambda t: 0.1 if t.weight_decay == 5e-4 else 0.29)
    assert stages_on(formula, stages=("weight-decay",)).run().trial.weight_decay == 5e-4


def test_weight_decays_train_at_the_present_rate_and_lower_where_it_is_not_stable() -> None:
    # With a weight decay of .01, a tenth of the rate is stable.
    formula = Formula(_bowl(5e-4, 0.9, 0.1), rate=lambda t: 0.01 if t.weight_decay == 1e-2 else 0.1)
    stages = stages_on(formula, budget=1670, stages=("weight-decay",))
    stages.run()
    tried = {r.trial.weight_decay: r for r in stages._desk.results if r.stage == "weight decay"}
    assert set(tried) == {1e-2, 1e-3, 1e-4}
    for decay, result in tried.items():
        assert result.trial.bounds == pytest.approx((0.01, 0.1))
        assert result.trial.reference == pytest.approx(0.1)
        assert result.max_lr == pytest.approx(0.01 if decay == 1e-2 else 0.1)


def test_weight_decays_at_another_momentum_expect_another_stable_rate() -> None:
    formula = Formula(_bowl(5e-4, 0.97, 0.1), rate=lambda t: 0.03 if t.momentum == 0.97 else 0.1)
    stages = stages_on(formula, stages=("momentum", "weight-decay"))
    stages.run()
    decays = [trial for trial in formula.ran if trial.weight_decay != 5e-4]
    assert decays
    for trial in decays:
        assert trial.momentum == 0.97
        # The range test ran at the optimizer's own .9, the training from .85 up.
        assert trial.reference == pytest.approx(0.1 * 0.03 / 0.1)
        assert trial.bounds == pytest.approx((0.002, 0.02))


def test_momenta_are_compared_at_equal_steps_and_without_range_tests() -> None:
    formula = Formula(_bowl(5e-4, 0.9, 0.1))
    wishes = Wishes(own=True, momenta=4)
    stages_on(formula, budget=600, stages=("momentum",), wishes=wishes).run()
    rates = {t.momentum: t.bounds[1] for t in formula.ran if t.bounds is not None}
    assert rates == {
        0.99: pytest.approx(0.1 * 0.01 / 0.15),
        0.97: pytest.approx(0.1 * 0.03 / 0.15),
        0.95: pytest.approx(0.1 * 0.05 / 0.15),
        0.9: pytest.approx(0.1 * 0.10 / 0.15),
    }
    assert all(t.reference is None for t in formula.ran)


# What a range test of 60 updates is counted as: 166 for the own settings, 4 * 100, 3 * 142.9.
PLANNED = 995


def _tight(sweep: int) -> tuple[Formula, Stages]:
    formula = Formula(_bowl(1e-3, 0.9, 0.1), sweep=sweep)
    wishes = Wishes(own=True, decays=3, momenta=4)
    return formula, stages_on(formula, PLANNED, wishes=wishes, stages=("momentum", "weight-decay"))


def test_range_tests_that_take_more_than_planned_shorten_what_follows() -> None:
    formula, stages = _tight(sweep=110)
    stages.run()
    # 785 updates are left after the first trial: 236 for three short range tests, and 549 for the
    # own settings again, with a range test of 110, four momenta and three weight decays.
    assert [trial.updates for trial in formula.ran] == [100] + [54] * 8
    assert stages._desk.spent <= PLANNED
    assert [len(choice.tried) for choice in stages.choices] == [5, 4]


def test_or_leave_no_room_for_some_of_it_in_words() -> None:
    formula, stages = _tight(sweep=120)
    stages.run()
    assert [trial.updates for trial in formula.ran] == [100] + [56] * 7
    said = "Range tests took more than planned, so there was no room for one of the momenta."
    assert stages.remarks == [said]
    assert stages._desk.spent <= PLANNED


def test_a_spent_budget_ends_the_tune_and_says_so() -> None:
    formula, stages = _tight(sweep=400)
    assert math.isfinite(stages.run().val_loss)
    assert stages.remarks[-1].startswith("The budget was spent before everything planned was run: ")
    assert all(trial.momentum == CYCLE for trial in formula.ran)


@pytest.mark.parametrize("stage", ["weight-decay", "momentum"])
def test_a_stage_alone_shortens_its_runs_too(stage: str) -> None:
    formula = Formula(_bowl(1e-3, 0.9, 0.1), sweep=120)
    wishes = Wishes(own=True, decays=3) if stage == "weight-decay" else Wishes(own=True, momenta=4)
    budget = 595 if stage == "weight-decay" else 566
    stages = stages_on(formula, budget, wishes=wishes, stages=(stage,))
    stages.run()
    assert stages._desk.spent <= budget


def test_batch_sizes_are_compared_at_equal_time() -> None:
    def loss(trial: Trial, _: float) -> float:
        return {32: 1.0, 64: 1.0, 128: 1.001, 256: 1.5}[trial.batch_size]

    formula = Formula(loss, rate=lambda t: 0.1 * (t.batch_size / 64) ** 0.5)
    costs = {64: 1.0, 32: 0.6, 128: 1.5, 256: 2.0, 4096: math.inf}
    stages = stages_on(
        formula,
        costs=costs,
        stages=("batch-size", "weight-decay"),
        batch_size=(32, 64, 128, 256, 4096),
        wishes=dataclasses.replace(EVERYTHING, batch_sizes=(0.6, 1.5, 2.0), rates=0),
    )
    winner = stages.run()
    assert winner.trial.batch_size == 128
    compared = {t.batch_size: t.updates for t in formula.ran if t.bounds is None}
    assert compared == {64: 100, 32: 167, 128: 67, 256: 50}
    choice = stages.choices[0]
    assert (choice.stage, choice.after.trial.batch_size) == ("batch size", 128)
    decays = [t for t in formula.ran if t.weight_decay != 5e-4]
    assert {(t.batch_size, t.updates) for t in decays} == {(128, 67)}
    # The rate they go by is the one read at their batch size.
    assert all(t.reference == pytest.approx(0.1 * 2**0.5) for t in decays)
    own = stages.beside(winner)
    assert own is not None
    assert own.trial.batch_size == 64


def test_a_batch_that_does_not_fit_is_a_row_of_the_table() -> None:
    formula = Formula(lambda *_: 1.0)
    costs = {64: 1.0, 4096: math.inf}
    stages = stages_on(
        formula, costs=costs, stages=("batch-size",), batch_size=(64, 4096), wishes=EVERYTHING
    )
    assert stages.run().trial.batch_size == 64
    results = stages._desk.results
    assert {r.outcome.value for r in results if r.trial.batch_size == 4096} == {"too_large"}
    assert all(trial.batch_size == 64 for trial in formula.ran)


def test_settings_that_diverge_lose_and_own_ones_that_do_are_replaced() -> None:
    def loss(trial: Trial, _: float) -> float:
        return 1.0 if trial.momentum == 0.9 else math.nan

    assert stages_on(Formula(loss)).run().trial.momentum == 0.9


def test_a_tune_in_which_nothing_trains_is_an_error() -> None:
    with pytest.raises(TrainingError, match=r"not one of .* trained to its end; the first: "):
        stages_on(Formula(lambda *_: math.nan)).run()
