"""``cyclr show``: draw schedules or recipes, a run, or a range test's record."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from cyclr import jsonfile
from cyclr.cli.looking import look
from cyclr.cli.options import AsJson, Plot, check_choice, check_plot, print_json, say
from cyclr.errors import InputError, SpecError
from cyclr.rangetest.rules import RULES
from cyclr.recipe import Recipe
from cyclr.schedules import Schedule, Units, from_dict


def show(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC…",
            help="JSON or TOML files of schedules or recipes, or JSON itself, several to compare; "
            "or one run's or tune's folder, one range test's record.json or reading.json, or one "
            "reproduced run.",
        ),
    ],
    steps: Annotated[
        int | None, typer.Option(min=2, help="How many steps to draw; needed by endless schedules.")
    ] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option(min=1, help='Lets durations be written as "4ep".')
    ] = None,
    total_steps: Annotated[
        int | None,
        typer.Option(min=1, help='Lets durations be written as "0.3run"; as --steps if left out.'),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="Read the record by this rule, such as knee or decade.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Read this metric of the record, or the loss.")
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Draw schedules, a run or a range test: in the terminal, as a picture, or as JSON."""
    check_plot(plot)
    check_choice("--rule", rule, RULES)
    if len(specs) > 1 and (rule is not None or metric is not None):
        raise InputError("--rule and --metric read one range test's record; name that alone")
    drawer = look(specs[0], rule, metric) if len(specs) == 1 else None
    if drawer is not None:
        drawer(specs[0], plot, as_json=as_json)
        return
    for spec in specs if len(specs) > 1 else ():
        if look(spec) is not None:
            raise InputError(f"{spec} is no schedule or recipe, and is shown alone; name only it")
    units = Units(steps_per_epoch=steps_per_epoch, total_steps=total_steps or steps)
    loaded = [_load(spec, units) for spec in specs]
    lengths = [length for _, length in loaded if length is not None]
    drawn = steps or max(lengths, default=total_steps)
    if drawn is None:
        raise InputError("this schedule never ends; say how much to draw with --steps")
    curves = _named([found for found, _ in loaded], specs)
    if plot is not None:
        from cyclr.report.plots import save, schedule_figure

        save(schedule_figure(curves, steps=drawn), plot)
        say(f"picture saved to {plot}")
    if as_json:
        values = {
            name if len(specs) == 1 else f"{name} {label}": curve(np.arange(drawn)).tolist()
            for name, members in curves.items()
            for label, curve in members.items()
        }
        print_json(values)
        return
    from cyclr.report.terminal import chart

    at: Any = np.unique(np.linspace(0, drawn - 1, min(drawn, 4000)).astype(np.int64))
    sampled = {
        name: {label: curve(at) for label, curve in members.items()}
        for name, members in curves.items()
    }
    typer.echo(chart(sampled, x_max=drawn - 1))


Curves = dict[str, Schedule]


def _named(found: list[Curves], specs: list[str]) -> dict[str, Curves]:
    """Put the same hyper-parameter of several specs together, labelled by where they come from."""
    together: dict[str, Curves] = {}
    for number, (curves, spec) in enumerate(zip(found, specs, strict=True), start=1):
        label = f"{number}: {spec if len(spec) <= 40 else spec[:38] + ' …'}"
        for name, curve in curves.items():
            together.setdefault(name, {})[label] = curve
    return together


def _load(spec: str, units: Units) -> tuple[Curves, int | None]:
    if spec.lstrip().startswith("{"):
        try:
            return _curves(jsonfile.parse(spec), "schedule", units)
        except SpecError:
            raise
        except ValueError as error:
            raise InputError(f"a schedule must be written as JSON: {error}") from error
    if not Path(spec).exists():
        raise InputError(
            f"there is no file {spec}; pass a schedule's or recipe's JSON file, or JSON such as "
            '\'{"kind": "triangular", "base_lr": 0.1, "max_lr": 1, "stepsize": 100}\''
        )
    if spec.endswith(".toml"):
        try:
            data = tomllib.loads(Path(spec).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{spec} is not a schedule: it is not TOML ({error})") from error
    else:
        data = jsonfile.read(spec, what="a schedule or recipe")
    try:
        return _curves(data, spec, units)
    except SpecError as error:
        named = "" if spec in str(error) else f"{spec}: "
        raise SpecError(f"{named}{error}") from error


def _curves(data: Any, where: str, units: Units) -> tuple[Curves, int | None]:
    if isinstance(data, dict) and "cyclr_recipe" in data:
        recipe = Recipe.from_dict(data, units=units)
        return recipe.schedules, recipe.total_steps
    schedule = from_dict(data, where=where, units=units)
    return {"lr": schedule}, schedule.total_steps
