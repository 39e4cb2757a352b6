"""The longer runs at the end, on landscapes that change with the length."""

import math
from typing import Any

import pytest

from cyclr.tuning import Trial
from cyclr.tuning.budget import Wishes
from cyclr.tuning.request import CYCLE
from cyclr.tuning.stages import Stages
from tuning.tasks import Formula, facts
from tuning.test_stages import stages_on

RATE_ALONE = Wishes(own=True, rates=3)


def _valley(best: float, steep: float = 1.0) -> Any:
    """Make a loss that is lowest at a rate, at every length."""
    return lambda trial, max_lr: 1 + steep * math.log10(max_lr / best) ** 2


def _alone(loss: Any, budget: int = 6000) -> tuple[Formula, Stages]:
    formula = Formula(loss)
    return formula, stages_on(formula, budget, stages=("rate",), wishes=RATE_ALONE)


def test_short_runs_settings_stand_beside_the_own_ones_in_longer_runs() -> None:
    def loss(trial: Trial, max_lr: float) -> float:
        # Short runs prefer a momentum of .9, long ones the task's own settings.
        cyclical = trial.momentum == CYCLE
        return (1.0 if cyclical else 0.8) if trial.updates <= 100 else (0.5 if cyclical else 0.6)

    formula = Formula(loss)
    stages = stages_on(formula, budget=6000, stages=("momentum",), momentum=(0.9,))
    winner = stages.run()
    assert winner.trial.momentum == CYCLE
    longer = [trial for trial in formula.ran if trial.updates > 100]
    assert {trial.updates for trial in longer} == {1000}
    rates = {trial.momentum: trial.bounds[1] for trial in longer if trial.bounds}
    assert rates == {CYCLE: 0.1, 0.9: pytest.approx(0.1 / 1.5)}
    assert stages.beside(winner) is winner
    last = stages.choices[-1]
    assert (last.stage, last.after.trial.weight_decay) == ("own settings", 5e-4)


def test_without_the_rate_stage_the_rate_stays() -> None:
    formula = Formula(lambda trial, _: 1.0 if trial.momentum == CYCLE else trial.momentum or 0.0)
    winner = stages_on(formula, budget=6000, stages=("momentum",)).run()
    longer = [trial for trial in formula.ran if trial.updates > 100]
    assert len(longer) == 2
    (checked,) = [trial for trial in longer if trial.momentum == 0.9]
    assert winner.trial == checked
    (at_first,) = [t for t in formula.ran if t.updates == 100 and t.momentum == 0.9]
    assert checked.bounds == at_first.bounds


def test_where_nothing_has_changed_and_no_rate_is_asked_for_there_is_nothing_to_run() -> None:
    formula = Formula(lambda *_: 1.0)
    stages_on(formula, budget=6000, stages=("momentum",)).run()
    assert {trial.updates for trial in formula.ran} == {100}


def test_rates_go_up_as_long_as_that_pays() -> None:
    formula, stages = _alone(_valley(1.0))
    winner = stages.run()
    assert winner.max_lr == pytest.approx(0.9)
    longer = [trial.bounds[1] for trial in formula.ran if trial.updates > 100 and trial.bounds]
    assert sorted(longer) == pytest.approx([0.1, 0.3, 0.9, 2.7])
    (choice,) = stages.choices
    assert [result.max_lr for result in choice.tried] == pytest.approx([0.1, 0.3, 0.9, 2.7])
    own = stages.beside(winner)
    assert own is not None
    assert (own.max_lr, own.trial.updates) == (pytest.approx(0.1), 1000)


def test_and_down_where_up_does_not() -> None:
    _, stages = _alone(_valley(0.01))
    assert stages.run().max_lr == pytest.approx(0.1 / 9)
    assert [r.max_lr for r in stages.choices[0].tried] == pytest.approx(
        [0.1, 0.3, 0.9, 0.1 / 3, 0.1 / 9]
    )


def test_nine_times_the_rate_is_tried_even_where_three_times_does_worse() -> None:
    losses = {0.1: 1.0, 0.3: 1.02, 0.9: 0.9, 2.7: 1.5}
    _, stages = _alone(lambda _, max_lr: losses[round(max_lr, 6)])
    assert stages.run().max_lr == pytest.approx(0.9)


def test_the_rate_that_was_read_stays_where_it_is_the_best() -> None:
    _, stages = _alone(_valley(0.1))
    winner = stages.run()
    assert winner.max_lr == pytest.approx(0.1)
    assert stages.beside(winner) is winner


def test_of_rates_that_do_as_well_the_highest_is_taken_but_none_further_on_is_tried() -> None:
    _, stages = _alone(lambda *_: 1.0)
    assert stages.run().max_lr == pytest.approx(0.9)
    assert max(result.max_lr for result in stages.choices[0].tried) == pytest.approx(0.9)
    # Above by less than the tolerance, which is 1 % where the noise was not measured.
    losses = {0.1: 1.005, 0.3: 1.009, 0.9: 1.02, 0.033333: 1.0}
    _, stages = _alone(lambda _, max_lr: losses.get(round(max_lr, 6), 1.5))
    assert stages.run().max_lr == pytest.approx(0.3)


def test_runs_shorter_than_the_training_have_all_its_epochs_on_a_share_of_the_examples() -> None:
    # Own: 160 of 1300; 380 updates for each of three runs, of 1000 on 6400 examples.
    formula, stages = _alone(_valley(0.3), budget=1300)
    winner = stages.run()
    longer = [trial for trial in formula.ran if trial.updates > 100]
    assert [(trial.updates, trial.examples) for trial in longer] == [(380, 2432)] * 3
    assert (winner.trial.examples, winner.max_lr) == (2432, pytest.approx(0.3))
    formula, stages = _alone(_valley(0.3))
    stages.run()
    assert {(trial.updates, trial.examples) for trial in formula.ran if trial.updates > 100} == {
        (1000, None)
    }


