"""Checkpoints: complete or absent, replaced as a whole, loaded without executing code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_model
from torch import nn

from cyclr.errors import TrainingError
from cyclr.training.checkpoints import save_checkpoint


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
    assert json.loads((target / "checkpoint.json").read_text()) == {
        "step": 12,
        "metrics": {"val_loss": 0.5},
    }
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
