"""``cyclr fit``: from a task's name to a finished run, once for real and in variations."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_model

from cyclr import RangeRecord, Reading, Recipe, Triangular
from cyclr.cli import main
from cyclr.cli.budget import check_room, density
from cyclr.errors import InputError
from cyclr.experiments.tasks import load_task
from cyclr.rangetest.confirm import left, settle
from cyclr.rangetest.course import longest
from cyclr.training.run import read_metrics

Command = Callable[..., tuple[int, str, str]]
TASK = """
import torch
from torch import nn
from cyclr import Task
from cyclr.experiments.data import digits

def small():
    (inputs, targets), (held, held_targets) = digits()
    return Task(
        name="small",
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        train=(inputs[:512], targets[:512]),
        validation=(held, held_targets),
        loss_fn=nn.functional.cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        batch_size=64,
        epochs=6,
        prepare=lambda images: images.float() / 8 - 1,
    )
"""


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
def _task(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(TASK)


class Finished(NamedTuple):
    """A run of the real command."""

    folder: Path
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run ``cyclr fit digits`` with nothing but defaults, as a process of its own."""
    here = tmp_path_factory.mktemp("digits")
    command = [sys.executable, "-m", "cyclr", "fit", "digits", "--json"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder,) = (here / "runs").iterdir()
    return Finished(folder, done.stdout, done.stderr)


def test_digits_are_learned(digits: Finished) -> None:
    summary = json.loads(digits.stdout)
    assert summary["metrics"]["val_accuracy"] >= 0.97
    assert summary["steps"] == 30 * 22
    assert summary["outcome"].startswith("completed")


def test_the_talk_is_on_stderr_and_holds_no_warning(digits: Finished) -> None:
    assert "range test: diverged after " in digits.stderr
    assert re.search(r"step 660: val_loss [\d.e-]+  val_accuracy 0\.9", digits.stderr)
    assert "Warning" not in digits.stderr


