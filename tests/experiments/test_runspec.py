"""A resolved run as data."""

from typing import Any

import pytest

from cyclr.errors import SpecError
from cyclr.experiments.runspec import RunSpec
from experiments.paper_runs import small_spec


def test_it_survives_being_written() -> None:
    spec = small_spec()
    again = RunSpec.from_dict(spec.to_dict())
    assert again == spec
    assert again.key == spec.key
    assert "precision" not in spec.to_dict()  # at its default
    assert small_spec(seed=0).to_dict()["seed"] == 0


def test_the_key_changes_with_what_matters_and_not_with_notes() -> None:
    spec = small_spec()
    assert spec.key == small_spec(recipe=spec.recipe.replace(notes=("said so",))).key
    keys = {small_spec(**change).key for change in ({}, {"seed": 9}, {"order": "fixed"})}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "run.batch_size must be an int ≥ 1, got 0"),
        ({"order": "sorted"}, "run.order must be one of"),
        ({"prepare": "zca"}, "run.prepare must be one of"),
        ({"augment": "cutout"}, "run.augment must be one of"),
        ({"precision": "float16"}, "run.precision must be one of"),
        ({"seed": -1}, "run.seed must be an int ≥ 0"),
        ({"stop_after": 0}, "run.stop_after must be"),
        ({"evaluate_every": 0}, "run.evaluate_every must be"),
    ],
)
def test_fields_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        small_spec(**changes)


def test_unknown_and_missing_fields_are_named() -> None:
    data = small_spec().to_dict()
    with pytest.raises(SpecError, match=r"run\.momentum is not a field"):
        RunSpec.from_dict({**data, "momentum": 0.9})
    del data["net"]
    with pytest.raises(SpecError, match=r"run\.net is missing"):
        RunSpec.from_dict(data)