def test_a_rate_beyond_one_at_which_the_training_breaks_is_not_taken() -> None:
    losses = {0.1: 0.12, 0.3: 2.3, 0.9: 0.04, 0.033333: 0.2}
    _, stages = _alone(lambda _, max_lr: losses.get(round(max_lr, 6), 9.0))
    assert stages.run().max_lr == pytest.approx(0.1)
    # Nor one beyond a rate that diverges, and a loss below zero is compared as well.
    losses = {0.1: -1.0, 0.3: math.nan, 0.9: -2.0}
    _, stages = _alone(lambda _, max_lr: losses.get(round(max_lr, 6), -0.5))
    assert stages.run().max_lr == pytest.approx(0.1)


def test_rates_that_diverge_lose() -> None:
    _, stages = _alone(lambda _, max_lr: 1.0 if max_lr < 0.2 else math.nan)
    assert stages.run().max_lr == pytest.approx(0.1)


def test_a_budget_that_pays_for_no_rates_still_checks_the_settings() -> None:
    def loss(trial: Trial, _: float) -> float:
        return 1.0 if trial.momentum == CYCLE else 0.5

    formula = Formula(loss)
    # Own: 160, a momentum: 100; 340 are left for two runs of 170, not for four of 150.
    wishes = Wishes(own=True, momenta=1)
    stages = stages_on(
        formula, budget=600, stages=("momentum", "rate"), momentum=(0.9,), wishes=wishes
    )
    assert stages.run().trial.momentum == 0.9
    assert [trial.updates for trial in formula.ran if trial.updates > 100] == [170, 170]
    assert stages._desk.spent == 600


def test_runs_are_never_longer_than_the_training_nor_run_twice() -> None:
    formula, stages = _alone(_valley(1.0), budget=100_000)
    stages.run()
    assert max(trial.updates for trial in formula.ran) == 1000
    keys = [trial.key for trial in formula.ran]
    assert len(keys) == len(set(keys))


def test_where_all_longer_runs_diverge_the_short_ones_count() -> None:
    _, stages = _alone(lambda trial, _: 1.0 if trial.updates <= 100 else math.nan)
    winner = stages.run()
    assert (winner.trial.updates, winner.max_lr) == (100, pytest.approx(0.1))
    assert stages.remarks == [
        "Not one of the longer runs trained to its end; the settings are those of the short ones."
    ]
    assert stages.beside(winner) is winner


def test_a_lower_rate_is_looked_for_where_longer_runs_diverge() -> None:
    _, stages = _alone(lambda t, max_lr: 1.0 if t.updates <= 100 or max_lr < 0.02 else math.nan)
    assert stages.run().max_lr == pytest.approx(0.1 / 9)


@pytest.mark.parametrize("names", [("rate",), ("momentum", "rate")])
def test_a_rate_at_which_nothing_trains_comes_down_at_once(names: tuple[str, ...]) -> None:
    formula = Formula(lambda _, max_lr: 1.0 if max_lr < 0.05 else math.nan)
    stages = stages_on(formula, 6000, stages=names, momentum=(0.9,), wishes=RATE_ALONE)
    assert stages.run().max_lr == pytest.approx(0.1 / 3)
    assert stages.choices[0].stage == "rate"
    # The task's own settings at the rate read for them have had their run.
    assert [t.updates for t in formula.ran if t.bounds is None] == [100]


def test_settings_that_diverge_in_longer_runs_lose_to_the_own_ones() -> None:
    def loss(trial: Trial, _: float) -> float:
        if trial.momentum == CYCLE:
            return 1.0
        return 0.5 if trial.updates <= 100 else math.nan

    stages = stages_on(Formula(loss), 6000, stages=("momentum",), momentum=(0.9,))
    assert stages.run().trial.momentum == CYCLE
    assert stages.choices[-1].stage == "own settings"


def test_no_room_for_rates_is_said() -> None:
    _, stages = _alone(_valley(1.0), budget=560)
    assert stages.run().max_lr == pytest.approx(0.1)
    assert stages.remarks == ["There was no room to compare rates in longer runs."]


def test_own_settings_that_have_had_a_whole_training_are_not_trained_again() -> None:
    def loss(trial: Trial, _: float) -> float:
        return {5e-4: 1.0, 1e-3: 0.9}.get(trial.weight_decay or 0.0, 1.5)

    formula = Formula(loss)
    wishes = Wishes(own=True, decays=3, rates=4)
    stages = stages_on(formula, 30_000, length=1000, stages=("weight-decay", "rate"), wishes=wishes)
    assert stages.run().trial.weight_decay == 1e-3
    own = [trial for trial in formula.ran if trial.weight_decay == 5e-4]
    assert [(trial.updates, trial.bounds) for trial in own] == [(1000, None)]


def test_batches_too_large_for_a_copy_in_small_are_cut_short() -> None:
    formula = Formula(_valley(0.3))
    stages = stages_on(
        formula, 1300, stages=("rate",), wishes=RATE_ALONE, facts=facts(examples=64), epochs=1000
    )
    stages.run()
    longer = {(trial.updates, trial.examples) for trial in formula.ran if trial.updates > 100}
    assert longer == {(380, None)}
