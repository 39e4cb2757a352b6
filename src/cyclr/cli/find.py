"""``cyclr find``: a range test on a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from cyclr.cli.options import (
    Accumulate,
    AsJson,
    DataDir,
    Force,
    MaxGradNorm,
    Plot,
    Precision,
    Seed,
    Steps,
    TaskName,
    check_choice,
    check_new_file,
    check_plot,
    is_main,
    print_json,
    print_pairs,
    progress,
    reading_pairs,
    say,
    update_settings,
    watch_sweep,
)
from cyclr.errors import InputError
from cyclr.rangetest import RangeTest
from cyclr.rangetest.rules import RULES
from cyclr.schedules import ExponentialSweep, LinearSweep


def find(
    task: TaskName,
    data_dir: DataDir = None,
    steps: Steps = 100,
    start_lr: Annotated[
        float | None, typer.Option(help="First rate of the sweep; found by itself if left out.")
    ] = None,
    end_lr: Annotated[
        float | None, typer.Option(help="Last rate of the sweep; found by itself if left out.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Sweeps, each with other batches: the median is taken.")
    ] = 1,
    linear: Annotated[
        bool, typer.Option("--linear", help="Raise the rate linearly and measure accuracy (Smith).")
    ] = False,
    validate: Annotated[
        bool, typer.Option("--validate", help="Measure the validation metrics along the way.")
    ] = False,
    validate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="… every so many steps; by default every twentieth part of the sweep, or every "
            "step where an epoch has twenty or fewer.",
        ),
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Such as edge, basin, knee.")] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="Read this metric, such as val_loss, or the loss; by default val_loss where an "
            "epoch has twenty updates or fewer."
        ),
    ] = None,
    precision: Precision = None,
    accumulate: Accumulate = None,
    max_grad_norm: MaxGradNorm = None,
    seed: Seed = 0,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE.json", help="Save the record.")
    ] = None,
    force: Force = False,
    plot: Plot = None,
    as_json: AsJson = False,
) -> None:
    """Run a learning rate range test: bounds, a picture, the record as JSON."""
    check_new_file(out, force=force)
    check_plot(plot)
    asked = metric not in (None, "loss")
    measured = linear or validate or validate_every is not None or asked
    check_choice("--rule", rule, RULES if measured else [n for n in RULES if n != "accuracy"])
    if rule == "accuracy" and metric is not None and not metric.endswith("accuracy"):
        raise InputError(f"--rule accuracy reads an accuracy, and --metric is {metric}")
    update = update_settings(precision, accumulate, max_grad_norm)
    from cyclr.experiments.pipeline import build
    from cyclr.experiments.pipeline import find as run_find
    from cyclr.experiments.tasks import load_task

    sweep = _sweep(steps, start_lr, end_lr, linear)
    parts = build(load_task(task, data_dir), seed=seed)
    with progress("range test", sweep.steps * repeats) as show, _kept(sweep, out):
        record = run_find(
            parts,
            sweep=sweep,
            repeats=repeats,
            # Where none is named, what is read depends on how much data there is.
            validate=measured or (None if metric is None and rule != "accuracy" else False),
            validate_every=validate_every,
            on_step=_checked(watch_sweep(show, repeats), metric if asked else None),
            **update,
        )
    for note in record.notes:
        say(note)
    if out is not None:  # before it is read: a rule that does not fit must not lose it
        record.save(out)
        say(f"record saved to {out}")
    reading = record.read(rule, metric)
    if plot is not None:
        from cyclr.report.plots import range_figure, save

        save(range_figure(record, reading), plot)
        say(f"picture saved to {plot}")
    if as_json:
        print_json({**reading.to_dict(), "record": record.to_dict()})
    else:
        print_pairs(reading_pairs(reading))


@contextmanager
def _kept(test: RangeTest, out: str | None) -> Iterator[None]:
    """Save what an interrupted sweep has seen, where its record was to be saved."""
    try:
        yield
    except KeyboardInterrupt:
        if out is not None and is_main() and len(test.record):
            test.record.save(out)
            say(f"interrupted after {test.record.updates} updates; their record is saved to {out}")
        raise


def _checked(watch: Callable[[RangeTest], None], metric: str | None) -> Callable[..., None]:
    """Refuse, after the first validation, a metric that the task does not give."""

    def on_step(test: RangeTest) -> None:
        if metric is not None and test.step == 1 and metric not in test.record.metrics:
            known = ", ".join(sorted(test.record.metrics))
            raise InputError(f"the task gives no metric {metric!r}; it gives {known}")
        watch(test)

    return on_step


def _sweep(steps: int, start_lr: float | None, end_lr: float | None, linear: bool) -> RangeTest:
    """Make the test asked for, which finds its own range where no end is given."""
    if linear:
        low, high = (0.0 if start_lr is None else start_lr, 0.02 if end_lr is None else end_lr)
        return RangeTest(LinearSweep(start_lr=low, end_lr=high, steps=steps))
    if end_lr is None:
        return RangeTest(steps=steps, start_lr=start_lr)
    low = 1e-7 if start_lr is None else start_lr
    return RangeTest(ExponentialSweep(start_lr=low, end_lr=end_lr, steps=steps))
