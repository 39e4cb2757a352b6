"""``cyclr tune``: the plan first, live progress, a table, a recipe that ``cyclr fit`` runs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cyclr import Recipe
from cyclr.cli.app import app
from cyclr.errors import InputError, SpecError
from tuning.tasks import write_source

QUICK = ("--budget", "1100", "--weight-decay", "1e-2", "--momentum", ".95")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty folder with a task in it."""
    write_source(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def _tune(*arguments: str) -> Any:
    return _run("tune", "own.py:small", *arguments)


def test_the_plan_with_its_cost_and_nothing_else(here: Path) -> None:
    result = _tune("--plan", "--budget", "1000")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["stage", "trials", "updates", "each", "updates", "about"]
    together = next(line for line in lines if line[0] == "together")
    assert int(together[2].replace(",", "")) <= 1000
    assert not (here / "tunes").exists()
    plan = json.loads(_tune("--plan", "--budget", "1000", "--json").stdout)
    assert plan["budget"] == 1000 - 12
    trials = sum(s["trials"] for s in plan["stages"])
    added = sum(s["trials"] * s["updates"] for s in plan["stages"])  # each in whole numbers
    assert abs(added - plan["updates"]) <= trials / 2


def test_a_tune_and_the_training_by_its_recipe(here: Path) -> None:
    result = _tune(*QUICK, "--out", "tuned")
    assert result.exit_code == 0
    assert re.search(r"^\| own settings \| 0\.0005 ", result.stdout, re.M)
    assert "**chosen**" in result.stdout
    assert result.stdout.splitlines()[-1] == "recipe  tuned/recipe.json"
    said = result.stderr.splitlines()
    assert said[0].split()[0] == "stage"  # the plan comes before anything
    assert any(line.startswith("weight decay: weight decay 0.01, momentum ") for line in said)
    fitted = _run("fit", "own.py:small", "--recipe", "tuned/recipe.json", "--out", "run", "--json")
    assert fitted.exit_code == 0
    run = json.loads(fitted.stdout)
    assert Recipe.from_dict(run["recipe"]) == Recipe.load("tuned/recipe.json")
    assert run["metrics"]["val_accuracy"] > 0.88


def test_a_tune_s_folder_can_be_shown(here: Path) -> None:
    table = _tune(*QUICK, "--out", "tuned").stdout
    shown = _run("show", "tuned").stdout
    assert [line for line in table.splitlines() if line in shown] == table.splitlines()
    assert json.loads(_run("show", "tuned", "--json").stdout)["words"] in table
    with pytest.raises(InputError, match="of which there is no picture"):
        _run("show", "tuned", "--plot", "x.png")
    Path("tuned/result.json").unlink()
    with pytest.raises(InputError, match="has not finished; go on with it by cyclr tune"):
        _run("show", "tuned")


def test_a_stage_s_name_is_checked(here: Path) -> None:
    with pytest.raises(SpecError, match=r"--only must be one of .*'weight-decay', 'rate'"):
        _tune("--only", "learning-rate")


def test_the_same_command_goes_on(here: Path) -> None:
    first = _tune(*QUICK, "--out", "tuned", "--json")
    again = _tune(*QUICK, "--out", "tuned", "--json")
    assert json.loads(again.stdout) == json.loads(first.stdout)
    assert again.stderr.count(" (read)") == len(json.loads(first.stdout)["trials"])
    with pytest.raises(InputError, match="a tune with budget '1100', and this one has '1200'"):
        _tune("--budget", "1200", *QUICK[2:], "--out", "tuned")


def test_stages_grids_and_seeds_can_be_chosen(here: Path) -> None:
    options = ("--only", "weight-decay", "--weight-decay", "deep", "--seed", "3", "--epochs", "20")
    data = json.loads(_tune(*options, "--budget", "8run", "--json").stdout)
    assert {t["trial"]["weight_decay"] for t in data["trials"]} >= {1e-3, 1e-4, 1e-5, 0.0, 5e-4}
    assert {t["trial"]["seed"] for t in data["trials"]} == {3, 4}
    assert data["recipe"]["total_steps"] == 160
    assert data["folder"].startswith("tunes/small-")
    assert data["updates"] <= 8 * 160


def test_batch_sizes_from_the_command_line_end_in_a_fit_at_that_size(here: Path) -> None:
    options = ("--only", "batch-size", "--batch-size", "32,128", "--budget", "900")
    data = json.loads(_tune(*options, "--out", "tuned", "--json").stdout)
    size = data["recipe"]["batch_size"]["value"]
    fitted = _run("fit", "own.py:small", "--recipe", "tuned/recipe.json", "--out", "run", "--json")
    assert json.loads(fitted.stdout)["recipe"]["steps_per_epoch"] == 512 // int(size)


def test_trials_start_from_a_run(here: Path) -> None:
    assert _run("fit", "own.py:small", "--epochs", "3", "--out", "run").exit_code == 0
    options = ("--from", "run", "--only", "rate", "--budget", "400", "--json")
    data = json.loads(_tune(*options).stdout)
    assert all(t["trial"]["start"].endswith("model.safetensors") for t in data["trials"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weight-decay", "much"), "--weight-decay must be numbers and commas, got 'much'"),
        (("--momentum", ".9,fast"), r"--momentum must be numbers \(or cyclical\) and commas"),
        (("--batch-size", "1.5"), "--batch-size must be whole numbers and commas"),
        (("--only", "speed"), "--only must be one of"),
        (("--budget", "soon"), "budget must be updates"),
        (("--budget", "10"), "budget must be at least"),
        (("--policy", "up"), "--policy must be one of"),
        (("--from", "none"), "cannot start from none"),
        (("--study", "x"), "study names a study in a storage"),
        (("--jobs", "2", "--ray", "auto"), "pass either ray or jobs"),
    ],
)
def test_bad_options_are_named_before_anything_runs(
    here: Path, options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _tune(*options, "--out", "tuned")
    assert not (here / "tuned").exists()


def test_a_refused_budget_leaves_the_folder_free_for_a_better_one(here: Path) -> None:
    with pytest.raises(InputError, match="budget must be at least"):
        _tune("--budget", "10", *QUICK[2:], "--out", "tuned")
    assert _tune(*QUICK, "--out", "tuned").exit_code == 0


def test_ctrl_c_keeps_finished_trials_and_exits_with_130(here: Path) -> None:
    command = [sys.executable, "-m", "cyclr", "tune", "own.py:small", *QUICK, "--out", "tuned"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((here / "tuned").glob("trials/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert re.search(
        r"stopped by Ctrl-C; \d+ finished trials? kept in tuned; the same with --out tuned", said
    )
    kept = len(list((here / "tuned/trials").iterdir()))
    again = _tune(*QUICK, "--out", "tuned")
    assert again.exit_code == 0
    assert again.stderr.count(" (read)") == kept


def test_help_names_every_stage() -> None:
    shown = re.sub(r"[│\s]+", " ", _run("tune", "--help").stdout)
    for word in ("batch-size", "weight-decay", "momentum", "rate", "--plan", "--ray", "--storage"):
        assert word in shown
