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
    Policy,
    Seed,
    Steps,
    TaskName,
    check_choice,
    print_json,
    print_pairs,
    progress,
    reading_pairs,
    say,
    watch_sweep,
)
from cyclr.recipe import POLICIES, Recipe
from cyclr.recipe import plan as make_plan

if TYPE_CHECKING:
    from cyclr.experiments.pipeline import Parts
    from cyclr.training import Run


def fit(
    task: TaskName,
    data_dir: DataDir = None,
    epochs: Epochs = None,
    policy: Policy = "one_cycle",
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Run this recipe instead of finding one.")
    ] = None,
    find_steps: Steps = 100,
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
    check_precision(precision)
    check_picture("plot.png")
    if out is not None:
        RunFolder(out)
    given = None if recipe is None else Recipe.load(recipe)
    loaded = load_task(task, data_dir)
    parts = build(loaded, seed=seed)
    budget = (loaded.epochs if epochs is None else epochs) * parts.steps_per_epoch
    folder = Path(_fresh(loaded.name) if out is None else out)
    record = reading = None
    if given is None:
        record, reading = _find(parts, min(find_steps, max(10, budget // 5)))
        given = make_plan(reading, total_steps=budget, policy=policy)
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


def _find(parts: Parts, steps: int) -> tuple[Any, Any]:
    from cyclr.experiments.pipeline import find

    with progress("range test", steps) as update:
        record = find(parts, steps=steps, on_step=watch_sweep(update))
    reading = record.read()
    say(f"range test: base_lr {reading.base_lr:.3g}, max_lr {reading.max_lr:.3g}")
    for caveat in reading.caveats:
        say(f"caveat: {caveat}")
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

    with progress("training", recipe.total_steps) as update:

        def on_step(line: Mapping[str, Any]) -> None:
            stop = next(point for point in points if point > line["step"])
            text = f"lr {line['lr']:.2e} loss {line['loss']:.4g} cycle ends at {stop}"
            update(line["step"] + 1, text)

        def on_stopping_point(step: int, metrics: Mapping[str, float]) -> None:
            found = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            say(f"step {step:,}: {found}")

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
    return run


def _report(run: Run, reading: Any, as_json: bool) -> None:
    if as_json:
        found = None if reading is None else reading.to_dict()
        print_json({**run.to_dict(), "reading": found, "recipe": run.recipe.to_dict()})
        return
    print_pairs(
        {
            **({} if reading is None else reading_pairs(reading)),
            "steps": f"{run.steps:,}",
            "ended": run.outcome,
            **{name: f"{value:.4f}" for name, value in run.metrics.items()},
            "folder": str(run.folder),
        }
    )
