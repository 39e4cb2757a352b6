"""``cyclr plan``: a record and a budget in, a recipe out."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyclr import ExponentialSweep, Outcome, RangeRecord, Recipe, plan
from cyclr.cli import main
from cyclr.rangetest import Series

Command = Callable[..., tuple[int, str, str]]
SWEEP = ExponentialSweep(start_lr=1e-5, end_lr=10.0, steps=60)
RECORD = RangeRecord(
    sweep=SWEEP,
    lr=tuple(SWEEP(k) for k in range(60)),
    loss=tuple(2.3 - 1.5 / (1 + 2.0 ** (25 - k)) + 2.0 ** (k - 50) for k in range(60)),
    outcome=Outcome.DIVERGED,
    optimizer={"name": "SGD", "momentum": 0.9},
    steps_per_epoch=20,
)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cyclr", *argv])
        with pytest.raises(SystemExit) as caught:
            main()
        return (int(caught.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture(autouse=True)
def _record(tmp_path: Path) -> None:
    RECORD.save(tmp_path / "record.json")


def test_json_is_the_recipe_that_the_library_plans(run: Command) -> None:
    code, out, err = run("plan", "record.json", "--epochs", "30", "--json")
    assert (code, err) == (0, "")
    expected = plan(RECORD.read(), total_steps=600)
    assert Recipe.from_dict(json.loads(out)) == expected
    assert expected.total_steps == 600


def test_it_can_be_planned_by_another_metric(run: Command, tmp_path: Path) -> None:
    measured = Series(tuple(range(60)), tuple(RECORD.loss[k + 10] for k in range(50)) + (9.0,) * 10)
    record = replace(RECORD, metrics={"val_loss": measured})
    record.save(tmp_path / "measured.json")
    options = ("--metric", "val_loss", "--total-steps", "123", "--json")
    code, out, _ = run("plan", "measured.json", *options)
    assert code == 0
    recipe = Recipe.from_dict(json.loads(out))
    by_loss = record.read(metric="loss").max_lr
    assert recipe.lr.max_lr == record.read(metric="val_loss").max_lr < by_loss
    _, out, _ = run("plan", "measured.json", *options[:-1])
    assert out.splitlines()[0].split(None, 2) == ["read", "by", "basin, of val_loss"]
    _, out, _ = run("plan", "measured.json", "--metric", "loss", *options[2:])
    assert Recipe.from_dict(json.loads(out)).lr.max_lr == by_loss


def test_a_reading_is_planned_as_it_is(run: Command, tmp_path: Path) -> None:
    reading = replace(RECORD.read(), max_lr=0.123)  # as a second sweep may have moved it
    reading.save(tmp_path / "reading.json")
    code, out, err = run("plan", "reading.json", "--epochs", "30", "--json")
    assert (code, err) == (0, "")
    assert Recipe.from_dict(json.loads(out)) == plan(reading, total_steps=600)
    assert json.loads(out)["lr"]["max_lr"] == 0.123


def test_a_reading_has_been_read_already(run: Command, tmp_path: Path) -> None:
    RECORD.read().save(tmp_path / "reading.json")
    code, out, err = run("plan", "reading.json", "--epochs", "30", "--rule", "knee")
    assert (code, out) == (2, "")
    assert "reading.json is a reading already; name the record.json" in err


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ("one_cycle", "one_cycle"),
        ("triangular", "triangular"),
        ("triangular2", "triangular2"),
        ("exp_range", "exp_range"),
        ("warm_restarts", "warm_restarts"),
    ],
)
def test_every_policy_can_be_planned(run: Command, policy: str, kind: str) -> None:
    code, out, _ = run("plan", "record.json", "--epochs", "40", "--policy", policy, "--json")
    assert code == 0
    recipe = Recipe.from_dict(json.loads(out))
    assert recipe.lr.kind == kind
    assert recipe.stopping_points[-1] == recipe.total_steps <= 800


def test_a_budget_in_steps(run: Command) -> None:
    code, out, _ = run("plan", "record.json", "--total-steps", "123", "--json")
    assert code == 0
    assert json.loads(out)["total_steps"] == 123


def test_an_endless_budget_is_worded_as_quickly(run: Command) -> None:
    code, out, err = run("plan", "record.json", "--total-steps", str(10**15))
    assert (code, err) == (0, "")
    assert "1,000,000,000,000,000" in out


def test_another_rule_gives_other_bounds(run: Command) -> None:
    code, out, _ = run("plan", "record.json", "--epochs", "30", "--rule", "decade", "--json")
    assert code == 0
    peak = Recipe.from_dict(json.loads(out)).lr.max_lr  # type: ignore[attr-defined]
    assert peak == RECORD.read("decade").max_lr != RECORD.read().max_lr


def test_the_recipe_is_saved_and_said_on_stderr(run: Command, tmp_path: Path) -> None:
    code, out, err = run("plan", "record.json", "--epochs", "30", "--out", "recipe.json")
    assert (code, err) == (0, "recipe saved to recipe.json\n")
    recipe = Recipe.load(tmp_path / "recipe.json")
    assert recipe == plan(RECORD.read(), total_steps=600)
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert lines["policy"].strip() == "one_cycle"
    assert lines["steps"].strip() == "600"
    points = ", ".join(map(str, recipe.stopping_points))
    assert lines["stopping points"].strip() == points


def test_a_policy_that_does_not_fit_becomes_one_cycle_with_a_note(run: Command) -> None:
    code, out, _ = run("plan", "record.json", "--epochs", "2", "--policy", "triangular")
    assert code == 0
    assert "note 1" in out
    assert "One-cycle instead of triangular: three cycles" in out
