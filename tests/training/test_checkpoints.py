"""Checkpoints: complete or absent, replaced as a whole, loaded without executing code."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model
from torch import nn

from cyclr.errors import TrainingError
from cyclr.training.checkpoints import (
    clear_leftovers,
    list_steps,
    prune,
    read_checkpoint,
    save_checkpoint,
)


def _net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def _save(folder: Path, net: nn.Module, step: int = 12) -> Path:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict()}
    return save_checkpoint(folder, step=step, model=net, state=state, metrics={"val_loss": 0.5})


def test_the_files_and_their_content(tmp_path: Path) -> None:
    net = _net(0)
    target = _save(tmp_path, net)
    assert target == tmp_path / "step-00000012"
    assert sorted(p.name for p in target.iterdir()) == [
        "checkpoint.json",
        "model.safetensors",
        "state.pt",
    ]
    described = json.loads((target / "checkpoint.json").read_text())
    files = described.pop("files")
    assert described == {
        "cyclr_checkpoint": 1,
        "run": None,
        "step": 12,
        "cycle_end": False,
        "stopping_point": False,
        "log_bytes": 0,
        "metrics": {"val_loss": 0.5},
    }
    assert {name: seal["bytes"] for name, seal in files.items()} == {
        name: (target / name).stat().st_size for name in ("model.safetensors", "state.pt")
    }
    assert read_checkpoint(target).metrics == {"val_loss": 0.5}
    other = _net(1)
    load_model(other, str(target / "model.safetensors"))
    inputs = torch.randn(6, 4)
    assert torch.equal(other.eval()(inputs), net.eval()(inputs))
    state = torch.load(target / "state.pt", weights_only=True)
    fresh = torch.optim.SGD(other.parameters(), lr=1.0, momentum=0.5)
    fresh.load_state_dict(state["optimizer"])
    assert fresh.param_groups[0]["momentum"] == 0.9
    assert len(fresh.state) == 6


def test_a_checkpoint_of_the_same_step_is_replaced_and_nothing_is_left_beside_it(
    tmp_path: Path,
) -> None:
    _save(tmp_path, _net(0))
    (tmp_path / ".step-00000012.partial").mkdir()
    (tmp_path / ".step-00000012.partial" / "left over").touch()
    second = _net(3)
    target = _save(tmp_path, second)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000012"]
    assert not (target / "left over").exists()
    other = _net(1)
    load_model(other, str(target / "model.safetensors"))
    assert torch.equal(other[0].weight, second[0].weight)


def test_shared_parameters_are_saved(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, bias=False)
            self.second = nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

    torch.manual_seed(0)
    net, other = Tied(), Tied()
    target = save_checkpoint(tmp_path, step=1, model=net, state={}, metrics={})
    load_model(other, str(target / "model.safetensors"))
    assert torch.equal(other.second.weight, net.first.weight)


def test_a_place_that_cannot_be_written_is_a_training_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot write the checkpoint .*step-00000012"):
        _save(tmp_path / "file", _net(0))


def test_a_failed_write_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = _save(tmp_path, _net(0))
    before = {p.name: p.read_bytes() for p in target.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        _save(tmp_path, _net(1))
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before


def test_metrics_that_are_not_finite_are_written_as_words(tmp_path: Path) -> None:
    target = save_checkpoint(
        tmp_path, step=1, model=_net(0), state={}, metrics={"val_loss": float("nan")}
    )
    assert json.loads((target / "checkpoint.json").read_text())["metrics"] == {"val_loss": "nan"}
    assert math.isnan(read_checkpoint(target).metrics["val_loss"])


def test_a_failed_write_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        _save(tmp_path, _net(1))
    assert list(tmp_path.iterdir()) == []


def test_every_file_is_on_disk_before_the_checkpoint_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that a power failure asks for: files, their folder, the name, its folder."""
    order: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(handle: int) -> None:
        order.append(Path(f"/proc/self/fd/{handle}").readlink().name.split(".json.")[0])
        fsync(handle)

    def note_rename(path: Path, target: Path) -> Path:
        order.append(f"-> {target.name}")
        return rename(path, target)

    monkeypatch.setattr("os.fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    _save(tmp_path, _net(0))
    named = order.index("-> step-00000012")
    assert {"model.safetensors", "state.pt", ".checkpoint"} <= set(order[:named])
    assert order[named - 1] == ".step-00000012.partial"
    assert order[named + 1 :] == [tmp_path.name]


def test_pruning_keeps_the_latest_and_the_protected(tmp_path: Path) -> None:
    for step in range(1, 8):
        _save(tmp_path, _net(0), step)
    prune(tmp_path, keep=2, protected={3})
    assert list_steps(tmp_path) == [3, 6, 7]
    assert len(list(tmp_path.iterdir())) == 3


def test_leftovers_of_a_crash_are_cleared_and_checkpoints_stay(tmp_path: Path) -> None:
    _save(tmp_path, _net(0))
    for kind in ("partial", "replaced", "removed"):
        (tmp_path / f".step-00000013.{kind}").mkdir()
    clear_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000012"]
