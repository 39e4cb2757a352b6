"""Snapshots: averaged predictions, averaged weights, BatchNorm taken anew."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cyclr.errors import CheckpointError, InputError
from cyclr.training import make_loader
from cyclr.training.evaluation import accuracy, evaluate
from cyclr.training.snapshots import Ensemble, average, cycle_ends, ensemble
from small_runs import RECIPE, data, net, run, steps

LOSS = nn.functional.cross_entropy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three cycles that kept its snapshots."""
    place = tmp_path_factory.mktemp("snapshots") / "run"
    run(place, snapshots=True, keep=1, loss=LOSS)
    return place


def _held() -> list[tuple[torch.Tensor, torch.Tensor]]:
    inputs, targets = data()
    return [(inputs[200:], targets[200:])]


def _members(folder: Path) -> list[nn.Module]:
    members = []
    for step in (20, 40, 60):
        member = net()
        path = folder / "checkpoints" / f"step-{step:08d}" / "model.safetensors"
        member.load_state_dict(load_file(str(path)))
        members.append(member.eval())
    return members


def test_the_cycle_ends_are_kept_whatever_else_is_not(folder: Path) -> None:
    assert [checkpoint.step for checkpoint in cycle_ends(folder)] == [20, 40, 60]
    assert [checkpoint.step for checkpoint in cycle_ends(folder, last=2)] == [40, 60]
    best = json.loads((folder / "run.json").read_text())["best"]["step"]
    assert set(steps(folder)) == {20, 40, 60, best}


def test_the_ensemble_averages_probabilities(folder: Path) -> None:
    found = ensemble(folder, net(), _held(), LOSS)
    ((inputs, targets),) = _held()
    with torch.no_grad():
        mean = torch.stack([m(inputs).softmax(1) for m in _members(folder)]).mean(0)
    assert found["val_loss"] == pytest.approx(float(nn.functional.nll_loss(mean.log(), targets)))
    right = (mean.argmax(1) == targets).float().mean()
    assert found["val_accuracy"] == pytest.approx(float(right))


def test_of_one_model_it_is_the_model(folder: Path) -> None:
    last = _members(folder)[-1]
    found = ensemble(folder, net(), _held(), LOSS, last=1)
    assert found == pytest.approx(evaluate(last, _held(), LOSS, {"accuracy": accuracy}), rel=1e-5)


def test_outputs_that_are_no_classes_are_averaged_as_they_are() -> None:
    models: list[nn.Module] = [nn.Linear(3, 1), nn.Linear(3, 1)]
    inputs = torch.randn(5, 3)
    expected = (models[0](inputs) + models[1](inputs)) / 2
    torch.testing.assert_close(Ensemble(models, probabilities=False)(inputs), expected)


def test_averaged_weights_are_the_mean_and_batchnorm_is_taken_anew(folder: Path) -> None:
    inputs, targets = data()
    loader = make_loader((inputs[:200], targets[:200]), 50, seed=0)
    given = net()
    before = [p.clone() for p in given.parameters()]
    averaged = average(folder, given, loader)
    for mean, *each in zip(
        averaged.parameters(), *(m.parameters() for m in _members(folder)), strict=True
    ):
        torch.testing.assert_close(mean, torch.stack(each).mean(0))
    with torch.no_grad():
        activations = averaged[0](inputs[:200])
    torch.testing.assert_close(averaged[1].running_mean, activations.mean(0), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(before, given.parameters(), strict=True))


def test_the_runs_summary_compares_them(folder: Path) -> None:
    found = json.loads((folder / "run.json").read_text())["snapshots"]
    assert found["steps"] == [20, 40, 60]
    assert found["ensemble"] == pytest.approx(ensemble(folder, net(), _held(), LOSS), rel=1e-4)
    loaded = net()
    loaded.load_state_dict(load_file(str(folder / "averaged" / "model.safetensors")))
    measured = evaluate(loaded, _held(), LOSS, {"accuracy": accuracy})
    assert found["averaged"] == pytest.approx(measured, rel=1e-4)
    last = evaluate(_members(folder)[-1], _held(), LOSS, {"accuracy": accuracy})
    assert found["last"] == pytest.approx(last, rel=1e-4)


def test_without_them_the_run_keeps_the_last_cycles_end(tmp_path: Path) -> None:
    run(tmp_path / "run", keep=1, recipe=RECIPE)
    assert 20 not in set(steps(tmp_path / "run")) - {_best(tmp_path / "run")}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["snapshots"] == {}


def _best(folder: Path) -> int:
    step: int = json.loads((folder / "run.json").read_text())["best"]["step"]
    return step


def test_a_run_without_cycle_ends_and_a_run_without_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no model of a cycle's end"):
        ensemble(tmp_path, net(), _held(), LOSS)
    with pytest.raises(InputError, match="snapshots are kept in a run folder"):
        run(None, snapshots=True)


def test_single_logits_are_averaged_as_they_are() -> None:
    torch.manual_seed(0)
    members, inputs = [nn.Linear(3, 1), nn.Linear(3, 1)], torch.randn(5, 3)
    both = Ensemble(members, probabilities=True)(inputs)
    torch.testing.assert_close(both, (members[0](inputs) + members[1](inputs)) / 2)