def test_the_run_folder_is_named_after_the_task_and_complete(digits: Finished) -> None:
    assert re.fullmatch(r"digits-\d{8}-\d{6}", digits.folder.name)
    names = sorted(
        path.relative_to(digits.folder).as_posix()
        for path in digits.folder.rglob("*")
        if path.is_file()
    )
    assert names == [
        *(
            f"checkpoints/step-00000{step}/{name}"
            for step in (594, 660)
            for name in ("checkpoint.json", "model.safetensors", "state.pt")
        ),
        "environment.json",
        "metrics.jsonl",
        "plot.png",
        "range_test.png",
        "reading.json",
        "recipe.json",
        "record.json",
        "run.json",
    ]
    for name in ("plot.png", "range_test.png"):
        assert (digits.folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_files_agree_with_each_other_and_with_stdout(digits: Finished) -> None:
    summary = json.loads(digits.stdout)
    recipe = Recipe.load(digits.folder / "recipe.json")
    record = RangeRecord.load(digits.folder / "record.json")
    assert summary["recipe"] == recipe.to_dict()
    assert summary["reading"] == record.read().to_dict()
    lines = read_metrics(digits.folder)
    at_best = [m for m in lines if m["step"] == summary["best"]["step"] and "val_loss" in m]
    assert summary["best_metrics"]["val_loss"] == at_best[0]["val_loss"]
    assert summary["reading"] == json.loads((digits.folder / "reading.json").read_text())
    rates = [line["lr"] for line in lines if "loss" in line]
    assert rates == pytest.approx([recipe.lr(k) for k in range(660)], rel=1e-12)
    stops = [line["step"] for line in lines if line.get("stopping_point")]
    assert tuple(stops) == recipe.stopping_points == (594, 660)
    facts = json.loads((digits.folder / "environment.json").read_text())
    assert (facts["task"], facts["seed"]) == ("digits", 0)
    assert facts["command"][1:] == ["fit", "digits", "--json"]
    finished = json.loads((digits.folder / "run.json").read_text())
    assert finished["metrics"] == summary["metrics"]


def test_the_checkpoint_is_the_model_that_was_measured(digits: Finished) -> None:
    task = load_task("digits")
    assert task.prepare is not None
    model = task.model()
    last = digits.folder / "checkpoints" / "step-00000660"
    load_model(model, str(last / "model.safetensors"))
    inputs, targets = task.validation
    with torch.no_grad():
        right = model.eval()(task.prepare(inputs)).argmax(1) == targets
    measured = json.loads(digits.stdout)["metrics"]["val_accuracy"]
    assert float(right.float().mean()) == pytest.approx(measured)
    state = torch.load(last / "state.pt", weights_only=True)
    assert state["scheduler"]["last_epoch"] == 660


def test_the_result_for_people(run: Command) -> None:
    code, out, err = run("fit", "own.py:small", "--out", "one")
    assert code == 0
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert lines["steps"] == "48"
    assert float(lines["val_accuracy"]) > 0.8
    assert lines["folder"] == "one"
    assert lines["ended"].startswith("completed")
    assert lines["interval"].startswith("base_lr ")
    assert "training" in err


def test_the_best_is_given_with_what_it_reached(run: Command) -> None:
    options = ("--out", "one", "--validate-every", "1ep", "--epochs", "8")
    out = run("fit", "own.py:small", *options)[1]
    (best,) = (line for line in out.splitlines() if line.startswith("best "))
    assert re.search(r"one/checkpoints/step-\d+  val_loss [\d.]+  val_accuracy 0\.\d+$", best)
    (fit,) = (line for line in out.splitlines() if line.startswith("fit "))
    assert "The validation loss " in fit


def test_a_recipe_for_epochs_of_another_length_is_remarked_on(run: Command, tmp_path: Path) -> None:
    lr = Triangular(base_lr=0.01, max_lr=0.1, stepsize=8, cycles=1)
    Recipe(lr=lr, total_steps=16, steps_per_epoch=32).save(tmp_path / "recipe.json")
    code, _, err = run("fit", "own.py:small", "--recipe", "recipe.json", "--out", "one")
    assert code == 0
    assert "made for 32 updates an epoch, and this training has 8: its 16 updates are 2 ep" in err
    assert "2 epochs, not 0.5" in err


def test_a_budget_too_small_to_confirm_is_refused_before_the_range_test(run: Command) -> None:
    code, out, err = run("fit", "own.py:small", "--confirm", "--out", "one")
    assert (code, out) == (2, "")
    # 90, because a sweep of 60 may go on for so long: nothing is refused after it
    assert (
        "total_steps must be ≥ 640 for a second sweep of 38 updates beside one of 90, got 48" in err
    )
    assert "a sweep of 60 may go on to 90. Give --epochs 94, or leave out --confirm" in err
    assert "range test:" not in err
    # There the sweep's steps have grown with the budget, and just fit.
    assert left(longest(density(94 * 8, None)), 94 * 8) >= 38
    with pytest.raises(InputError, match="Give --epochs 94"):
        check_room(93 * 8, 8, None)


def test_a_second_sweep_confirms_the_first(run: Command, tmp_path: Path) -> None:
    options = ("--confirm", "--epochs", "84", "--steps", "60", "--out", "one", "--json")
    code, out, err = run("fit", "own.py:small", *options)
    assert code == 0
    record = RangeRecord.load(tmp_path / "one" / "record.json")
    reading = Reading.load(tmp_path / "one" / "reading.json")
    first, updates = record.read(), len(reading.second)
    assert reading.rule == f"{first.rule} confirmed"
    assert reading.second.lr[0] == pytest.approx(first.max_lr / 10)
    assert settle(first, reading.second) == reading
    assert reading.updates == record.updates + updates <= 0.2 * 84 * 8
    assert f"second sweep: {updates} steps; max_lr {reading.max_lr:.3g}" in err
    summary = json.loads(out)
    assert summary["reading"] == reading.to_dict()
    assert Recipe.from_dict(summary["recipe"]).lr.max_lr == reading.max_lr


def test_epochs_policy_and_seed_are_followed(run: Command, tmp_path: Path) -> None:
    options = ("--epochs", "12", "--policy", "triangular", "--seed", "7", "--json", "--out", "one")
    code, out, _ = run("fit", "own.py:small", *options)
    assert code == 0
    recipe = Recipe.from_dict(json.loads(out)["recipe"])
    assert recipe.lr.kind == "triangular"
    assert json.loads(out)["steps"] == recipe.total_steps == recipe.lr.cycle_ends()[-1]
    assert len(list((tmp_path / "one" / "checkpoints").iterdir())) == len(recipe.stopping_points)
    facts = json.loads((tmp_path / "one" / "environment.json").read_text())
    assert facts["seed"] == 7


def test_a_recipe_is_run_without_a_range_test(run: Command, tmp_path: Path) -> None:
    recipe = Recipe(lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=8, cycles=1), total_steps=16)
    recipe.save(tmp_path / "recipe.json")
    options = ("--recipe", "recipe.json", "--out", "one", "--json")
    code, out, err = run("fit", "own.py:small", *options)
    assert code == 0
    summary = json.loads(out)
    assert summary["reading"] is None
    assert Recipe.from_dict(summary["recipe"]) == recipe
    assert "range test" not in err
    assert not (tmp_path / "one" / "record.json").exists()
    assert not (tmp_path / "one" / "range_test.png").exists()
    assert (tmp_path / "one" / "plot.png").exists()


