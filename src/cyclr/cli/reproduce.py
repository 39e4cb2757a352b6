"""``cyclr reproduce``: a paper's table, ours beside theirs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cyclr.cli.options import AsJson, print_json, print_pairs, say
from cyclr.errors import InputError

_EVERY = 300.0  # seconds between lines about a run


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(metavar="TABLE", help="Such as clr-table1; without one, list them."),
    ] = None,
    tier: Annotated[
        str, typer.Option(help="full (the paper's scale), cpu (scaled) or smoke (first steps).")
    ] = "cpu",
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ROW", help="Run these rows only.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,…", help="In place of the tier's own seeds.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time on this machine.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on this Ray cluster instead; auto to find it."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each run.")] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(help="Folder that holds cifar10/ and tiny-imagenet-100/; else the hub."),
    ] = None,
    papers: Annotated[str | None, typer.Option(help="Folder of the grids; ./papers.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Folder of the checkpoints; in the user's cache.")
    ] = None,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Only make the table from finished runs.")
    ] = False,
    out: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write table and figures here as well.")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(metavar="FILE.md", help="Write the page of all tables, with figures."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Reproduce a paper's table: run what is missing, and print ours beside theirs.

    What was cut off goes on where it was. Finished runs are kept beside the grids.
    """
    from cyclr.experiments.grid import SMOKE, all_grids, find_papers, get_grid
    from cyclr.experiments.runner import Options, jobs_of, run_missing
    from cyclr.experiments.store import cache_home

    home = find_papers(papers)
    if page is not None:
        _write_page(all_grids(home), page)
    if name is None:
        if page is None:
            print_pairs({grid.name: grid.title for grid in all_grids(home).values()})
        return
    grid = get_grid(home, name)
    rows = grid.rows_of(tier, only or [])
    kept = cache_home() / "papers" if store is None else Path(store)
    # First steps are no evidence to keep beside the grids.
    results = kept / "first-steps" if tier == SMOKE else None
    if not no_run:
        options = Options(data_dir=data_dir, store=kept, results=results, threads=threads)
        wanted = jobs_of(grid, tier, rows, _seeds(seeds))
        run_missing(wanted, options, workers=jobs, ray=ray, tell=say, watch=_watch)
    _show(grid, all_grids(home), tier, results, out, as_json)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--seeds must be whole numbers and commas, got {text!r}") from None


def _write_page(grids: Any, path: str) -> None:
    from cyclr.experiments.page import page as make_page
    from cyclr.jsonfile import write_text
    from cyclr.report.papers import picture_files, save_pictures

    write_text(path, make_page(grids, pictures=picture_files(grids)))
    save_pictures(grids, Path(path).parent)
    say(f"page written to {path}")


def _show(grid: Any, grids: Any, tier: str, results: Any, out: str | None, as_json: bool) -> None:
    """Print the table, and write it with its figures where asked."""
    from cyclr import jsonfile
    from cyclr.experiments.table import Evidence, load_results, markdown, rows

    found = load_results(grid, tier, results)
    entries = rows(grid, tier, found)
    verdicts = [
        {"claim": claim.text, "verdict": verdict}
        for claim, verdict in Evidence(grids, results).verdicts(grid)
        if claim.tier == tier
    ]
    data = {"table": grid.name, "tier": tier, "rows": entries, "claims": verdicts}
    if as_json:
        print_json(jsonfile.plain(data))
    else:
        typer.echo(f"{grid.title} ({grid.source}), tier {tier}\n\n{markdown(entries)}")
        for entry in verdicts:
            typer.echo(f"{entry['claim']}: {entry['verdict']}")
    if out is not None:
        _write(Path(out), grid, tier, data, markdown(entries), found)


def _write(folder: Path, grid: Any, tier: str, data: Any, table: str, found: Any) -> None:
    from cyclr import jsonfile
    from cyclr.report.papers import figures, labelled
    from cyclr.report.plots import save

    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{grid.name}-{tier}"
    jsonfile.write(folder / f"{stem}.json", data)
    jsonfile.write_text(folder / f"{stem}.md", table)
    for what, figure in figures(grid.title, labelled(grid, tier, found)).items():
        save(figure, folder / f"{stem}-{what}.png")
    say(f"table and figures written to {folder}")


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
