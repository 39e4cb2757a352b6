"""``cyclr show``: drawn, saved or as numbers."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyclr import (
    ExponentialSweep,
    OneCycle,
    Opposite,
    RangeRecord,
    Recipe,
    Triangular,
    from_json,
)
from cyclr.cli import main
from cyclr.rangetest import Outcome
from cyclr.rangetest.record import Series

Command = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]
TRIANGLE = '{"kind": "triangular", "base_lr": 0.1, "max_lr": 1, "stepsize": 10}'
CYCLE = OneCycle(base_lr=0.1, max_lr=1.0, final_lr=0.001, total_steps=60)
RECIPE = Recipe(
    lr=CYCLE,
    momentum=Opposite(schedule=CYCLE, bottom=0.1, top=1.0, low=0.85, high=0.95),
    total_steps=60,
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


def test_json_on_the_command_line_gives_the_values(run: Command) -> None:
    code, out, err = run("show", TRIANGLE, "--steps", "25", "--json")
    assert (code, err) == (0, "")
    schedule = from_json(TRIANGLE)
    assert json.loads(out) == {"lr": pytest.approx([schedule(k) for k in range(25)])}


@pytest.fixture
def record(tmp_path: Path) -> RangeRecord:
    """Save a record with a loss below zero that explodes, and an accuracy, as r.json."""
    sweep = ExponentialSweep(start_lr=1e-5, end_lr=10.0, steps=60)
    loss = [-1.0 - 0.1 * max(0, k - 25) if k < 45 else 10.0 ** (k - 45) for k in range(60)]
    measured = Series(tuple(range(0, 60, 3)), tuple(0.1 + 0.02 * k for k in range(20)))
    made = RangeRecord(
        sweep=sweep,
        lr=tuple(sweep(k) for k in range(60)),
        loss=tuple(loss),
        metrics={"val_accuracy": measured},
        outcome=Outcome.COMPLETED,
    )
    made.save(tmp_path / "r.json")
    return made


def test_of_little_data_the_validation_loss_is_drawn_and_the_loss_on_request(
    run: Command, record: RangeRecord, tmp_path: Path
) -> None:
    steps = tuple(range(len(record)))
    held = {"val_loss": Series(steps, tuple(loss - 1 for loss in record.loss))}
    replace(record, metrics=held, steps_per_epoch=9).save(tmp_path / "few.json")
    for options, drawn in (((), "val_loss"), (("--metric", "loss"), "loss")):
        code, out, _ = run("show", "few.json", *options)
        assert code == 0
        assert out.splitlines()[0] == drawn
        of = ", of val_loss" if drawn == "val_loss" else ""
        assert f"basin{of}\n" in out


def test_a_record_is_read_by_the_rule_and_metric_one_names(
    run: Command, record: RangeRecord
) -> None:
    for options in ({}, {"rule": "decade"}, {"metric": "val_accuracy"}):
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        code, out, err = run("show", "r.json", *flags)
        assert (code, err) == (0, "")
        assert out.splitlines()[0] == options.get("metric", "loss")
        if "metric" in options:  # one that rises is not cut off at the top
            assert float(out.splitlines()[1].split()[0]) == pytest.approx(0.48)
        assert f"max_lr    {record.read(**options).max_lr:.4g}\n" in out


def test_a_loss_below_zero_is_drawn_with_its_explosion_cut_off(
    run: Command, record: RangeRecord
) -> None:
    _, out, _ = run("show", "r.json")
    top, bottom = (float(out.splitlines()[line].split()[0]) for line in (1, 10))
    assert bottom == pytest.approx(min(record.loss), abs=0.01)
    assert top == pytest.approx(-1.0 + (-1.0 - min(record.loss)), abs=0.01)


def test_what_a_record_does_not_hold_is_refused(run: Command, record: RangeRecord) -> None:
    code, out, err = run("show", "r.json", "--metric", "val_loss")
    assert (code, out) == (2, "")
    assert "metric must be one that the record holds (val_accuracy), got 'val_loss'" in err


def test_a_reading_is_shown_in_words(run: Command, record: RangeRecord, tmp_path: Path) -> None:
    reading = record.read()
    reading.save(tmp_path / "reading.json")
    code, out, _ = run("show", "reading.json")
    assert code == 0
    assert f"max_lr    {reading.max_lr:.4g}\n" in out
    assert "(as saved)" in out
    assert json.loads(run("show", "reading.json", "--json")[1]) == reading.to_dict()
    code, out, err = run("show", "reading.json", "--plot", "picture.png")
    assert (code, out) == (2, "")
    assert "draw the record.json beside it" in err


def test_a_finished_run_of_a_table_says_what_it_reached_when(run: Command, tmp_path: Path) -> None:
    path = ROOT / "papers/clr/results/table1/full/fixed-70k-seed0.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    code, out, _ = run("show", str(path))
    assert code == 0
    assert out.startswith(
        "clr-table1, tier full: fixed-70k, seed 0\n\naccuracy on the test set, %\n"
    )
    assert f"after 70,000  {100 * result['accuracy']:.2f} %\n" in out
    assert "and between   58 evaluations more, by --json\n" in out
    assert json.loads(run("show", str(path), "--json")[1]) == result
    assert run("show", str(path), "--plot", str(tmp_path / "run.png"))[0] == 0
    assert (tmp_path / "run.png").stat().st_size > 1000


def test_a_run_that_diverged_at_once_is_shown(run: Command, tmp_path: Path) -> None:
    path = ROOT / "papers/clr/results/table1/full/fixed-70k-seed0.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    result |= {"outcome": "diverged", "steps": 175}
    result["curve"] |= {"evaluations": [], "loss": [None]}
    (tmp_path / "run.json").write_text(json.dumps(result), encoding="utf-8")
    code, out, _ = run("show", str(tmp_path / "run.json"))
    assert code == 0
    assert "outcome  diverged after 175 updates\n" in out


def test_records_and_runs_are_shown_alone(
    run: Command, record: RangeRecord, tmp_path: Path
) -> None:
    record.save(tmp_path / "a.json")
    (tmp_path / "folder").mkdir()
    for alone in ("a.json", "folder"):
        code, _, err = run("show", TRIANGLE, alone)
        assert code == 2
        assert f"{alone} is no schedule or recipe, and is shown alone; name only it" in err


def test_rules_are_for_records(run: Command, record: RangeRecord, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(CYCLE.to_json())
    code, _, err = run("show", "spec.json", "--rule", "knee")
    assert code == 2
    assert "--rule and --metric read a range test's record, and spec.json is none" in err
    code, _, err = run("show", "r.json", "spec.json", "--rule", "knee")
    assert code == 2
    assert "name that alone" in err


def test_a_schedules_file_is_drawn_to_its_end(run: Command, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(CYCLE.to_json())
    code, out, err = run("show", "spec.json")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "lr"
    assert lines[1].split()[0] == "1"
    assert lines[10].split()[0] == "0.001"
    assert lines[-1].split() == ["0", "59", "steps"]


def test_a_recipe_shows_every_schedule(run: Command, tmp_path: Path) -> None:
    RECIPE.save(tmp_path / "recipe.json")
    code, out, _ = run("show", "recipe.json", "--json")
    assert code == 0
    values = json.loads(out)
    assert list(values) == ["lr", "momentum"]
    assert values["momentum"] == pytest.approx([RECIPE.values(k)["momentum"] for k in range(60)])
    code, out, _ = run("show", "recipe.json")
    assert [line for line in out.splitlines() if line.isalpha()] == ["lr", "momentum"]


def test_a_recipe_on_the_command_line_is_shown(run: Command) -> None:
    code, out, err = run("show", json.dumps(RECIPE.to_dict()), "--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)["momentum"]) == 60


def test_what_is_wrong_in_a_file_is_said_with_its_name(run: Command, tmp_path: Path) -> None:
    data = {**RECIPE.to_dict(), "lr": {**CYCLE.to_dict(), "max_lr": -1}}
    (tmp_path / "spec.json").write_text(json.dumps(data))
    code, _, err = run("show", "spec.json")
    assert (code, err.startswith("cyclr: spec.json: OneCycle.max_lr must be")) == (2, True)
    code, _, err = run("show", '{"kind": "constant", "kind": "triangular"}')
    assert (code, "the key 'kind' is given twice" in err) == (2, True)


def test_steps_cut_a_schedule_that_has_an_end(run: Command, tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(CYCLE.to_json())
    code, out, _ = run("show", "spec.json", "--steps", "5", "--json")
    assert code == 0
    assert json.loads(out)["lr"] == pytest.approx([CYCLE(k) for k in range(5)])


def test_a_picture_is_saved_and_said_on_stderr(run: Command, tmp_path: Path) -> None:
    code, out, err = run("show", TRIANGLE, "--steps", "40", "--plot", "x.png", "--json")
    assert (code, err) == (0, "picture saved to x.png\n")
    assert len(json.loads(out)["lr"]) == 40
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_schedule_without_an_end_needs_steps(run: Command) -> None:
    code, out, err = run("show", TRIANGLE)
    assert (code, out) == (2, "")
    assert err == "cyclr: this schedule never ends; say how much to draw with --steps\n"


def test_a_long_schedule_is_drawn_quickly(run: Command) -> None:
    lr = Triangular(base_lr=0.1, max_lr=1.0, stepsize=10**7)
    code, out, _ = run("show", lr.to_json(), "--steps", str(10**8))
    assert code == 0
    assert out.splitlines()[-1].endswith("99,999,999 steps")


def test_durations_need_an_epoch_s_length_or_the_run_s(run: Command) -> None:
    spec = '{"kind": "triangular", "base_lr": 0, "max_lr": 1, "stepsize": "2ep", "cycles": 1}'
    code, out, _ = run("show", spec, "--steps-per-epoch", "5", "--json")
    assert code == 0
    assert json.loads(out)["lr"][10] == 1.0
    code, out, err = run("show", spec)
    assert (code, out) == (2, "")
    assert "schedule.stepsize is '2ep'" in err
    assert "--steps-per-epoch on the command line" in err


def test_durations_in_a_recipe_and_shares_of_the_run(run: Command) -> None:
    data = {**RECIPE.to_dict(), "total_steps": "6ep"}
    data["lr"] = {"kind": "linear_sweep", "start_lr": 0, "end_lr": 1, "steps": "0.5run"}
    code, out, _ = run("show", json.dumps(data), "--steps-per-epoch", "10", "--json")
    assert code == 0
    assert json.loads(out)["lr"][28:31] == [pytest.approx(28 / 29), 1.0, 1.0]
    sweep = json.dumps(data["lr"])
    code, out, _ = run("show", sweep, "--total-steps", "40", "--json")
    assert code == 0
    assert len(json.loads(out)["lr"]) == 20
