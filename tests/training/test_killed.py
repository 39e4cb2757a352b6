"""A run killed twenty times is bit for bit the run that never was: a real SIGKILL of a process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cyclr.training.run import read_metrics

KILLS = 20
STEPS = 480


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Train once undisturbed and once killed; gives the folder and the moments of the kills."""
    folder = tmp_path_factory.mktemp("lives")
    script = Path(__file__).parent / "lives.py"
    command = [sys.executable, str(script), str(folder), str(KILLS), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def _state(folder: Path) -> dict[str, Any]:
    last = folder / "checkpoints" / f"step-{STEPS:08d}"
    return torch.load(last / "state.pt", weights_only=True)


def _assert_equal(one: Any, two: Any, where: str = "state") -> None:
    """Compare nested plain data and tensors, bit for bit."""
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype, where
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            _assert_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(two), where
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            _assert_equal(a, b, f"{where}[{i}]")
    else:
        assert one == two, where


def test_the_kills_came_where_they_were_to_come(killed: tuple[Path, list[str]]) -> None:
    folder, moments = killed
    assert len(moments) == KILLS
    assert moments.count("while writing") >= 5
    assert moments.count("between") >= 5
    lives = json.loads((folder / "cut" / "environment.json").read_text())["resumed"]
    steps = [life["step"] for life in lives]
    # The first kills may come before the folder is there; then that life begins the run.
    assert KILLS - 2 <= len(steps) <= KILLS
    assert steps == sorted(steps)
    assert steps[-1] > STEPS // 3


def test_weights_and_their_average_are_bit_identical(killed: tuple[Path, list[str]]) -> None:
    folder, _ = killed
    for name in ("model.safetensors", "ema.safetensors"):
        whole, cut = (
            load_file(str(folder / run / "checkpoints" / f"step-{STEPS:08d}" / name))
            for run in ("whole", "cut")
        )
        _assert_equal(cut, whole, name)
        assert len(whole) > 5


def test_optimizer_generators_data_and_everything_else_are_bit_identical(
    killed: tuple[Path, list[str]],
) -> None:
    folder, _ = killed
    whole, cut = _state(folder / "whole"), _state(folder / "cut")
    assert {"optimizer", "scheduler", "judge", "probes", "processes"} <= whole.keys()
    _assert_equal(cut, whole)


def test_the_log_is_identical_without_gaps_or_repeats(killed: tuple[Path, list[str]]) -> None:
    folder, _ = killed
    whole, cut = ((folder / run / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
    assert cut == whole
    lines = read_metrics(folder / "cut")
    assert [line["step"] for line in lines if "loss" in line] == list(range(STEPS))
    assert sum("optimal_lr" in line for line in lines) == STEPS // 5


def test_the_summary_is_the_same_and_nothing_is_left_over(killed: tuple[Path, list[str]]) -> None:
    folder, _ = killed
    whole, cut = (json.loads((folder / run / "run.json").read_text()) for run in ("whole", "cut"))
    assert whole.pop("folder") != cut.pop("folder")
    assert cut == whole
    kept = [
        sorted(p.name for p in (folder / run / "checkpoints").iterdir()) for run in ("whole", "cut")
    ]
    assert kept[0] == kept[1]
    assert all(name.startswith("step-") for name in kept[1])
