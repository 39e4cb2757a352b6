"""More cycles: what was run stays as it was, and what is added goes on as the formula says."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from cyclr import (
    Chain,
    Constant,
    ExpRange,
    OneCycle,
    Opposite,
    Recipe,
    Schedule,
    Triangular,
    Triangular2,
    WarmRestarts,
)
from cyclr.errors import CheckpointError, InputError, SpecError
from cyclr.training.extension import extend
from cyclr.training.run import read_metrics
from small_runs import RECIPE, StopAfter, assert_same_run, run, steps

CASES: dict[str, tuple[Schedule, int, int]] = {
    "triangular": (Triangular(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=3), 60, 100),
    "triangular2": (Triangular2(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=3), 60, 100),
    "exp_range": (ExpRange(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=3, gamma=0.99), 60, 100),
    "endless": (Triangular(base_lr=0.1, max_lr=1.0, stepsize=10), 60, 100),
    "cut in a cycle": (Triangular(base_lr=0.1, max_lr=1.0, stepsize=10), 50, 80),
    "restarts": (WarmRestarts(max_lr=1.0, period=10, multiplier=2, cycles=3), 70, 310),
    "one-cycle": (OneCycle(max_lr=1.0, total_steps=60), 60, 180),
    "chain": (
        Chain(
            schedules=(
                Triangular(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=2),
                Triangular(base_lr=0.01, max_lr=0.1, stepsize=5, cycles=2),
            )
        ),
        60,
        80,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_two_more_cycles(name: str) -> None:
    lr, total, longer = CASES[name]
    recipe = Recipe(lr=lr, total_steps=total)
    extended = extend(recipe, 2)
    assert extended.total_steps == longer
    steps = np.arange(total)
    assert np.array_equal(extended.lr(steps), lr(steps))
    assert extended.lr.cycle_ends(longer)[-1] == longer
    assert np.ptp(extended.lr(np.arange(total, longer))) > 0.05


def test_cycles_go_on_as_the_formula_says_and_a_one_cycle_begins_anew() -> None:
    halved = extend(Recipe(lr=CASES["triangular2"][0], total_steps=60), 1)
    assert halved.lr(70) == pytest.approx(0.1 + 0.9 / 8)
    one = CASES["one-cycle"][0]
    again = extend(Recipe(lr=one, total_steps=60), 1)
    assert [again.lr(60 + k) for k in (0, 27, 59)] == [one(k) for k in (0, 27, 59)]


def test_the_momentum_goes_on_with_the_rate() -> None:
    extended = extend(RECIPE, 2)
    assert extended.momentum is not None
    assert isinstance(extended.momentum, Opposite)
    assert extended.momentum.schedule == extended.lr
    assert extended.momentum(70) == pytest.approx(0.85)


def test_a_run_that_stopped_early_goes_on_from_there() -> None:
    recipe = Recipe(lr=Triangular(base_lr=0.1, max_lr=1.0, stepsize=10, cycles=6), total_steps=120)
    assert extend(recipe, 1, step=60).total_steps == 80
    assert extend(recipe, 5, step=60).total_steps == 160


def test_what_has_no_cycles_and_no_number_of_them_are_refused() -> None:
    with pytest.raises(InputError, match="the recipe's lr must be cyclical to be extended"):
        extend(Recipe(lr=Constant(value=0.1), total_steps=10), 2)
    with pytest.raises(SpecError, match="cycles must be an int ≥ 1, got 0"):
        extend(RECIPE, 0)


def test_an_extended_run_is_the_longer_run_bit_for_bit(tmp_path: Path) -> None:
    long = tmp_path / "long"
    run(long, recipe=extend(RECIPE, 2))
    folder = tmp_path / "run"
    run(folder)
    result = run(folder, resume=True, extend=2)
    assert (result.steps, result.extensions) == (100, 1)
    assert (folder / "metrics.jsonl").read_bytes() == (long / "metrics.jsonl").read_bytes()
    ends = [p / "checkpoints" / "step-00000100" / "model.safetensors" for p in (folder, long)]
    assert ends[0].read_bytes() == ends[1].read_bytes()
    assert load_file(str(ends[0]))


def test_an_extension_that_is_cut_off_goes_on(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        run(folder)
    run(whole, resume=True, extend=2)
    for batch in (3, 20):  # before its first checkpoint, and after
        extra = {"extend": 2} if batch == 3 else {}
        with pytest.raises(Crash):
            run(cut, resume=True, loss=StopAfter(batch, crash), **extra)
    assert steps(cut)[-1] < 100
    run(cut, resume=True)
    assert_same_run(whole, cut, 100)
    assert [line["step"] for line in read_metrics(cut) if "loss" in line] == list(range(100))


def test_only_a_finished_run_is_extended(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    def crash() -> None:
        raise Crash

    with pytest.raises(Crash):
        run(tmp_path / "run", loss=StopAfter(30, crash))
    with pytest.raises(CheckpointError, match="has not finished yet, and cycles are added at the"):
        run(tmp_path / "run", resume=True, extend=2)
    with pytest.raises(InputError, match="extend adds cycles to a run in its folder"):
        run(tmp_path / "other", extend=2)
