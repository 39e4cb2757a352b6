"""``cyclr fit``: find, plan, train, stop at the end of a cycle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyclr.cli.options import (
    AsJson,
    DataDir,
    Epochs,
    Seed,
    TaskName,
    check_choice,
    print_json,
    print_pairs,
    progress,
    reading_pairs,
    say,
    watch_sweep,
)
from cyclr.cli.plan import recipe_pairs
from cyclr.errors import InputError
from cyclr.rangetest.rules import RULES
from cyclr.recipe import POLICIES, Recipe
from cyclr.recipe import plan as make_plan

if TYPE_CHECKING:
    from cyclr.experiments.pipeline import Parts
    from cyclr.training import Run


def fit(
    task: TaskName,
    data_dir: DataDir = None,
    epochs: Epochs = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="one_cycle (the default), triangular, triangular2, exp_range or warm_restarts.",
        ),
    ] = None,
    rule: Annotated[str | None, typer.Option(help="knee, decade or accuracy.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Run this recipe instead of finding one.")
    ] = None,
    find_steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=2,
            help="Length of the range test; by default a tenth of the budget, from 60 to 100.",
        ),
    ] = None,
    seed: Seed = 0,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16.")] = "no",
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="The run's folder; must be new.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Range test, plan, training: ends at the end of a cycle and keeps the run in a folder."""
    from cyclr.experiments.pipeline import build, train
    from cyclr.experiments.tasks import load_task
    from cyclr.report.plots import check_picture, range_figure, run_figure, save
    from cyclr.training import RunFolder
    from cyclr.training.fit import check_precision

    check_choice("--policy", policy, POLICIES)
    check_choice("--rule", rule, [name for name in RULES if name != "accuracy"])
    check_precision(precision)
    check_picture("plot.png")
    if out is not None:
        RunFolder(out)
    given = None if recipe is None else Recipe.load(recipe)
    if given is not None and (epochs, policy, rule, find_steps) != (None, None, None, None):
        raise InputError(
            "--recipe says how long to train and how; leave out --epochs, --policy, --rule and "
            "--steps, or leave out --recipe"
        )
    loaded = load_task(task, data_dir)
    parts = build(loaded, seed=seed)
    budget = (loaded.epochs if epochs is None else epochs) * parts.steps_per_epoch
    folder = Path(_fresh(loaded.name) if out is None else out)
    record = reading = None
    if given is None:
        steps = min(100, max(60, budget // 10)) if find_steps is None else find_steps
        record, reading = _find(parts, steps, rule)
        given = make_plan(reading, total_steps=budget, policy=policy or "one_cycle")
        for line in given.notes:
            say(line)
    run = _train(train, parts, given, folder, record, reading, precision)
    if record is not None:
        save(range_figure(record, reading), folder / "range_test.png")
    save(run_figure(folder), folder / "plot.png")
    _report(run, reading, as_json)


def _fresh(name: str) -> str:
    """Name a run folder that does not exist."""
    stem = f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = (f"{stem}-{i}" for i in range(1, 1000))
    return stem if not Path(stem).exists() else next(p for p in taken if not Path(p).exists())


def _find(parts: Parts, steps: int, rule: str | None) -> tuple[Any, Any]:
    from cyclr.experiments.pipeline import find

    with progress("range test", steps) as update:
        record = find(parts, steps=steps, on_step=watch_sweep(update))
    reading = record.read(rule)
    say(
        f"range test: {record.outcome.value} after {len(record)} steps; "
        f"base_lr {reading.base_lr:.3g}, max_lr {reading.max_lr:.3g}"
    )
    return record, reading


def _train(
    train: Any,
    parts: Parts,
    recipe: Recipe,
    folder: Path,
    record: Any,
    reading: Any,
    precision: str,
) -> Run:
    points = recipe.stopping_points
    kept: list[int] = []

    with progress("training", recipe.total_steps) as update:

        def on_step(line: Mapping[str, Any]) -> None:
            stop = next(point for point in points if point > line["step"])
            text = f"lr {line['lr']:.2e} loss {line['loss']:.4g} cycle ends at {stop}"
            update(line["step"] + 1, text)

        def on_stopping_point(step: int, metrics: Mapping[str, float]) -> None:
            kept.append(step)
            found = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            say(f"step {step:,}: {found or 'no validation data'}")

        try:
            run: Run = train(
                parts,
                recipe,
                folder=folder,
                record=record,
                reading=None if reading is None else reading.to_dict(),
                mixed_precision=precision,
                on_step=on_step,
                on_stopping_point=on_stopping_point,
            )
        except KeyboardInterrupt:
            last = f"the last checkpoint is of step {kept[-1]:,}" if kept else "no checkpoint yet"
            say(f"training interrupted; {folder} keeps what there is, {last}")
            raise
    return run


def _report(run: Run, reading: Any, as_json: bool) -> None:
    if as_json:
        found = None if reading is None else reading.to_dict()
        print_json({**run.to_dict(), "reading": found, "recipe": run.recipe.to_dict()})
        return
    print_pairs(
        {
            **({} if reading is None else reading_pairs(reading)),
            **recipe_pairs(run.recipe),
            "ended": run.outcome,
            **{name: f"{value:.4f}" for name, value in run.metrics.items()},
            "folder": str(run.folder),
        }
    )
