"""Two real processes under torchrun: the same curve as one, and agreement on everything."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cyclr.errors import DataError
from cyclr.training.distributed import Processes
from cyclr.training.run import read_metrics

HERE = Path(__file__).parent


def _start(folder: Path, case: str, *, processes: int) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True)
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
        command += ["--standalone", "--master-port=0"]
    command += [str(HERE / "two.py"), str(folder), case]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _both(folder: Path, case: str) -> list[dict[str, Any]]:
    done = _start(folder, case, processes=2)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def _alone(folder: Path, case: str) -> dict[str, Any]:
    done = _start(folder, case, processes=1)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "alone.json").read_text())


@pytest.mark.parametrize("case", ["curve", "accumulated"])
def test_two_processes_give_the_loss_curve_of_one(tmp_path: Path, case: str) -> None:
    alone = _alone(tmp_path / "one", case)
    first, second = _both(tmp_path / "two", case)
    assert len(first["losses"]) == 60
    assert second["losses"] == []  # only the first one reports
    assert first["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert first["metrics"] == second["metrics"]
    assert first["metrics"] == pytest.approx(alone["metrics"], abs=1e-5)
    rates = [
        [line["lr"] for line in read_metrics(tmp_path / n / "run") if "loss" in line]
        for n in ("one", "two")
    ]
    assert rates[0] == rates[1]


def test_a_range_test_sees_the_same_on_every_process(tmp_path: Path) -> None:
    alone = _alone(tmp_path / "one", "sweep")
    first, second = _both(tmp_path / "two", "sweep")
    assert first == second
    assert first["traceless"]
    assert first["outcome"] == alone["outcome"] == "diverged"
    assert len(first["losses"]) == len(alone["losses"])
    assert first["losses"][:20] == pytest.approx(alone["losses"][:20], abs=1e-5)


def test_a_run_is_extended_by_all_and_a_model_in_eval_mode_is_trained(tmp_path: Path) -> None:
    first, second = _both(tmp_path / "two", "extended")
    assert first["steps"] == second["steps"] == 80
    assert first["modes"] == second["modes"] == [True]


def test_all_stop_at_the_same_cycles_end(tmp_path: Path) -> None:
    first, second = _both(tmp_path / "two", "stopping")
    assert first["steps"] == second["steps"] == 40
    assert first["outcome"] == second["outcome"]
    assert "brought no gain in val_never" in first["outcome"]


def test_a_signal_to_one_process_stops_all_and_the_run_goes_on(tmp_path: Path) -> None:
    first, second = _both(tmp_path / "two", "signalled")
    assert first["stopped"] == second["stopped"]
    assert 17 <= first["stopped"] < 60
    alone = _alone(tmp_path / "one", "curve_unclipped")
    logged = [line["loss"] for line in read_metrics(tmp_path / "two" / "run") if "loss" in line]
    assert logged == pytest.approx(alone["losses"], abs=1e-5)
    assert [life["step"] for life in _lives(tmp_path / "two" / "run")] == [first["stopped"]]


def test_a_sharded_model_is_trained_kept_and_gone_on_with(tmp_path: Path) -> None:
    """FSDP2 on two CPU processes: as far as one can see without GPUs."""
    first, second = _both(tmp_path / "two", "sharded")
    alone = _alone(tmp_path / "one", "curve_unclipped")
    assert first["sharded"]
    assert second["sharded"]
    assert not alone["sharded"]
    run = tmp_path / "two" / "run"
    logged = [line for line in read_metrics(run) if "loss" in line]
    assert [line["loss"] for line in logged] == pytest.approx(alone["losses"], abs=1e-5)
    assert [life["step"] for life in _lives(run)] == [42]
    whole = [line for line in read_metrics(tmp_path / "one" / "run") if "grad_norm" in line]
    probed = [line for line in logged if "grad_norm" in line]
    for name in ("grad_norm", "update_ratio", "optimal_lr"):
        expected = [line[name] for line in whole]
        assert [line[name] for line in probed] == pytest.approx(expected, rel=1e-2)
    models = [
        load_file(str(tmp_path / n / "run/checkpoints/step-00000060/model.safetensors"))
        for n in ("one", "two")
    ]
    for name, value in models[0].items():
        torch.testing.assert_close(models[1][name], value, rtol=1e-3, atol=1e-4)


def _lives(run: Path) -> list[dict[str, Any]]:
    lives: list[dict[str, Any]] = json.loads((run / "environment.json").read_text())["resumed"]
    return lives


def test_processes_that_load_different_batches_are_told(tmp_path: Path) -> None:
    done = _start(tmp_path / "two", "different", processes=2)
    assert done.returncode != 0
    assert "the processes were given different batches" in done.stderr
    assert "split_batches=False" in done.stderr


# Without processes: the arithmetic of shares.


class _Some(Processes):
    """One of several processes, without the others."""

    def __init__(self, index: int, count: int) -> None:
        super().__init__()
        self.index, self.count, self._compared = index, count, True


@pytest.mark.parametrize("size", [4, 5, 7, 16])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_shares_are_the_batch_and_weights_make_means_its_mean(size: int, count: int) -> None:
    targets = torch.arange(float(size))
    batch = ({"x": targets * 2, "names": ["a"]}, targets)
    shares = [_Some(i, count).share(batch) for i in range(count)]
    assert torch.equal(torch.cat([share.batch[1] for share in shares]), targets)
    assert torch.equal(torch.cat([share.batch[0]["x"] for share in shares]), targets * 2)
    mean = sum(float(share.batch[1].mean()) * share.weight for share in shares) / count
    assert mean == pytest.approx(float(targets.mean()))


def test_a_batch_too_small_to_share_is_refused_in_training_only() -> None:
    batch = (torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(DataError, match="a batch of 2 examples cannot be shared among 3 processes"):
        _Some(0, 3).share(batch)
    parts = [_Some(i, 3).share_for_evaluation(batch) for i in range(3)]
    assert [n for _, n in parts] == [0, 1, 1]
    assert all(len(part[1]) == 1 for part, _ in parts)


def test_one_process_agrees_with_itself() -> None:
    alone = Processes()
    batch = (torch.zeros(2), torch.zeros(2))
    assert alone.share(batch).batch is batch
    assert alone.share(batch).weight == 1.0
    assert alone.largest(3, 0.5) == [3, 0.5]
    assert alone.total([1.0, 2.0]) == [1.0, 2.0]
    assert alone.gather("x") == ["x"]
    assert alone.first_says("x") == "x"
