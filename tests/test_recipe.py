"""Recipes: what they hold, and their files."""

import json

import pytest

from cyclr import (
    Constant,
    Recipe,
    Units,
    plan,
)
from cyclr.errors import SpecError
from readings import reading as _reading


@pytest.mark.parametrize("policy", ["one_cycle", "triangular2", "exp_range", "warm_restarts"])
def test_a_recipe_survives_its_file(tmp_path, policy) -> None:
    recipe = plan(_reading(), total_steps=1700, policy=policy)
    recipe.save(tmp_path / "recipe.json")
    assert Recipe.load(tmp_path / "recipe.json") == recipe


def test_all_four_schedules_are_kept_and_asked(tmp_path) -> None:
    recipe = Recipe(
        lr=Constant(value=0.1),
        momentum=Constant(value=0.9),
        weight_decay=Constant(value=1e-4),
        batch_size=Constant(value=64),
        total_steps=10,
    )
    recipe.save(tmp_path / "recipe.json")
    loaded = Recipe.load(tmp_path / "recipe.json")
    assert loaded == recipe
    expected = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "batch_size": 64.0}
    assert loaded.values(3) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("cyclr_recipe"), '"cyclr_recipe": 1'),
        (
            lambda d: d.update(cyclr_recipe=7),
            "cyclr_recipe must be 1, the one version of the format",
        ),
        (lambda d: d.pop("lr"), "recipe.lr is missing"),
        (
            lambda d: d.update(momentum={"kind": "constant", "value": 1.5}),
            "Recipe.momentum at step 0 must be in [0, 1), got 1.5",
        ),
        (
            lambda d: d.update(
                momentum={"kind": "linear_sweep", "start_lr": 0.9, "end_lr": 1.1, "steps": 1000}
            ),
            "Recipe.momentum at step 500 must be in [0, 1), got 1.0001",
        ),
        (
            lambda d: d.update(batch_size={"kind": "constant", "value": 0.0}),
            "Recipe.batch_size at step 0 must be at least 1 when rounded, got 0.0",
        ),
        (lambda d: d.update(colour=1), "recipe.colour is not a field"),
        (lambda d: d.update(total_steps=0), "Recipe.total_steps must be an int ≥ 1, got 0"),
        (lambda d: d["lr"].update(kind="odd"), "recipe.lr.kind must be one of"),
        (lambda d: d.update(momentum=3), 'recipe.momentum must be an object with a "kind" key'),
    ],
)
def test_a_damaged_file_is_named_with_the_field(tmp_path, change, message) -> None:
    data = plan(_reading(), total_steps=1000).to_dict()
    change(data)
    (tmp_path / "recipe.json").write_text(json.dumps(data))
    with pytest.raises(SpecError) as caught:
        Recipe.load(tmp_path / "recipe.json")
    assert message in str(caught.value)
    assert "recipe.json" in str(caught.value)


TIMED = {
    "cyclr_recipe": 1,
    "total_steps": "30ep",
    "lr": {
        "kind": "chain",
        "schedules": [
            {"kind": "linear_sweep", "start_lr": 0.0, "end_lr": 1.0, "steps": "2ep"},
            {"kind": "one_cycle", "max_lr": 1.0, "total_steps": "0.5run", "stepsize": "50st"},
        ],
    },
    "momentum": {"kind": "linear_sweep", "start_lr": 0.9, "end_lr": 0.8, "steps": "1run"},
}


def test_durations_in_a_recipe_become_steps(tmp_path) -> None:
    units = Units(steps_per_epoch=100)
    recipe = Recipe.from_dict(TIMED, units=units)
    assert recipe.total_steps == 3000
    warmup, cycle = recipe.lr.schedules
    assert (warmup.steps, cycle.total_steps, cycle.stepsize) == (200, 1500, 50)
    assert recipe.momentum.steps == 3000
    (tmp_path / "recipe.json").write_text(json.dumps(TIMED))
    assert Recipe.load(tmp_path / "recipe.json", units=units) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_what_a_recipe_says_of_itself_counts_before_units() -> None:
    data = {**TIMED, "steps_per_epoch": 10, "total_steps": 400}
    recipe = Recipe.from_dict(data, units=Units(steps_per_epoch=100, total_steps=9000))
    assert recipe.lr.schedules[0].steps == 20
    assert recipe.momentum.steps == 400
    assert recipe == Recipe.from_dict(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "recipe.total_steps is '30ep', which needs steps_per_epoch"),
        ({"total_steps": "0.5run"}, "recipe.total_steps is '0.5run', which needs total_steps"),
        ({"total_steps": "ten"}, "recipe.total_steps must be a whole number of steps, or"),
        ({"total_steps": 100}, r"recipe.lr.schedules\[0\].steps is '2ep', which needs"),
        ({"total_steps": "0st"}, "Recipe.total_steps must be an int ≥ 1, got 0"),
        ({"total_steps": 3, "steps_per_epoch": "4ep"}, "Recipe.steps_per_epoch must be an int"),
    ],
)
def test_a_duration_that_cannot_be_resolved_is_named(change, message) -> None:
    with pytest.raises(SpecError, match=message):
        Recipe.from_dict({**TIMED, **change})
