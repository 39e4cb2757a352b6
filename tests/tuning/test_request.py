"""Requests: defaults from the task, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from cyclr.errors import CheckpointError, InputError, TaskError
from cyclr.experiments.pipeline import build, run_task
from cyclr.tuning.facts import find_weights
from cyclr.tuning.request import CYCLE, DEEP, MOMENTA, SHALLOW, parse_budget
from tuning.tasks import request, small


def _optimizer(make: Any) -> Any:
    return small(optimizer=make)


def test_everything_has_a_default() -> None:
    found = request()
    assert found.stages == ("momentum", "weight-decay", "rate")
    assert (found.weight_decay, found.momentum) == (SHALLOW, MOMENTA)
    assert (found.epochs, found.run) == (10, 80)
    assert (found.facts.weight_decay, found.facts.momentum) == (5e-4, 0.9)
    assert (found.facts.parameters, found.facts.weight_layers) == (650, 1)
    trial = found.trial(updates=50, sweep_steps=60)
    assert (trial.weight_decay, trial.momentum, trial.batch_size) == (5e-4, CYCLE, 64)
    assert found.momenta() == (0.99, 0.97, 0.95, 0.9)


def test_ten_weight_layers_make_a_net_deep() -> None:
    def net(layers: int) -> Any:
        return lambda: nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(layers)))

    assert request(small(model=net(9))).weight_decay == SHALLOW
    assert request(small(model=net(10))).weight_decay == DEEP
    assert request(weight_decay="deep").weight_decay == DEEP


def test_an_adam_s_momentum_is_its_beta1() -> None:
    found = request(_optimizer(lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.92, 0.99))))
    assert found.facts.momentum == 0.92
    assert found.own_momentum == CYCLE


def test_a_low_own_momentum_stays_and_cyclical_is_tried_beside_it() -> None:
    found = request(_optimizer(lambda p: torch.optim.SGD(p, lr=0.1)))
    assert found.own_momentum is None
    assert found.momenta() == (0.99, 0.97, 0.95, 0.9, CYCLE)


def test_warm_restarts_leave_the_momentum_alone() -> None:
    assert request(policy="warm_restarts").own_momentum is None


def test_stages_that_the_optimizer_has_nothing_for_are_left_out_in_words() -> None:
    found = request(_optimizer(lambda p: torch.optim.Adagrad(p, lr=0.1)))
    assert found.stages == ("weight-decay", "rate")
    assert found.left_out == ("Adagrad has no momentum.",)
    with pytest.raises(InputError, match="there is nothing to tune: Adagrad has no momentum"):
        request(_optimizer(lambda p: torch.optim.Adagrad(p, lr=0.1)), stages=["momentum"])


def test_batch_sizes_bring_their_stage_and_hold_the_task_s_own() -> None:
    found = request(batch_size=[128, 32])
    assert found.stages == ("batch-size", "momentum", "weight-decay", "rate")
    assert found.batch_size == (32, 64, 128)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (3000, (3000, "st")),
        ("3000", (3000, "st")),
        ("500st", (500, "st")),
        ("2.5run", (2.5, "run")),
        ("10ep", (10, "ep")),
        (" .5 min ", (0.5, "min")),
    ],
)
def test_budgets(budget: Any, expected: tuple[float, str]) -> None:
    assert parse_budget(budget) == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"budget": "soon"}, "budget must be updates .* got 'soon'"),
        ({"budget": 0}, "budget must be "),
        ({"budget": True}, "budget must be "),
        ({"budget": "-3ep"}, "budget must be "),
        ({"budget": "2.5"}, "budget must be a whole number of updates"),
        ({"epochs": 0}, "epochs must be an int ≥ 1"),
        ({"policy": "up"}, "policy must be one of"),
        ({"seed": -1}, "seed must be in"),
        ({"weight_decay": "medium"}, 'weight_decay must be "shallow", "deep" or numbers'),
        ({"weight_decay": [1e-3, -1e-3]}, r"weight_decay\[1\] must be a finite real number ≥ 0"),
        ({"weight_decay": []}, "weight_decay must be at least one value"),
        ({"weight_decay": [0.1, 0.1]}, "weight_decay must be different values"),
        ({"momentum": [1.0]}, r"momentum\[0\] must be a finite real number ≥ 0 and < 1"),
        ({"momentum": ["fast"]}, r"momentum\[0\] must be"),
        ({"momentum": "cyclical"}, "momentum must be several values"),
        ({"batch_size": [0]}, r"batch_size\[0\] must be an int ≥ 1"),
        ({"batch_size": [600]}, r"batch_size\[0\] must be at most the 512 training examples"),
        ({"stages": ["speed"]}, "stages must be one of"),
        ({"stages": []}, "stages must name at least one"),
        ({"stages": "rate"}, "stages must be several names"),
        ({"stages": ["batch-size"]}, "name them with batch_size"),
        ({"stages": ["rate"], "batch_size": [32]}, "batch_size is given and stages leaves"),
        ({"start": "nowhere"}, "cannot start from nowhere"),
    ],
)
def test_bad_requests_name_the_field(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        request(**wanted)


def test_a_task_without_validation_data_is_refused_at_once() -> None:
    with pytest.raises(TaskError, match=r"no validation data.*give Task\.validation"):
        request(small(validation=None))


def test_weights_are_found_in_files_checkpoints_and_runs(tmp_path: Path) -> None:
    parts = build(small(), seed=0)
    save_model(parts.model, str(tmp_path / "x.safetensors"))
    assert find_weights(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"
    run_task(small(), epochs=2, folder=tmp_path / "run")
    steps = tmp_path / "run" / "checkpoints"
    last = steps / "step-00000016" / "model.safetensors"
    assert find_weights(tmp_path / "run") == last
    assert find_weights(last.parent) == last
    (tmp_path / "run" / "run.json").unlink()
    assert find_weights(tmp_path / "run") == last
    found = request(start=tmp_path / "run")
    assert found.start == str(last)
    assert len(found.start_digest or "") == 64


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_weights(tmp_path / "empty")
    (tmp_path / "model.pt").touch()
    with pytest.raises(CheckpointError, match=r"neither a \.safetensors file nor a run's folder"):
        find_weights(tmp_path / "model.pt")


def test_weights_that_do_not_fit_are_refused_at_once(tmp_path: Path) -> None:
    other = small(model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 11)))
    save_model(build(other).model, str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        request(start=tmp_path / "x.safetensors")
