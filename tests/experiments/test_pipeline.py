"""From a task to a run: found without a trace, trained into a folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cyclr import Constant, ExponentialSweep, LinearSweep, RangeRecord, Recipe, Task, Triangular
from cyclr.errors import InputError, SpecError, TaskError
from cyclr.experiments.data import digits
from cyclr.experiments.pipeline import build, challenge, find, run_task, train
from cyclr.training.run import read_metrics
from experiments.small_task import small_task

RECIPE = Recipe(lr=Triangular(base_lr=0.01, max_lr=0.2, stepsize=6), total_steps=12)


def _regression() -> Task:
    (inputs, _), _ = digits()
    pair = (inputs[:256], inputs[:256].float().mean((1, 2, 3)).unsqueeze(1))
    return small_task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1)),
        train=pair,
        validation=pair,
        loss_fn=nn.functional.mse_loss,
    )


def test_finding_leaves_model_optimizer_and_order_as_they_were() -> None:
    parts, untouched = build(small_task(), seed=3), build(small_task(), seed=3)
    record = find(parts, steps=20)
    assert len(record) <= 30  # half as many again if the loss has not turned
    assert record.steps_per_epoch == 8
    assert record.optimizer["momentum"] == 0.9
    assert all(
        torch.equal(a, b)
        for a, b in zip(parts.model.parameters(), untouched.model.parameters(), strict=True)
    )
    assert parts.optimizer.state_dict() == untouched.optimizer.state_dict()
    for _ in range(2):
        assert [t.tolist() for _, t in parts.batches] == [t.tolist() for _, t in untouched.batches]


def test_finding_is_reproducible_and_hears_every_step() -> None:
    heard: list[int] = []
    one = find(build(small_task()), steps=20, on_step=lambda test: heard.append(test.step))
    assert heard == list(range(1, one.updates + 1))
    assert find(build(small_task()), steps=20) == one


def test_a_sweep_of_ones_own_and_validation_along_the_way() -> None:
    sweep = LinearSweep(start_lr=0.0, end_lr=0.05, steps=20)
    record = find(build(small_task()), sweep=sweep, validate=True)
    assert record.sweep == sweep
    assert list(record.metrics["val_accuracy"].steps) == list(range(20))
    values = record.metrics["val_accuracy"].values
    assert values[-1] > values[0] + 0.2
    assert record.read().rule == "accuracy"


def test_validation_where_there_is_little_data() -> None:
    """An epoch has eight updates, in batches of 24 it has 21."""
    record = find(build(small_task()), steps=30)
    assert list(record.metrics["val_loss"].steps) == list(range(len(record)))
    assert record.read().metric == "val_loss"
    confirmed = challenge(build(small_task()), record.read(), total_steps=1000)
    assert confirmed.metric == "val_loss"
    assert "val_loss" in confirmed.second.metrics
    more = tuple(torch.cat([part] * 2) for part in small_task().validation)
    for parts, options in (
        (build(small_task(batch_size=24)), {}),
        (build(small_task()), {"validate": False}),
        (build(small_task(validation=None)), {}),
        (build(small_task(validation=more)), {}),  # more than there is to train on
    ):
        assert find(parts, steps=20, **options).metrics == {}
    assert find(build(small_task(batch_size=24)), steps=20, accumulate=2).metrics != {}


@pytest.mark.parametrize(("rows", "held"), [(64, 64), (64, 8), (100, 30), (20, 5)])
def test_the_smallest_data_are_validated_too(rows: int, held: int) -> None:
    pairs = small_task().train, small_task().validation
    train, validation = (
        tuple(t[:n] for t in pair) for pair, n in zip(pairs, (rows, held), strict=True)
    )
    record = find(build(small_task(train=train, validation=validation)))
    assert list(record.metrics) == ["val_loss"]  # only what is read
    assert record.read().metric == "val_loss"
    more = tuple(t[: rows + 1] for t in small_task().train)
    assert find(build(small_task(train=train, validation=more))).metrics == {}


def test_how_often_to_validate_is_a_wish_to_do_so() -> None:
    record = find(build(small_task()), steps=20, validate_every=4)
    assert record.metrics["val_accuracy"].steps[:3] == (0, 4, 8)
    with pytest.raises(TaskError, match="has no validation data"):
        find(build(small_task(validation=None)), steps=20, validate_every=4)


def test_measuring_does_not_change_what_is_measured() -> None:
    net = lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))  # noqa: E731
    plain, measured = (find(build(small_task(model=net)), validate=v) for v in (False, None))
    assert measured.metrics != {}
    assert measured.loss == plain.loss


def test_validation_without_data_is_a_task_error() -> None:
    with pytest.raises(TaskError, match="task 'small digits' has no validation data"):
        find(build(small_task(validation=None)), steps=20, validate=True)


def test_a_regression_is_not_given_an_accuracy() -> None:
    sweep = LinearSweep(start_lr=0.0, end_lr=0.01, steps=20)
    record = find(build(_regression()), sweep=sweep, validate=True)
    assert sorted(record.metrics) == ["val_loss"]


def test_training_keeps_how_it_came_about(tmp_path: Path) -> None:
    parts = build(small_task(), seed=3)
    record = find(parts, sweep=ExponentialSweep(start_lr=1e-5, end_lr=1.0, steps=20))
    run = train(
        parts, RECIPE, folder=tmp_path / "run", record=record, reading=record.read().to_dict()
    )
    folder = tmp_path / "run"
    assert run.folder == folder
    assert RangeRecord.load(folder / "record.json") == record
    assert json.loads((folder / "reading.json").read_text()) == record.read().to_dict()
    facts = json.loads((folder / "environment.json").read_text())
    assert (facts["task"], facts["seed"]) == ("small digits", 3)
    assert len(read_metrics(folder)) == 12 + 1


def test_training_without_a_record_writes_none(tmp_path: Path) -> None:
    train(build(small_task()), RECIPE, folder=tmp_path / "run")
    assert not (tmp_path / "run" / "record.json").exists()
    assert not (tmp_path / "run" / "reading.json").exists()
    assert (tmp_path / "run" / "environment.json").exists()


@pytest.mark.parametrize("options", [{"mixed_precision": "fp8"}, {"accumulate": 0}])
def test_a_wrong_option_leaves_no_folder(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        train(build(small_task()), RECIPE, folder=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_own_metrics_are_used_in_sweep_and_training() -> None:
    task = small_task(metrics={"right": lambda o, t: o.argmax(1) == t})
    sweep = LinearSweep(start_lr=0.0, end_lr=0.05, steps=20)
    assert sorted(find(build(task), sweep=sweep, validate=True).metrics) == [
        "val_loss",
        "val_right",
    ]
    assert sorted(train(build(task), RECIPE).metrics) == ["val_loss", "val_right"]


def test_a_task_runs_in_one_call_and_again_with_the_same_numbers(tmp_path: Path) -> None:
    runs = [run_task(small_task(), epochs=8, seed=5, folder=tmp_path / name) for name in "ab"]
    assert [run.steps for run in runs] == [64, 64]
    assert runs[0].metrics["val_accuracy"] > 0.8
    for name in ("metrics.jsonl", "record.json", "reading.json", "recipe.json"):
        one, two = ((tmp_path / folder / name).read_text() for folder in "ab")
        assert one == two


def test_an_optimizer_with_a_closure_is_refused_before_the_range_test(tmp_path: Path) -> None:
    calls: list[int] = []

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return nn.functional.cross_entropy(outputs, targets)

    task = small_task(optimizer=torch.optim.LBFGS, loss_fn=loss_fn)
    with pytest.raises(InputError, match="LBFGS evaluates the loss itself, several times an upd"):
        run_task(task, folder=tmp_path / "run")
    assert calls == []
    assert list(tmp_path.iterdir()) == []


def test_the_budget_and_the_policy_are_the_callers() -> None:
    run = run_task(small_task(), epochs=12, policy="triangular2")
    assert run.recipe.lr.kind == "triangular2"
    assert run.steps == 96
    assert run_task(small_task()).steps == 32


def test_parts_of_another_batch_size_than_the_recipe_s_are_refused() -> None:
    recipe = RECIPE.replace(batch_size=Constant(value=32))
    with pytest.raises(InputError, match=r"for batches of 32, and these are of 64; build with"):
        train(build(small_task()), recipe)
    assert train(build(small_task(), batch_size=32), recipe).steps == 12


@pytest.mark.parametrize("value", [0.5, 31.5])
def test_a_batch_size_is_a_whole_number(value: float) -> None:
    with pytest.raises(SpecError, match=r"recipe\.batch_size\.value must be a whole number ≥ 1"):
        train(build(small_task()), RECIPE.replace(batch_size=Constant(value=value)))


def test_every_evaluation_is_told_between_stopping_points_too() -> None:
    told: list[tuple[int, float]] = []
    run = train(
        build(small_task()),
        RECIPE,
        validate_every=5,
        on_evaluation=lambda step, metrics: told.append((step, metrics["val_loss"])),
    )
    assert [step for step, _ in told] == [5, 10, 12]
    assert told[-1][1] == run.metrics["val_loss"]