def test_the_same_command_gives_the_same_numbers(run: Command, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("fit", "own.py:small", "--epochs", "3", "--out", name)[0] == 0
    one, two = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "two"))
    assert one == two
    assert len(one.splitlines()) > 24


def test_half_precision_runs(run: Command) -> None:
    options = ("--precision", "bf16", "--epochs", "6", "--out", "one", "--json")
    code, out, _ = run("fit", "own.py:small", *options)
    assert code == 0
    assert json.loads(out)["metrics"]["val_accuracy"] > 0.8


def test_two_runs_in_one_second_do_not_meet(run: Command, tmp_path: Path) -> None:
    recipe = Recipe(lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=2), total_steps=4)
    recipe.save(tmp_path / "recipe.json")
    for _ in range(2):
        assert run("fit", "own.py:small", "--recipe", "recipe.json")[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def _write_recipe(path: Path, **changes: object) -> None:
    lr = {"kind": "triangular", "base_lr": 0.01, "max_lr": 0.1, "stepsize": "1ep"}
    path.write_text(json.dumps({"cyclr_recipe": 1, "lr": lr, "total_steps": "4ep", **changes}))


def test_a_recipe_may_count_in_epochs(run: Command, tmp_path: Path) -> None:
    _write_recipe(tmp_path / "recipe.json")
    code, out, _ = run("fit", "own.py:small", "--recipe", "recipe.json", "--out", "one", "--json")
    assert code == 0
    recipe = Recipe.from_dict(json.loads(out)["recipe"])
    assert (recipe.total_steps, recipe.stopping_points) == (32, (16, 32))
    assert Recipe.load(tmp_path / "one" / "recipe.json") == recipe


def test_an_epoch_has_fewer_updates_when_batches_are_accumulated(run: Command) -> None:
    _write_recipe(Path("recipe.json"))
    options = ("--recipe", "recipe.json", "--accumulate", "2", "--json")
    assert json.loads(run("fit", "own.py:small", *options)[1])["steps"] == 16


def test_a_recipe_s_batch_size_is_trained_at_and_gone_on_with(run: Command, tmp_path: Path) -> None:
    _write_recipe(tmp_path / "recipe.json", batch_size={"kind": "constant", "value": 128})
    code, out, _ = run("fit", "own.py:small", "--recipe", "recipe.json", "--out", "one", "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 16  # four epochs of four batches
    code, out, _ = run("fit", "--resume", "one", "--extend", "1", "--json")
    assert code == 0
    assert json.loads(out)["steps"] == 24


def test_a_batch_size_that_changes_is_refused(run: Command, tmp_path: Path) -> None:
    sizes = {"kind": "linear_sweep", "start_lr": 32, "end_lr": 64, "steps": 32}
    _write_recipe(tmp_path / "recipe.json", batch_size=sizes)
    code, _, said = run("fit", "own.py:small", "--recipe", "recipe.json", "--out", "one")
    assert code == 2
    assert "recipe.batch_size must be a Constant, since a task is trained at one batch size" in said
    assert not (tmp_path / "one").exists()


def test_an_optimizer_with_a_closure_is_refused_before_the_range_test(
    run: Command, tmp_path: Path
) -> None:
    text = TASK.replace("SGD(params, lr=0.1, momentum=0.9)", "LBFGS(params)")
    (tmp_path / "own.py").write_text(text)
    code, out, err = run("fit", "own.py:small", "--out", "one")
    assert (code, out) == (2, "")
    assert "LBFGS evaluates the loss itself" in err
    assert "range test:" not in err
    assert not (tmp_path / "one").exists()
