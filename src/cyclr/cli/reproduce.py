"""``cyclr reproduce``: a paper's table, ours beside theirs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cyclr.cli.options import DataDir, say

_EVERY = 300.0  # seconds between lines about a run


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(metavar="TABLE", help="Such as clr-table1; without one, list them."),
    ] = None,
    tier: Annotated[str, typer.Option(help="full, cpu (scaled to a small machine), smoke.")] = "cpu",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ROW", help="Run these rows only.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,…", help="In place of the tier's own seeds.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at a time.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster instead.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each run.")] = None,
    data_dir: DataDir = None,
    papers: Annotated[str | None, typer.Option(help="Folder of the grids.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Folder of the checkpoints; by default in the user's cache.")
    ] = None,
) -> None:
    """Run what a table is missing, going on where it was cut off, and print it beside the paper's.
    """
    from cyclr.experiments.grid import SMOKE, find_papers, get_grid, selected
    from cyclr.experiments.runner import Options, jobs_of, run_missing
    from cyclr.experiments.store import cache_home

    grid = get_grid(find_papers(papers), name or "")
    chosen = None if seeds is None else [int(seed) for seed in seeds.split(",")]
    home = cache_home() / "papers" if store is None else Path(store)
    results = home / "results" if tier == SMOKE else None  # first steps are no evidence to keep
    options = Options(data_dir=data_dir, store=home, results=results, threads=threads)
    wanted = jobs_of(grid, tier, selected(grid.rows, only or [], grid), chosen)
    run_missing(wanted, options, workers=jobs, ray=ray, tell=say, watch=_watch)


def _watch(job: Any) -> Any:
    """Say every five minutes how far a run is."""
    said = time.monotonic()

    def watch(trainer: Any) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _EVERY:
            said = now
            last = trainer.curves.evaluations[-1:]
            accuracy = f", {100 * last[0]['accuracy']:.2f} % last" if last else ""
            say(f"{job.name}: {trainer.step:,} of {trainer.spec.steps:,}{accuracy}")

    return watch
