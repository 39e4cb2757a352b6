"""Decisions at cycle ends: when a cycle brings no gain, and how bounds are lowered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyclr import (
    Chain,
    Constant,
    Cyclical,
    OneCycle,
    Opposite,
    Recipe,
    Scale,
    Schedule,
    Triangular,
    Triangular2,
    WarmRestarts,
)
from cyclr.errors import InputError
from cyclr.training.decisions import Judge, lower, lower_is_better, monitored
from cyclr.training.run import Run, read_metrics
from cyclr.training.settings import Settings
from small_runs import run

LR = Triangular(base_lr=0.01, max_lr=0.1, stepsize=10, cycles=6)
PLAN = Recipe(
    lr=LR,
    momentum=Opposite(schedule=LR, bottom=0.01, top=0.1, low=0.85, high=0.95),
    weight_decay=Scale(schedule=LR, factor=0.1),
    total_steps=120,
)


def _decisions(scores: list[float], **settings: object) -> list[str | None]:
    judge = Judge(Settings(**{"on_plateau": "stop", **settings}))
    kinds = []
    for number, score in enumerate(scores, start=1):
        decision = judge.decide(20 * number, {"val_accuracy": score}, PLAN)
        kinds.append(None if decision is None else decision.kind)
    return kinds


def test_it_is_judged_from_the_third_cycle_on() -> None:
    assert _decisions([0.5, 0.4, 0.3]) == [None, None, "stop"]
    assert _decisions([0.5, 0.4, 0.6, 0.6]) == [None, None, None, "stop"]
    assert _decisions([0.5, 0.6, 0.7, 0.8]) == [None] * 4


@pytest.mark.parametrize("at", [0, 1])
def test_a_cycle_that_ends_with_nan_is_no_gain_and_nothing_to_compare_with(at: int) -> None:
    nan = float("nan")
    scores = [0.1, 0.2, 0.5, 0.9, 0.9]
    scores[at] = nan
    assert _decisions(scores) == [None] * 4 + ["stop"]
    assert _decisions([nan] * 3) == [None, None, "stop"]
    assert _decisions([0.5, 0.4, nan]) == [None, None, "stop"]


def test_a_best_that_was_kept_as_nan_is_forgotten() -> None:
    judge = Judge(Settings(on_plateau="stop"))
    state = {**judge.state_dict(), "best": float("nan"), "cycles": 2}
    judge.load_state_dict(state)
    assert judge.decide(60, {"val_accuracy": 0.5}, PLAN) is None
    assert judge.state_dict()["best"] == 0.5


def _run_with(values: list[float], **options: Any) -> tuple[Run, list[str]]:
    """Train six cycles of 10 updates whose ends are measured as given."""
    ends: list[int] = []
    remarks: list[str] = []
    result = run(
        None,
        recipe=Recipe(
            lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=5, cycles=6), total_steps=60
        ),
        metrics={"given": lambda o, t: torch.full((len(t),), values[len(ends)])},
        monitor="+val_given",
        on_evaluation=lambda step, _: ends.append(step),
        on_remark=remarks.append,
        **options,
    )
    return result, remarks


def test_a_run_goes_on_after_a_cycle_that_ended_with_nan_and_says_so_once() -> None:
    nan = float("nan")
    result, remarks = _run_with([nan, 0.1, 0.2, 0.3, nan, 0.4], on_plateau="stop")
    (first, second) = remarks
    assert first.startswith("step 10: val_given is NaN, which counts as no gain; check the vali")
    assert second.startswith("step 50: cycle 5 at these bounds brought no gain in val_given")
    assert (result.steps, result.best) == (50, 40)


def test_a_decision_is_remarked_upon_without_a_folder_too() -> None:
    result, remarks = _run_with([0.5] * 6, on_plateau="stop")
    assert result.steps == 30
    assert remarks == [
        "step 30: cycle 3 at these bounds brought no gain in val_given; training stops here"
    ]


def test_the_number_of_cycles_and_going_on_are_the_callers() -> None:
    assert _decisions([0.5] * 5, plateau_cycles=5) == [None] * 4 + ["stop"]
    assert _decisions([0.5] * 5, on_plateau="go-on") == [None] * 5


def test_a_loss_gains_by_falling_and_nothing_is_judged_without_metrics() -> None:
    judge = Judge(Settings(on_plateau="stop", monitor="val_loss"))
    for step, loss in ((20, 1.0), (40, 0.9), (60, 0.8)):
        assert judge.decide(step, {"val_loss": loss, "val_accuracy": 0.0}, PLAN) is None
    decision = judge.decide(80, {"val_loss": 0.8, "val_accuracy": 1.0}, PLAN)
    assert decision is not None
    assert decision.why == "cycle 4 at these bounds brought no gain in val_loss"
    assert Judge(Settings(on_plateau="stop")).decide(20, {}, PLAN) is None


def test_what_is_monitored() -> None:
    both = {"val_loss": 1.0, "val_accuracy": 0.5}
    assert monitored(None, both) == "val_accuracy"
    assert monitored(None, {"val_loss": 1.0}) == "val_loss"
    assert monitored(None, {}) is None
    with pytest.raises(InputError, match="monitor must be one of val_loss, val_accuracy, got 'f1'"):
        monitored("f1", both)
    assert [lower_is_better(n) for n in ("val_loss", "val_error", "val_accuracy", "val_f1")] == [
        True,
        True,
        False,
        False,
    ]


def test_after_lowering_cycles_are_counted_anew_and_the_best_is_remembered() -> None:
    judge = Judge(Settings(on_plateau="lower"))
    recipe, kinds = PLAN, []
    for step, score in ((20, 0.9), (40, 0.5), (60, 0.5), (70, 0.5), (80, 0.5), (90, 0.5)):
        decision = judge.decide(step, {"val_accuracy": score}, recipe)
        kinds.append(None if decision is None else decision.kind)
        recipe = recipe if decision is None else decision.recipe
    assert kinds == [None, None, "lower", None, None, "lower"]


def test_bounds_are_lowered_as_in_table_2() -> None:
    first = Triangular2(base_lr=1e-3, max_lr=5e-3, stepsize=2000, cycles=8)
    recipe = Recipe(lr=first, total_steps=32_000)
    once = lower(recipe, 16_000)
    twice = lower(once, 22_000)
    pieces = twice.lr.schedules
    assert [p.base_lr for p in pieces] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert [p.max_lr for p in pieces] == pytest.approx([5e-3, 5e-4, 5e-5])
    assert [p.stepsize for p in pieces] == [2000, 1000, 500]
    assert twice.lr.starts == (16_000, 22_000)
    paper = Chain(
        schedules=(
            first.replace(cycles=4),
            Triangular2(base_lr=1e-4, max_lr=5e-4, stepsize=1000, cycles=3),
            Triangular2(base_lr=1e-5, max_lr=5e-5, stepsize=500, cycles=3),
        )
    )
    steps = np.arange(25_000)
    np.testing.assert_allclose(twice.lr(steps), paper(steps), rtol=1e-12)


@pytest.mark.parametrize(
    "lr",
    [
        LR,
        LR.replace(cycles=None),
        Cyclical(
            base_lr=0.01, max_lr=0.1, stepsize=6, down_stepsize=10, hold_base=4, cycles=6,
            window="hann",
        ),
        WarmRestarts(max_lr=0.1, min_lr=0.01, period=20, cycles=6),
        Chain(schedules=(Constant(value=0.02), LR), boundaries=(20,)),
    ],
    ids=["triangular", "endless", "general", "restarts", "chain"],
)  # fmt: skip
def test_what_was_run_stays_and_what_follows_is_whole_cycles_in_the_budget(lr: Schedule) -> None:
    recipe = Recipe(lr=lr, total_steps=120)
    lowered = lower(recipe, 60)
    before = np.arange(60)
    assert np.array_equal(lowered.lr(before), lr(before))
    after = lowered.lr(np.arange(60, lowered.total_steps))
    assert after.max() <= 0.01 + 1e-12
    assert after.max() > 0.009
    assert lowered.total_steps <= 120
    assert lowered.lr.cycle_ends(lowered.total_steps)[-1] == lowered.total_steps
    assert len(lowered.lr.cycle_ends(lowered.total_steps)) > 4


def test_momentum_and_a_tied_weight_decay_follow_the_lowered_rate() -> None:
    lowered = lower(PLAN, 60)
    assert lowered.momentum is not None
    assert lowered.weight_decay is not None
    peak, end = 60 + 5, 60 + 10
    assert lowered.lr(peak) == pytest.approx(0.01)
    assert lowered.momentum(peak) == pytest.approx(0.85)
    assert lowered.momentum(end) == pytest.approx(0.95)
    assert lowered.weight_decay(peak) == pytest.approx(0.001)
    again = lower(lowered, 90)
    assert again.momentum is not None
    assert again.momentum(90 + 2) == pytest.approx(0.85)
    assert again.momentum(peak) == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("lr", "step"),
    [(OneCycle(max_lr=0.1, total_steps=120), 108), (Constant(value=0.1), 60), (LR, 112)],
    ids=["one-cycle", "constant", "no room"],
)
def test_what_has_no_bounds_or_no_room_is_not_lowered(lr: Schedule, step: int) -> None:
    with pytest.raises(InputError, match="the bounds are not lowered"):
        lower(Recipe(lr=lr, total_steps=120), step)


def _never(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.zeros(len(targets))


def _plateau(folder: Path, what: str) -> list[dict[str, object]]:
    options = {"on_plateau": what, "monitor": "+val_never", "metrics": {"never": _never}}
    recipe = Recipe(lr=LR, total_steps=120)
    run(folder, recipe=recipe, **options)
    return read_metrics(folder)


def test_a_run_stops_at_the_end_of_the_cycle_that_brought_nothing(tmp_path: Path) -> None:
    lines = _plateau(tmp_path / "run", "stop")
    assert max(line["step"] for line in lines if "loss" in line) == 59
    (decision,) = [line for line in lines if "decision" in line]
    assert (decision["step"], decision["decision"]) == (60, "stop")
    summary = json.loads((tmp_path / "run" / "run.json").read_text())
    assert summary["steps"] == summary["recommended"]["step"] == 60
    assert summary["outcome"] == (
        "stopped at a cycle's end: cycle 3 at these bounds brought no gain in val_never"
    )


def test_a_run_goes_on_with_lower_bounds_in_its_budget(tmp_path: Path) -> None:
    lines = _plateau(tmp_path / "run", "lower")
    decided = [line["step"] for line in lines if line.get("decision") == "lower"]
    assert decided == [60, 90]
    assert [line["step"] for line in lines if line.get("decision") == "stop"] == [102]
    rates = {line["step"]: line["lr"] for line in lines if "loss" in line}
    assert sorted(rates) == list(range(102))  # two levels lower, no gain either: enough
    assert rates[10] == pytest.approx(0.1)
    assert rates[65] == pytest.approx(0.01)
    assert max(rate for step, rate in rates.items() if step >= 90) == pytest.approx(0.001)
    summary = json.loads((tmp_path / "run" / "run.json").read_text())
    assert summary["steps"] == summary["recommended"]["step"] == 102
    assert Recipe.from_dict(summary["recipe"]).total_steps <= 120
    assert len(summary["decisions"]) == len([line for line in lines if "decision" in line])


def test_by_default_the_recipe_is_run_as_it_stands(tmp_path: Path) -> None:
    lines = _plateau(tmp_path / "run", "go-on")
    assert [line["step"] for line in lines if "loss" in line] == list(range(120))
    assert not any("decision" in line for line in lines)
