"""``cyclr show``: drawn, saved or as numbers."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cyclr import OneCycle, Opposite, Recipe, Triangular, from_json
from cyclr.cli import main

Command = Callable[..., tuple[int, str, str]]
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
