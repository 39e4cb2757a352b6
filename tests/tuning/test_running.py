"""Trials really run: what they set, what they measure, and how they end."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from cyclr.errors import CheckpointError, DataError, TrainingError
from cyclr.experiments.pipeline import build
from cyclr.schedules import Constant, Opposite
from cyclr.tuning import Outcome
from cyclr.tuning.running import (
    make_recipe,
    moved,
    out_of_memory,
    prepare,
    run_trial,
    some_of,
)
from tuning.tasks import small, trial_of


def _groups(decays: tuple[float, ...]) -> Any:
    def make(parameters: Any) -> torch.optim.Optimizer:
        pairs = zip(parameters, decays, strict=True)
        return torch.optim.SGD(
            [{"params": [p], "weight_decay": d} for p, d in pairs], lr=0.1, momentum=0.9
        )

    return make


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [
        ((5e-4, 0.0), 1e-3, [1e-3, 0.0]),
        ((1e-2, 1e-3), 1e-3, [1e-3, 1e-4]),
        ((0.0, 0.0), 1e-3, [1e-3, 1e-3]),
        ((5e-4, 0.0), 0.0, [0.0, 0.0]),
    ],
)
def test_ratios_between_groups_weight_decays_are_kept(
    own: tuple[float, ...], asked: float, expected: list[float]
) -> None:
    parts = prepare(small(optimizer=_groups(own)), trial_of(weight_decay=asked))
    found = [group["weight_decay"] for group in parts.optimizer.param_groups]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("own", "asked", "expected"),
    [(0.9, 0.97, 0.97), (0.9, None, 0.9), (0.9, (0.85, 0.95), 0.9), (0.0, (0.85, 0.95), 0.9)],
)
def test_the_momentum_of_the_range_test(own: float, asked: Any, expected: float) -> None:
    task = small(optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=own))
    parts = prepare(task, trial_of(momentum=asked))
    assert parts.optimizer.param_groups[0]["momentum"] == pytest.approx(expected)


def test_for_adam_it_is_beta1_and_beta2_stays() -> None:
    task = small(optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3, betas=(0.9, 0.98)))
    parts = prepare(task, trial_of(momentum=0.97))
    assert parts.optimizer.param_groups[0]["betas"] == (0.97, 0.98)
    result = run_trial(task, trial_of(momentum=0.97, weight_decay=0.01))
    assert result.outcome is Outcome.COMPLETED


def test_a_recipe_of_a_trial_s_settings() -> None:
    constant = make_recipe(trial_of(momentum=0.97, weight_decay=1e-3), (0.01, 0.1), 200, 8)
    assert constant.momentum == Constant(value=0.97)
    assert constant.weight_decay == Constant(value=1e-3)
    assert (constant.lr(90), constant.total_steps) == (pytest.approx(0.1), 200)
    cyclical = make_recipe(trial_of(momentum=(0.85, 0.95)), (0.01, 0.1), 200, 8)
    assert isinstance(cyclical.momentum, Opposite)
    assert cyclical.momentum(90) == pytest.approx(0.85)
    assert cyclical.weight_decay is None
    own = make_recipe(trial_of(), (0.01, 0.1), 200, 8)
    assert own.momentum is None


def test_a_trial_is_a_range_test_and_a_training_seen_at_five_points() -> None:
    told: list[int] = []
    trial = trial_of(momentum=(0.85, 0.95), weight_decay=1e-3)
    result = run_trial(small(), trial, tell=lambda made, _: told.append(made))
    assert result.outcome is Outcome.COMPLETED
    assert result.record is not None
    assert result.sweep_updates == result.record.updates
    assert result.record.optimizer["weight_decay"] == pytest.approx(1e-3)
    assert result.bounds == pytest.approx(
        (result.record.read().base_lr, result.record.read().max_lr)
    )
    assert [point["step"] for point in result.curve] == [12, 24, 36, 48, 54, 60]
    assert result.val_loss < 0.5
    assert result.metrics["val_accuracy"] > 0.85
    assert result.curve[-1]["loss"] < result.curve[0]["loss"]
    assert told == list(range(1, result.cost + 1))
    assert result.seconds > 0


def test_the_same_trial_comes_out_the_same() -> None:
    one, two = (run_trial(small(), trial_of(weight_decay=1e-3)) for _ in range(2))
    assert (one.bounds, one.curve) == (two.bounds, two.curve)
    other = run_trial(small(), trial_of(weight_decay=1e-3, seed=1))
    assert other.curve != one.curve


def test_a_given_rate_needs_no_range_test() -> None:
    result = run_trial(small(), trial_of(bounds=(0.01, 0.1)))
    assert (result.sweep_updates, result.bounds, result.record) == (0, (0.01, 0.1), None)
    assert result.read is None
    assert result.outcome is Outcome.COMPLETED


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (0.2, (0.01, 0.1)),
        (5.0, (0.01, 0.1)),  # a higher rate may be stable, which does not make it better
        (0.067, (0.01, 0.1)),  # more than a third is chance
        (0.05, (0.0025, 0.025)),
        (0.002, (0.0001, 0.001)),
    ],
)
def test_bounds_come_down_only_if_far_less_was_read(
    read: float, expected: tuple[float, float]
) -> None:
    trial = trial_of(bounds=(0.01, 0.1), reference=0.2)
    assert moved(trial, read) == pytest.approx(expected)


def test_a_given_rate_with_a_reference_has_a_short_range_test_beside_it() -> None:
    whole = run_trial(small(), trial_of(weight_decay=1e-3))
    assert whole.read == whole.bounds
    assert whole.read is not None
    reference = whole.read[1]
    trial = trial_of(weight_decay=1e-3, bounds=(0.003, 0.03), reference=reference)
    result = run_trial(small(), trial)
    assert result.record is not None
    assert result.record.lr[0] == pytest.approx(reference / 1000)
    assert result.sweep_updates < whole.sweep_updates
    assert result.read is not None
    assert reference / 3 < result.read[1] < reference * 3
    assert result.bounds == (0.003, 0.03)


def test_a_range_test_that_reads_far_less_than_the_reference_brings_the_rate_down() -> None:
    trial = trial_of(bounds=(5.0, 50.0), reference=50.0)
    result = run_trial(small(), trial)
    assert result.read is not None
    assert result.read[1] < 50 / 3
    assert result.max_lr == pytest.approx(result.read[1])
    assert result.record is not None
    assert result.record.lr[0] == pytest.approx(0.05)


def test_a_trial_may_have_some_of_the_examples_only() -> None:
    task = small()
    assert len(prepare(task, trial_of(batch_size=16)).batches) == len(task.train[0]) // 16
    some = prepare(task, trial_of(batch_size=16, examples=100))
    assert len(some.batches) == 6
    again = prepare(task, trial_of(batch_size=16, examples=100))
    first, second = next(iter(some.batches)), next(iter(again.batches))
    assert torch.equal(first[0], second[0])
    whole = [tuple(row.flatten().tolist()) for row in task.train[0]]
    assert all(tuple(row.flatten().tolist()) in whole for row in some_of(task.train, 5, 0)[0])
    result = run_trial(task, trial_of(updates=20, examples=128))
    assert result.outcome is Outcome.COMPLETED


def test_some_of_a_data_set_are_drawn_without_replacement_and_by_the_seed() -> None:
    drawn = [some_of(list(range(50)), 20, seed) for seed in (0, 0, 1)]
    indices = [sorted(subset[k] for k in range(20)) for subset in drawn]
    assert indices[0] == indices[1] != indices[2]
    assert len(set(indices[0])) == 20


def test_a_training_that_diverges_is_a_result() -> None:
    def deep() -> nn.Module:
        return nn.Sequential(nn.Flatten(), *(nn.Linear(64, 64) for _ in range(6)))

    result = run_trial(small(model=deep), trial_of(bounds=(1e3, 1e5)))
    assert result.outcome is Outcome.DIVERGED
    assert "the loss is " in result.why
    assert result.val_loss == math.inf


def test_a_loss_that_is_never_finite_is_an_error() -> None:
    task = small(loss_fn=lambda outputs, _: outputs.sum() * math.nan)
    with pytest.raises(TrainingError, match="from the first step"):
        run_trial(task, trial_of())


def test_a_batch_that_does_not_fit_is_a_result() -> None:
    def greedy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if len(targets) == 128:
            torch.empty(2**52, dtype=torch.uint8)  # the allocator's own refusal
        return nn.functional.cross_entropy(outputs, targets)

    result = run_trial(small(loss_fn=greedy), trial_of(batch_size=128))
    assert result.outcome is Outcome.TOO_LARGE
    assert result.why


def test_what_counts_as_memory() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not out_of_memory(ValueError("out of memory"))


def test_mistakes_in_a_task_s_code_come_through() -> None:
    def wrong(outputs: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        raise KeyError("labels")

    with pytest.raises(KeyError, match="labels"):
        run_trial(small(loss_fn=wrong), trial_of())


def test_trials_start_from_given_weights(tmp_path: Path) -> None:
    parts = build(small(), seed=7)
    path = tmp_path / "x.safetensors"
    save_model(parts.model, str(path))
    started = prepare(small(), trial_of(start=str(path)))
    assert torch.equal(started.model[1].weight, load_file(str(path))["1.weight"])
    other = small(model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 11)))
    with pytest.raises(CheckpointError, match="does not fit the model"):
        prepare(other, trial_of(start=str(path)))


def test_without_validation_data_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(DataError, match="no validation data"):
        prepare(small(validation=None), trial_of())
