"""``cyclr show``: draw a schedule or a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cyclr import jsonfile
from cyclr.cli.options import AsJson, Plot, check_plot, print_json, say
from cyclr.errors import InputError
from cyclr.recipe import Recipe
from cyclr.schedules import Schedule, from_dict


def show(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="A schedule's or recipe's JSON file, or JSON itself."),
    ],
    steps: Annotated[
        int | None, typer.Option(min=2, help="How many steps to draw; needed by endless schedules.")
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Draw a schedule: in the terminal, as a picture, or its values as JSON."""
    check_plot(plot)
    curves, length = _load(spec)
    length = steps or length
    if length is None:
        raise InputError("this schedule never ends; say how much to draw with --steps")
    if plot is not None:
        from cyclr.report.plots import save, schedule_figure

        save(schedule_figure(curves, steps=length), plot)
        say(f"picture saved to {plot}")
    if as_json:
        print_json({name: curve(np.arange(length)).tolist() for name, curve in curves.items()})
        return
    from cyclr.report.terminal import chart

    at: Any = np.unique(np.linspace(0, length - 1, min(length, 4000)).astype(np.int64))
    typer.echo(chart({name: curve(at) for name, curve in curves.items()}, x_max=length - 1))


def _load(spec: str) -> tuple[dict[str, Schedule], int | None]:
    if spec.lstrip().startswith("{"):
        try:
            return _curves(json.loads(spec), "schedule")
        except json.JSONDecodeError as error:
            raise InputError(f"a schedule must be written as JSON: {error}") from error
    if not Path(spec).exists():
        raise InputError(
            f"there is no file {spec}; pass a schedule's or recipe's JSON file, or JSON such as "
            '\'{"kind": "triangular", "base_lr": 0.1, "max_lr": 1, "stepsize": 100}\''
        )
    return _curves(jsonfile.read(spec, what="a schedule or recipe"), spec)


def _curves(data: Any, where: str) -> tuple[dict[str, Schedule], int | None]:
    if isinstance(data, dict) and "cyclr_recipe" in data:
        recipe = Recipe.from_dict(data)
        return recipe.schedules, recipe.total_steps
    schedule = from_dict(data, where=where)
    return {"lr": schedule}, schedule.total_steps
