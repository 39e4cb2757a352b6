"""``cyclr find``: a range test on a real task."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cyclr import ExponentialSweep, LinearSweep, RangeRecord
from cyclr.cli import main

Command = Callable[..., tuple[int, str, str]]
TASK = """
import torch
from torch import nn
from cyclr import Task
from cyclr.experiments.data import digits

def small(folder=None):
    (inputs, targets), (held, held_targets) = digits()
    return Task(
        name="small",
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        train=(inputs[:512], targets[:512]),
        validation=(held, held_targets),
        loss_fn=nn.functional.cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        batch_size=64,
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


def test_the_digits_have_sensible_bounds(run: Command, tmp_path: Path) -> None:
    code, out, err = run("find", "digits", "--steps", "60", "--out", "r.json", "--plot", "r.png")
    assert code == 0
    lines = dict(line.split(None, 1) for line in out.splitlines())
    assert 1e-3 < float(lines["base_lr"]) < float(lines["max_lr"]) < 1.0
    assert lines["rule"] == "knee"
    assert lines["outcome"].startswith("diverged: ")
    assert "range test" in err
    assert "record saved to r.json\npicture saved to r.png\n" in err
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    record = RangeRecord.load(tmp_path / "r.json")
    assert record.sweep == ExponentialSweep(start_lr=1e-7, end_lr=10.0, steps=60)
    assert record.steps_per_epoch == 22
    assert f"{record.read().max_lr:.4g}" == lines["max_lr"]


def test_json_holds_reading_and_record(run: Command) -> None:
    code, out, _ = run("find", "own.py:small", "--steps", "30", "--json")
    assert code == 0
    found = json.loads(out)
    reading = RangeRecord.from_dict(found.pop("record")).read()
    assert found == reading.to_dict()


def test_the_same_seed_finds_the_same_and_another_something_else(run: Command) -> None:
    found = [
        run("find", "own.py:small", "--steps", "30", "--json", "--seed", seed)[1] for seed in "334"
    ]
    assert found[0] == found[1] != found[2]


def test_a_range_of_ones_own(run: Command) -> None:
    options = ("--start-lr", "0.001", "--end-lr", "0.5", "--steps", "30", "--json")
    code, out, _ = run("find", "own.py:small", *options)
    assert code == 0
    record = RangeRecord.from_dict(json.loads(out)["record"])
    assert record.lr[0] == pytest.approx(0.001)
    assert record.sweep == ExponentialSweep(start_lr=0.001, end_lr=0.5, steps=30)


def test_a_linear_sweep_measures_accuracy(run: Command, tmp_path: Path) -> None:
    options = ("--linear", "--steps", "40", "--end-lr", "0.1", "--plot", "x.png", "--json")
    code, out, _ = run("find", "own.py:small", *options)
    assert code == 0
    found = json.loads(out)
    assert found["rule"] == "accuracy"
    record = RangeRecord.from_dict(found["record"])
    assert record.sweep == LinearSweep(start_lr=0.0, end_lr=0.1, steps=40)
    assert sorted(record.metrics) == ["val_accuracy", "val_loss"]
    assert max(record.metrics["val_accuracy"].values) > 0.7
    assert (tmp_path / "x.png").exists()


def test_a_module_beside_the_command_and_its_source(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, out, _ = run("find", "own:small", "--data-dir", "x", "--steps", "20", "--json")
    monkeypatch.delitem(sys.modules, "own")
    assert code == 0
    assert json.loads(out)["record"]["steps_per_epoch"] == 8
