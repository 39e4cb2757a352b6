"""The part of ``cyclr show`` that draws runs and range tests."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Protocol

import numpy as np
import typer

from cyclr import jsonfile
from cyclr.cli.options import print_json, print_pairs, reading_pairs, say
from cyclr.errors import CyclrError, InputError
from cyclr.rangetest import RangeRecord, Reading
from cyclr.rangetest.record import rises
from cyclr.schedules import LinearSweep


class Draw(Protocol):
    """Draws what is in a place."""

    def __call__(self, place: str, plot: str | None, *, as_json: bool) -> None:
        """Draw in the terminal, as a picture, or as JSON."""


def look(place: str, rule: str | None = None, metric: str | None = None) -> Draw | None:
    """Say what draws a run's folder or a range test's record; None for anything else.

    Args:
        place: A folder or a file.
        rule: By which a record is to be read.
        metric: That is to be read in place of the loss.

    Raises:
        InputError: A rule or a metric is given, and this is no record.
    """
    draw = _drawer(place)
    if draw is show_record:
        return functools.partial(show_record, rule=rule, metric=metric)
    if rule is not None or metric is not None:
        raise InputError(
            f"--rule and --metric read a range test's record, and {place} is none; leave them out"
        )
    return draw


def _drawer(place: str) -> Draw | None:
    try:
        if (Path(place) / "request.json").is_file() and (Path(place) / "trials").is_dir():
            return show_tune
        if Path(place).is_dir():
            return show_run
        data = json.loads(Path(place).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # whatever it is, the one who reads it as a schedule says what is wrong
    if not isinstance(data, dict):
        return None
    return next((draw for key, draw in _FILES.items() if key in data), None)


def show_run(place: str, plot: str | None, *, as_json: bool) -> None:
    """Draw a run's loss, accuracy and rate, with its cycle ends marked."""
    from cyclr.report.plots import run_figure, save
    from cyclr.report.runs import run_chart
    from cyclr.training.run import read_metrics

    drawn = run_chart(place)
    if plot is not None:
        save(run_figure(place), plot)
        say(f"picture saved to {plot}")
    if as_json:
        print_json(read_metrics(place))
        return
    typer.echo(drawn)


def show_tune(place: str, plot: str | None, *, as_json: bool) -> None:
    """Print what a tune tried, and what it means."""
    if plot is not None:
        raise InputError(f"{place} is a tune, of which there is no picture; leave out --plot")
    path = Path(place) / "result.json"
    if not path.is_file():
        raise InputError(f"the tune in {place} has not finished; go on with it by cyclr tune")
    result = jsonfile.read(path, what="a tune's result")
    if as_json:
        print_json(result)
        return
    typer.echo((path.parent / "table.md").read_text(encoding="utf-8"))
    typer.echo("\n".join([f"{result['words']}\n", *result["remarks"]]))
    typer.echo(f"recipe  {path.parent / 'recipe.json'}")


def show_record(
    place: str,
    plot: str | None,
    *,
    as_json: bool,
    rule: str | None = None,
    metric: str | None = None,
) -> None:
    """Draw a range test's loss over the rate, and say what is read off it."""
    from cyclr.report.plots import range_figure, save
    from cyclr.report.terminal import chart

    record = RangeRecord.load(place)
    reading = None
    try:
        reading = record.read(rule, metric)
    except CyclrError as error:
        if rule is not None or metric is not None:
            raise  # what was asked for cannot be had
        say(f"no bounds: {error}")
    if plot is not None:
        save(range_figure(record, reading), plot)
        say(f"picture saved to {plot}")
    if as_json:
        print_json({**record.to_dict(), "reading": None if reading is None else reading.to_dict()})
        return
    if not len(record):
        raise InputError(f"{place} holds no updates, so there is nothing to draw")
    lr, values = np.asarray(record.lr), np.asarray(record.loss)
    metric = metric if reading is None else reading.metric
    if metric is not None:
        series = record.metrics[metric]
        lr, values = lr[list(series.steps)], np.asarray(series.values)
    rising = metric is not None and rises(metric)
    shown = (-_below_ceiling(-values) if rising else _below_ceiling(values)).tolist()
    kind = "lr, linear" if isinstance(record.sweep, LinearSweep) else "lr, log"
    marks = [] if reading is None else [_place(lr, reading.base_lr), _place(lr, reading.max_lr)]
    ends = (f"{lr[0]:.3g}", f"{lr[-1]:.3g} ({kind})")
    drawn = {metric or "loss": {"": shown}}
    typer.echo(chart(drawn, x_max=len(lr) - 1, marks=marks, axis=ends))
    if reading is not None:
        print_pairs(reading_pairs(reading))


def show_reading(place: str, plot: str | None, *, as_json: bool) -> None:
    """Say what was read off a range test."""
    if plot is not None:
        raise InputError(f"{place} has the bounds and no losses; draw the record.json beside it")
    reading = Reading.load(place)
    if as_json:
        print_json(reading.to_dict())
    else:
        print_pairs(reading_pairs(reading))


def show_result(place: str, plot: str | None, *, as_json: bool) -> None:
    """Draw a finished run of a paper's table, and say what it reached when."""
    from cyclr.report.papers import accuracy_figure, result_chart, result_facts
    from cyclr.report.plots import save

    result = jsonfile.read(place, what="a finished run")
    name = f"{result['grid']}, tier {result['tier']}: {result['row']}, seed {result['seed']}"
    if plot is not None:
        save(accuracy_figure(name, {result["row"]: [result]}), plot)
        say(f"picture saved to {plot}")
    if as_json:
        print_json(result)
        return
    typer.echo(f"{name}\n\n{result_chart(result)}\n")
    print_pairs(result_facts(result))


def _below_ceiling(values: np.ndarray) -> np.ndarray:
    """Cut off what explodes at the end, which would flatten everything else.

    No higher above the first values than the lowest lies below them, or half their size.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros_like(values)
    start = float(np.median(finite[: max(1, finite.size // 10)]))
    room = max(start - float(finite.min()), abs(start) / 2)
    ceiling = start + room if room else float(finite.max())
    return np.where(np.isfinite(values), np.minimum(values, ceiling), ceiling)


def _place(lr: np.ndarray, value: float) -> float:
    """Find where among the sweep's rates a value lies."""
    inside = min(max(value, float(lr[0])), float(lr[-1]))
    return float(np.argmin(np.abs(lr - inside))) if math.isfinite(inside) else 0.0


_FILES: dict[str, Draw] = {
    "cyclr_record": show_record,
    "cyclr_reading": show_reading,
    "cyclr_result": show_result,
}
