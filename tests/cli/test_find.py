"""``cyclr find``: a range test on a real task."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cyclr import ExponentialSweep, LinearSweep, RangeRecord, RangeTest
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
    assert lines["rule"] == "edge"
    assert lines["outcome"].startswith("diverged: ")
    assert "range test" in err
    assert "record saved to r.json\npicture saved to r.png\n" in err
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    record = RangeRecord.load(tmp_path / "r.json")
    assert record.scout.lr[0] == 1e-7
    assert record.lr == pytest.approx(record.sweep(np.arange(len(record))))
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


def test_without_a_range_it_finds_its_own_and_says_how_sure_it_is(run: Command) -> None:
    code, out, _ = run("find", "own.py:small")
    assert code == 0
    names = [line.split(None, 1)[0] for line in out.splitlines()]
    assert names[:4] == ["base_lr", "max_lr", "interval", "rule"]
    assert "80 %, from its noise" in out


def test_updates_are_made_as_the_training_will_make_them(run: Command) -> None:
    plain = ("find", "own.py:small", "--steps", "40", "--json")
    records = []
    ways = ((), ("--max-grad-norm", "1e-3"), ("--accumulate", "2"), ("--precision", "bf16"))
    for options in ways:
        code, out, _ = run(*plain, *options)
        assert code == 0
        records.append(RangeRecord.from_dict(json.loads(out)["record"]))
    assert len({record.loss[:5] for record in records}) == 4
    assert records[1].optimizer["max_grad_norm"] == 1e-3
    assert records[2].optimizer["accumulate"] == 2
    # Gradients a thousandth as long take rates that are higher by about as much.
    assert records[1].read().max_lr > 30 * records[0].read().max_lr


def test_an_update_s_settings_are_checked(run: Command) -> None:
    code, out, err = run("find", "own.py:small", "--max-grad-norm", "0")
    assert (code, out) == (2, "")
    assert "max_grad_norm must be a finite real number > 0 or None, got 0.0" in err


def test_repeats_give_the_median_and_an_interval(run: Command, tmp_path: Path) -> None:
    code, out, _ = run("find", "own.py:small", "--steps", "40", "--repeats", "3", "--out", "r.json")
    assert code == 0
    assert "(lowest and highest of 3 sweeps)" in out
    record = RangeRecord.load(tmp_path / "r.json")
    assert len(record.sweeps) == 3
    found = sorted(sweep.read().max_lr for sweep in record.sweeps)
    assert f"max_lr {found[0]:.3g} to {found[2]:.3g}" in out
    assert record.read().max_lr == pytest.approx(found[1])
    assert record.optimizer == {"name": "SGD", "momentum": 0.9, "weight_decay": 0.0}


def test_a_start_alone_leaves_the_end_to_the_test(run: Command) -> None:
    code, out, _ = run("find", "own.py:small", "--start-lr", "0.001", "--steps", "50", "--json")
    assert code == 0
    record = RangeRecord.from_dict(json.loads(out)["record"])
    assert record.lr[0] == pytest.approx(0.001)
    assert record.lr[1] / record.lr[0] == pytest.approx(10 ** (8 / 49))


def test_another_metric_can_be_read(run: Command) -> None:
    code, out, _ = run("find", "own.py:small", "--metric", "val_loss", "--json")
    assert code == 0
    found = json.loads(out)
    record = RangeRecord.from_dict(found.pop("record"))
    assert found["metric"] == "val_loss"
    assert found == record.read(metric="val_loss").to_dict()


def test_a_record_is_saved_before_it_is_read(run: Command, tmp_path: Path) -> None:
    arguments = ["--rule", "slide", "--steps", "12", "--end-lr", "1", "--out", "r.json"]
    code, out, err = run("find", "own.py:small", *arguments)
    assert (code, out) == (2, "")
    assert "record saved to r.json" in err
    assert len(RangeRecord.load(tmp_path / "r.json")) > 5


def test_a_record_is_not_replaced_unless_one_says_so(run: Command, tmp_path: Path) -> None:
    arguments = ["find", "own.py:small", "--steps", "20", "--out", "r.json"]
    assert run(*arguments)[0] == 0
    before = (tmp_path / "r.json").read_bytes()
    code, _, err = run(*arguments, "--seed", "1")
    assert code == 2
    assert "r.json is there already; name another file, or replace it by --force" in err
    assert (tmp_path / "r.json").read_bytes() == before
    assert run(*arguments, "--seed", "1", "--force")[0] == 0
    assert (tmp_path / "r.json").read_bytes() != before


def test_a_metric_that_the_task_does_not_give_is_refused_at_once(run: Command) -> None:
    code, _, err = run("find", "own.py:small", "--metric", "val_los")
    assert code == 2
    assert err.rstrip().endswith(
        "the task gives no metric 'val_los'; it gives val_accuracy, val_loss"
    )
    code, _, err = run("find", "own.py:small", "--metric", "val_loss", "--rule", "accuracy")
    assert code == 2
    assert "--rule accuracy reads an accuracy, and --metric is val_loss" in err


def test_an_interrupted_sweep_keeps_what_it_has_seen(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(_show: object, _repeats: int) -> Callable[[RangeTest], None]:
        def watch(test: RangeTest) -> None:
            if test.step == 7:
                raise KeyboardInterrupt

        return watch

    monkeypatch.setattr("cyclr.cli.find.watch_sweep", stopping)
    code, _, err = run("find", "own.py:small", "--out", "r.json")
    assert code == 130
    assert "interrupted after 7 updates; their record is saved to r.json" in err
    record = RangeRecord.load(tmp_path / "r.json")
    assert (len(record), record.outcome.value) == (7, "interrupted")


def test_a_metric_is_measured_as_often_as_one_says(run: Command) -> None:
    code, out, _ = run("find", "own.py:small", "--validate-every", "2", "--json")
    assert code == 0
    record = RangeRecord.from_dict(json.loads(out)["record"])
    assert record.metrics["val_loss"].steps[:3] == (0, 2, 4)


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
