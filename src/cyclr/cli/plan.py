"""``cyclr plan``: a recipe from a record or a reading, and a budget."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from cyclr import jsonfile
from cyclr.cli.options import (
    AsJson,
    Epochs,
    Force,
    Policy,
    check_choice,
    check_new_file,
    print_json,
    print_pairs,
    say,
)
from cyclr.errors import InputError
from cyclr.planning import POLICIES
from cyclr.planning import plan as make_plan
from cyclr.rangetest import RangeRecord, Reading
from cyclr.rangetest.rules import RULES
from cyclr.recipe import Recipe
from cyclr.schedules import Schedule

_SEEN = 1_000_000  # values at most that a recipe's words are made from


def plan(
    record: Annotated[
        str,
        typer.Argument(
            metavar="RECORD", help="From cyclr find --out; or the reading.json of a run."
        ),
    ],
    epochs: Epochs = None,
    total_steps: Annotated[
        int | None, typer.Option("--total-steps", min=3, help="Budget in optimizer updates.")
    ] = None,
    policy: Policy = "one_cycle",
    rule: Annotated[str | None, typer.Option(help="Such as edge, basin, knee.")] = None,
    metric: Annotated[
        str | None, typer.Option(help="Read this metric, such as val_loss, or the loss.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE.json", help="Save the recipe.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Make a recipe: schedules, length and stopping points, from a range test and a budget."""
    check_new_file(out, force=force)
    check_choice("--rule", rule, RULES)
    check_choice("--policy", policy, POLICIES)
    reading = _reading(record, rule, metric)
    budget = _budget(epochs, total_steps, reading.steps_per_epoch)
    recipe = make_plan(reading, total_steps=budget, policy=policy)
    if out is not None:
        recipe.save(out)
        say(f"recipe saved to {out}")
    if as_json:
        print_json(recipe.to_dict())
    else:
        print_pairs({"read by": reading.read_by, **recipe_pairs(recipe)})


def _reading(place: str, rule: str | None, metric: str | None) -> Reading:
    """Load a reading, or a record and read it."""
    data = jsonfile.read(place, what="a range test's record")
    if not (isinstance(data, dict) and "cyclr_reading" in data):
        return RangeRecord.load(place).read(rule, metric)
    if rule is not None or metric is not None:
        raise InputError(
            f"--rule and --metric read a record, and {place} is a reading already; name the "
            "record.json, or leave them out"
        )
    return Reading.load(place)


def _budget(epochs: int | None, total_steps: int | None, per_epoch: int | None) -> int:
    if (epochs is None) == (total_steps is None):
        raise InputError("the budget must be given once; pass either --epochs or --total-steps")
    if total_steps is not None:
        return total_steps
    if per_epoch is None:
        raise InputError(
            "the record does not say how many steps an epoch has; pass --total-steps instead"
        )
    assert epochs is not None
    return epochs * per_epoch


def recipe_pairs(recipe: Recipe) -> dict[str, str]:
    """Word a recipe for people."""
    points = recipe.stopping_points
    shown = ", ".join(f"{point:,}" for point in points[:8]) + (" …" if len(points) > 8 else "")
    total = recipe.total_steps
    return {
        "policy": recipe.lr.kind,
        **{name: _course(schedule, total) for name, schedule in recipe.schedules.items()},
        "steps": f"{total:,}",
        "stopping points": shown,
        **{f"note {i}": note for i, note in enumerate(recipe.notes, start=1)},
    }


def _course(schedule: Schedule, total: int) -> str:
    """Word a schedule's course: where it begins, how far it goes, where it ends."""
    # Of recipes beyond a million steps some only: the ends, and even distances.
    values = schedule(np.linspace(0, total - 1, min(total, _SEEN)).round().astype(np.int64))
    low, high = float(values.min()), float(values.max())
    return f"{values[0]:.4g} at first, from {low:.4g} to {high:.4g}, {values[-1]:.4g} at last"
