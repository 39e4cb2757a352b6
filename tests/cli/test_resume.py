"""``cyclr fit`` that goes on: resumed, extended, refused; and ``cyclr show`` of what it left."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cyclr import ExponentialSweep, Outcome, RangeRecord, Recipe, Triangular
from cyclr.cli import main
from cyclr.training import fit
from cyclr.training.run import read_metrics

Command = Callable[..., tuple[int, str, str]]
TASK = """
import os
import torch
from torch import nn
from cyclr import Task

calls = []

def task():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(128, 8, generator=generator)
    targets = (inputs.sum(1) > 0).long()

    def loss_fn(outputs, targets):
        if outputs.requires_grad:
            calls.append(1)
            if len(calls) == int(os.environ.get("CRASH_AT", "0")):
                raise LookupError("the power is gone")
        return nn.functional.cross_entropy(outputs, targets)

    return Task(
        name="own",
        model=lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1), nn.Linear(8, 2)),
        train=(inputs, targets),
        validation=(inputs, targets),
        loss_fn=loss_fn,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        batch_size=16,
        epochs=6,
    )

def other():
    return task()
"""
RECIPE = Recipe(
    lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=8, cycles=3), total_steps=48, steps_per_epoch=8
)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run the command in a folder with a task and a recipe; gives exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(TASK)
    RECIPE.save(tmp_path / "recipe.json")

    def call(*argv: str, crash_at: int = 0) -> tuple[int, str, str]:
        monkeypatch.setenv("CRASH_AT", str(crash_at))
        sys.modules.pop("cyclr_task_own", None)
        monkeypatch.setattr(sys, "argv", ["cyclr", *argv])
        with pytest.raises(SystemExit) as caught:
            main()
        return (int(caught.value.code or 0), *capsys.readouterr())

    return call


BEGIN = ("fit", "own.py:task", "--recipe", "recipe.json", "--seed", "3")


@pytest.fixture
def cut(run: Command, tmp_path: Path) -> Path:
    """A run that its own code cut off, and one that it did not."""
    code, _, err = run(*BEGIN, "--out", "cut", "--checkpoint-every", "1ep", crash_at=30)
    assert (code, "LookupError: the power is gone" in err) == (1, True)
    assert run(*BEGIN, "--out", "whole")[0] == 0
    return tmp_path / "cut"


def test_it_goes_on_from_anywhere_and_comes_to_the_same(
    run: Command, cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    code, out, err = run("fit", "--resume", "../cut", "--json")
    assert code == 0, err
    assert "going on from ../cut/checkpoints/step-00000024" in err
    assert json.loads(out)["steps"] == 48
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("cut", "whole")]
    assert logs[0] == logs[1]
    models = [
        (tmp_path / name / "checkpoints/step-00000048/model.safetensors").read_bytes()
        for name in ("cut", "whole")
    ]
    assert models[0] == models[1]
    assert (cut / "plot.png").exists()


def test_a_finished_run_prints_its_result_again(run: Command, cut: Path) -> None:
    assert run("fit", "--resume", "cut")[0] == 0
    before = (cut / "metrics.jsonl").read_bytes()
    code, out, _ = run("fit", "--resume", "cut", "own.py:task", "--seed", "3")
    assert code == 0
    assert "completed" in out
    assert (cut / "metrics.jsonl").read_bytes() == before


def test_cycles_are_added(run: Command, tmp_path: Path) -> None:
    assert run(*BEGIN, "--out", "one")[0] == 0
    code, out, _ = run("fit", "--resume", "one", "--extend", "2", "--json")
    assert code == 0
    summary = json.loads(out)
    assert (summary["steps"], summary["extensions"]) == (80, 1)
    steps = [line["step"] for line in read_metrics(tmp_path / "one") if "loss" in line]
    assert steps == list(range(80))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("own.py:other",), "was begun with TASK "),
        (("--seed", "4"), "cut was trained with seed 3, and this is seed 4"),
        (("--accumulate", "2"), "other settings: accumulate was 1 and is now 2"),
        (("--recipe", "other.json"), "cut was trained by another recipe: lr was "),
        (("--epochs", "3"), "a run goes on with its own recipe; leave out --epochs, --policy"),
        (("--out", "x"), "a run goes on in its own folder; leave out --out with --resume"),
        (("--extend", "1"), "cut has not finished yet, and cycles are added at the end"),
    ],
    ids=["task", "seed", "setting", "recipe", "epochs", "out", "extend"],
)
def test_another_request_is_refused(
    run: Command, cut: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    RECIPE.replace(lr=Triangular(base_lr=0.01, max_lr=0.2, stepsize=8, cycles=3)).save(
        tmp_path / "other.json"
    )
    before = {p.name: p.stat().st_mtime_ns for p in cut.iterdir()}
    code, out, err = run("fit", *options, "--resume", "cut")
    assert (code, out) == (2, "")
    assert words in err
    assert {p.name: p.stat().st_mtime_ns for p in cut.iterdir()} == before


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("fit",), "there is nothing to train; name a TASK, or a run with --resume RUN"),
        (("fit", "own.py:task", "--extend", "1"), "--extend adds cycles to a finished run; name"),
        (("fit", "--resume", "nothing"), "nothing is not the folder of a run that can be gone on"),
        (
            (*BEGIN, "--checkpoint-every", "soonmin"),
            "--checkpoint-every must be minutes such as \"10min\", got 'soonmin'",
        ),
        ((*BEGIN, "--validate-every", "0"), "--validate-every must be at least one step, got '0'"),
        ((*BEGIN, "--tracker", "paper"), "tracker must be one of "),
        ((*BEGIN, "--on-plateau", "cry"), "on_plateau must be one of 'go-on', 'lower', 'stop'"),
    ],
)
def test_a_bad_request_is_refused_in_a_sentence(
    run: Command, tmp_path: Path, argv: tuple[str, ...], words: str
) -> None:
    code, out, err = run(*argv)
    assert (code, out) == (2, "")
    assert words in err
    assert not (tmp_path / "runs").exists()


def test_every_option_reaches_the_training(run: Command, tmp_path: Path) -> None:
    options = ["--accumulate", "2", "--max-grad-norm", "1", "--ema", "0.9", "--keep", "1"]
    options += ["--validate-every", "1ep", "--checkpoint-every", "0.5min", "--probe-every", "0"]
    options += ["--channels-last", "--snapshots", "--on-plateau", "stop", "--precision", "bf16"]
    code, out, err = run(*BEGIN, "--out", "one", *options)
    assert code == 0, err
    settings = json.loads((tmp_path / "one" / "environment.json").read_text())["settings"]
    assert {
        "accumulate": 2,
        "max_grad_norm": 1.0,
        "ema_decay": 0.9,
        "keep": 1,
        "validate_every": 4,  # an epoch of eight batches is four updates
        "checkpoint_minutes": 0.5,
        "probe_every": None,
        "channels_last": True,
        "snapshots": True,
        "on_plateau": "stop",
        "mixed_precision": "bf16",
    }.items() <= settings.items()
    assert "ensemble of 3" in out
    assert "averaged of 3" in out
    shown = dict(line.split(None, 1) for line in out.splitlines())
    assert shown["recommended"].startswith("one/checkpoints/step-000000")


def test_a_recipe_of_ones_own_is_run_as_it_stands_and_a_planned_one_is_judged(
    run: Command, tmp_path: Path
) -> None:
    assert run(*BEGIN, "--out", "given")[0] == 0
    options = ("--policy", "triangular", "--epochs", "12", "--out", "planned")
    assert run("fit", "own.py:task", *options)[0] == 0
    found = [
        json.loads((tmp_path / n / "environment.json").read_text())["settings"]["on_plateau"]
        for n in ("given", "planned")
    ]
    assert found == ["go-on", "lower"]


def test_a_run_is_shown(run: Command, cut: Path) -> None:
    for folder in ("whole", "cut"):  # finished, and not
        code, out, err = run("show", folder, "--plot", f"{folder}.png")
        assert (code, err) == (0, f"picture saved to {folder}.png\n")
        names = [line for line in out.splitlines() if line[:1].isalpha()]
        assert names[0] in ("loss", "log10 of the loss")
        assert names[1:] == ["val_accuracy", "lr"]
        assert Path(f"{folder}.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run("show", "whole")
    assert out.splitlines()[-2].count("▲") == 3  # a cycle's end each
    assert out.splitlines()[-1].endswith("47 steps")
    code, out, _ = run("show", "whole", "--json")
    assert json.loads(out) == read_metrics("whole")
    shutil.rmtree(cut / "checkpoints")
    (cut / "metrics.jsonl").write_text("")
    code, out, err = run("show", "cut")
    assert (code, out) == (2, "")
    assert "cut holds no training yet" in err


def test_a_record_is_shown(run: Command, tmp_path: Path) -> None:
    sweep = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=60)
    lr = [sweep(k) for k in range(60)]
    loss = [2.0 - 1.5 * min(1, k / 40) + (0.2 * (k - 50) ** 2 if k > 50 else 0) for k in range(60)]
    record = RangeRecord(sweep=sweep, lr=tuple(lr), loss=tuple(loss), outcome=Outcome.COMPLETED)
    record.save(tmp_path / "record.json")
    code, out, err = run("show", "record.json", "--plot", "x.png")
    assert (code, err) == (0, "picture saved to x.png\n")
    lines = out.splitlines()
    assert lines[0] == "loss"
    assert lines[11].count("▲") == 2
    assert lines[12].split() == ["0.0001", "1", "(lr,", "log)"]
    assert lines[13].startswith("base_lr")
    code, out, _ = run("show", "record.json", "--json")
    assert json.loads(out)["reading"]["max_lr"] == pytest.approx(record.read().max_lr)


def test_a_run_from_python_is_refused_with_what_to_do(run: Command, tmp_path: Path) -> None:
    net = torch.nn.Linear(4, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batches = [(torch.zeros(8, 4), torch.zeros(8, dtype=torch.long))]
    recipe = Recipe(lr=Triangular(base_lr=0.01, max_lr=0.1, stepsize=2), total_steps=4)
    loss_fn = torch.nn.functional.cross_entropy
    fit(net, optimizer, batches, loss_fn, recipe, folder=tmp_path / "py")
    for options in ((), ("own.py:task",), ("--seed", "3")):
        code, out, err = run("fit", "--resume", "py", *options)
        assert (code, out) == (2, "")
        assert "py was begun from Python, and what it trains is known there only; make the" in err
        assert "same call again with resume=True" in " ".join(err.split())
