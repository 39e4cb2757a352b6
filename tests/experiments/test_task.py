"""A task: checked when it is made."""

from typing import Any

import pytest

from cyclr import Task
from cyclr.errors import TaskError


def _task(**changes: Any) -> Task:
    fields = {"name": "mine", "model": dict, "train": [1], "loss_fn": max, "optimizer": list}
    return Task(**{**fields, **changes})


def test_the_defaults() -> None:
    task = _task()
    assert (task.batch_size, task.epochs) == (128, 10)
    assert (task.validation, task.metrics, task.prepare, task.augment) == (None,) * 4


@pytest.mark.parametrize("name", ["batch_size", "epochs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", None])
def test_counts_must_be_whole_and_positive(name: str, value: Any) -> None:
    with pytest.raises(TaskError) as caught:
        _task(**{name: value})
    assert str(caught.value) == (
        f"Task.{name} must be an int ≥ 1, got {value!r}; pass a whole number"
    )


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\\b", 3])
def test_a_name_must_do_for_a_folder(name: Any) -> None:
    with pytest.raises(TaskError, match=r"Task\.name must be a name without slashes, got "):
        _task(name=name)


def test_a_loss_that_is_a_class_has_yet_to_be_made() -> None:
    class Loss:
        pass

    with pytest.raises(TaskError, match=r"got the class Loss; make one of it: Loss\(\)"):
        _task(loss_fn=Loss)


@pytest.mark.parametrize("name", ["model", "loss_fn", "optimizer"])
def test_functions_must_be_callable(name: str) -> None:
    with pytest.raises(TaskError) as caught:
        _task(**{name: 3})
    assert str(caught.value) == (
        f"Task.{name} must be callable, got 3; pass a function that makes or computes it"
    )


def test_a_task_is_frozen_and_keyword_only() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field"):
        _task().epochs = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        Task("mine", dict, [1], max, list)  # type: ignore[misc]
