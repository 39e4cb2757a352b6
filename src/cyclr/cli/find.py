"""``cyclr find``: a range test on a task."""

from __future__ import annotations

from typing import Annotated

import typer

from cyclr.cli.options import (
    AsJson,
    DataDir,
    Plot,
    Seed,
    Steps,
    TaskName,
    check_choice,
    check_new_file,
    check_plot,
    print_json,
    print_pairs,
    progress,
    reading_pairs,
    say,
    watch_sweep,
)
from cyclr.rangetest.rules import RULES


def find(
    task: TaskName,
    data_dir: DataDir = None,
    steps: Steps = 100,
    start_lr: Annotated[float | None, typer.Option(help="First rate of the sweep.")] = None,
    end_lr: Annotated[float | None, typer.Option(help="Last rate of the sweep.")] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Raise the rate linearly and measure accuracy (Smith).")
    ] = False,
    rule: Annotated[str | None, typer.Option(help="knee, decade or accuracy.")] = None,
    seed: Seed = 0,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE.json", help="Save the record.")
    ] = None,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Run a learning rate range test: bounds, a picture, the record as JSON."""
    check_new_file(out)
    check_plot(plot)
    check_choice("--rule", rule, RULES if linear else [n for n in RULES if n != "accuracy"])
    from cyclr.experiments.pipeline import build
    from cyclr.experiments.pipeline import find as run_find
    from cyclr.experiments.tasks import load_task
    from cyclr.schedules import ExponentialSweep, LinearSweep

    if linear:
        low, high = (0.0 if start_lr is None else start_lr, 0.02 if end_lr is None else end_lr)
        sweep: ExponentialSweep | LinearSweep = LinearSweep(start_lr=low, end_lr=high, steps=steps)
    else:
        low, high = (1e-7 if start_lr is None else start_lr, 10.0 if end_lr is None else end_lr)
        sweep = ExponentialSweep(start_lr=low, end_lr=high, steps=steps)
    parts = build(load_task(task, data_dir), seed=seed)
    with progress("range test", steps) as update:
        record = run_find(parts, sweep=sweep, validate=linear, on_step=watch_sweep(update))
    reading = record.read(rule)
    if out is not None:
        record.save(out)
        say(f"record saved to {out}")
    if plot is not None:
        from cyclr.report.plots import range_figure, save

        save(range_figure(record, reading), plot)
        say(f"picture saved to {plot}")
    if as_json:
        print_json({**reading.to_dict(), "record": record.to_dict()})
    else:
        print_pairs(reading_pairs(reading))
