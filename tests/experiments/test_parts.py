"""A task's parts: all made from one seed, at the batch size asked for, or refused in words."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from cyclr.errors import DataError, InputError, TaskError
from cyclr.experiments.parts import build
from experiments.small_task import small_task


def test_everything_is_made_from_the_seed() -> None:
    one, same, other = (build(small_task(), seed=seed) for seed in (3, 3, 4))
    assert one.seed == 3
    assert one.steps_per_epoch == 8
    weights = [parts.model[1].weight for parts in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    orders = [[t.tolist() for _, t in parts.batches] for parts in (one, same, other)]
    assert orders[0] == orders[1] != orders[2]


def test_the_seed_covers_python_and_numpy() -> None:
    drawn = []
    for _ in range(2):
        build(small_task(), seed=3)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert drawn[0] == drawn[1]


def test_the_batch_size_can_be_replaced_and_validation_uses_four_times_it() -> None:
    parts = build(small_task(), batch_size=32)
    assert parts.steps_per_epoch == 16
    assert [len(t) for _, t in parts.batches] == [32] * 16
    assert [len(t) for _, t in parts.validation] == [128, 128, 103]


def test_a_task_without_validation_has_none() -> None:
    assert build(small_task(validation=None)).validation is None


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_task_whose_functions_fail_is_named_with_their_words(part: str) -> None:
    def fail(*_: object) -> None:
        raise LookupError("the disk is on fire")

    with pytest.raises(TaskError) as caught:
        build(small_task(**{part: fail}))
    assert str(caught.value) == (
        "task 'small digits' cannot be built: LookupError: the disk is on fire"
    )


def test_a_task_that_gives_the_same_model_again_is_refused() -> None:
    task = small_task()
    model = task.model()
    same = dataclasses.replace(task, model=lambda: model)
    build(same)
    with pytest.raises(TaskError, match=r"a model that it had given before.*make a new one"):
        build(same)


def test_a_task_without_data_is_a_data_error() -> None:
    nothing = (torch.zeros(0, 8), torch.zeros(0))
    for field in ("train", "validation"):
        with pytest.raises(DataError, match=rf"^Task\.{field}: .*there are 0 inputs and 0 targets"):
            build(small_task(**{field: nothing}))


def test_arrays_are_to_be_made_tensors() -> None:
    with pytest.raises(DataError, match=r"got a pair that begins with ndarray; make each a tensor"):
        build(small_task(train=(np.zeros((4, 8)), np.zeros(4))))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_the_generators_do_not_take_is_an_input_error(seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        build(small_task(), seed=seed)
