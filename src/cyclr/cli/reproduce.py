"""``cyclr reproduce``: a paper's table, ours beside theirs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
        str | None,
        typer.Option(
            help="full (the paper's scale), cpu (scaled) or smoke (first steps); cpu where the "
            "table has it, else full.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ROW", help="Run and print these rows only."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="0,1,…", help="Run these in place of the tier's own seeds."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time on this machine.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on this Ray cluster instead; auto to find it."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each run.")] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            help="Folder that holds cifar10/, tiny-imagenet-100/, imagenet/ and fashion-mnist/ "
            "(those that the table needs); else the hub, and Debian's package of the last."
        ),
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
    from cyclr.experiments.grid import all_grids, find_papers, get_grid
    from cyclr.experiments.runner import Options, jobs_of, run_missing

    home = find_papers(papers)
    _check_places(page, out)
    grids = all_grids(home)  # before hours are spent: claims look at other tables
    if name is None:
        _without_table(grids, page, tier=tier, seeds=seeds, only=only, as_json=as_json)
        return
    grid = get_grid(home, name)
    tier = tier or _usual_tier(grid)
    rows, wanted_seeds = grid.rows_of(tier, only or []), _seeds(seeds)
    with _places(tier, store) as (kept, results):
        if not no_run:
            options = Options(data_dir=data_dir, store=kept, results=results, threads=threads)
            wanted = jobs_of(grid, tier, rows, wanted_seeds)
            run_missing(wanted, options, workers=jobs, ray=ray, tell=say, watch=_watch)
        _show(grid, grids, tier, [row.name for row in rows], results, out, as_json)
    if page is not None:
        _write_page(grids, page)


def _check_places(page: str | None, out: str | None) -> None:
    """Refuse places that cannot be written to, before anything is run."""
    from cyclr.experiments.store import check_writable

    if page is not None:
        if Path(page).is_dir():
            raise InputError(f"--page must name a file, got the folder {page}; add a name")
        check_writable(Path(page).absolute().parent)
    if out is not None:
        check_writable(Path(out))


def _without_table(
    grids: Any, page: str | None, *, as_json: bool, **of_a_table: str | list[str] | None
) -> None:
    """Write the page, or list the tables."""
    for option, value in of_a_table.items():
        if value:
            raise InputError(f"--{option} is for one table; name it, such as {next(iter(grids))}")
    if page is not None:
        _write_page(grids, page)
    else:
        _list(grids, as_json)


def _list(grids: Any, as_json: bool) -> None:
    """List the tables, with how many of the runs that each tier asks for are finished."""
    from cyclr.experiments.runner import Options, finished, jobs_of

    listed: dict[str, Any] = {}
    for grid in grids.values():
        tiers = {}
        for tier in grid.tiers:
            wanted = jobs_of(grid, tier, grid.rows_of(tier))
            done = sum(finished(job, Options()) is not None for job in wanted)
            tiers[tier] = {"finished": done, "wanted": len(wanted)}
        listed[grid.name] = {"title": grid.title, "tiers": tiers}
    if as_json:
        print_json(listed)
        return
    words = {
        name: ", ".join(f"{t} {n['finished']}/{n['wanted']}" for t, n in entry["tiers"].items())
        for name, entry in listed.items()
    }
    print_pairs({name: f"{entry['title']} ({words[name]})" for name, entry in listed.items()})


def _usual_tier(grid: Any) -> str:
    tier = next((tier for tier in ("cpu", "full") if tier in grid.tiers), next(iter(grid.tiers)))
    say(f"{grid.name}: tier {tier}, of {', '.join(grid.tiers)}, smoke; choose with --tier")
    return tier


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            f"--seeds must be whole numbers ≥ 0 with commas between, got {text!r}; "
            "write such as --seeds 0,1"
        )
    return [int(part) for part in parts]


@contextmanager
def _places(tier: str, store: str | None) -> Iterator[tuple[Path, Path | None]]:
    """Say where checkpoints and results go; None for beside the grids."""
    from cyclr.experiments.smoke import SMOKE
    from cyclr.experiments.store import cache_home

    if tier != SMOKE:
        yield cache_home() / "papers" if store is None else Path(store), None
        return
    # First steps are no evidence to keep.
    with tempfile.TemporaryDirectory(prefix="cyclr-smoke-") as folder:
        yield Path(folder) / "checkpoints", Path(folder) / "results"


def _write_page(grids: Any, path: str) -> None:
    from cyclr.experiments.page import page as make_page
    from cyclr.jsonfile import write_text
    from cyclr.report.papers import picture_files, save_pictures

    write_text(path, make_page(grids, pictures=picture_files(grids), file=path))
    save_pictures(grids, Path(path).parent)
    say(f"page written to {path}")


def _show(
    grid: Any,
    grids: Any,
    tier: str,
    only: list[str],
    results: Path | None,
    out: str | None,
    as_json: bool,
) -> None:
    """Print the table, and write it with its figures where asked."""
    from cyclr import jsonfile
    from cyclr.experiments.results import load_results
    from cyclr.experiments.table import Evidence, markdown, notes, rows

    found = load_results(grid, tier, results)
    entries = rows(grid, tier, found, only)
    evidence = Evidence(grids, results)
    claims = [claim for claim in grid.claims if claim.tier == tier and _is_shown(claim, only)]
    data = {
        "table": grid.name,
        "tier": tier,
        "rows": entries,
        "claims": [{"claim": c.text, "verdict": evidence.verdict(grid, c)} for c in claims],
        "notes": notes(grid, tier, only, claims, evidence),
    }
    verdicts = [f"{entry['claim']}: {entry['verdict']}" for entry in data["claims"]]
    below = "\n\n".join(part for part in ("\n".join(verdicts), *data["notes"]) if part)
    table = f"{markdown(entries, tier)}\n"
    if as_json:
        print_json(jsonfile.plain(data))
    else:
        typer.echo(f"{grid.title} ({grid.source}), tier {tier}\n\n{table}{below}")
    if out is not None:
        paragraphs = [f"- {verdict}" for verdict in verdicts]
        below = "\n\n".join(part for part in ("\n".join(paragraphs), *data["notes"]) if part)
        shown = {name: runs for name, runs in found.items() if name in only}
        _write(Path(out), grid, tier, data, f"{table}{below}\n", shown)


def _is_shown(claim: Any, only: list[str]) -> bool:
    """Say whether all rows of this table that a claim looks at are in it."""
    return all(row in only for row in claim.rows if "/" not in row)


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
    """Say from where a run begins, and every five minutes how far it is."""
    said: float | None = None

    def watch(trainer: Any) -> None:
        nonlocal said
        now, step, steps = time.monotonic(), trainer.step, trainer.spec.steps
        if said is None:
            begun = f"goes on after {step:,} of {steps:,}" if step else f"begins, {steps:,} updates"
            say(f"{job.name}: {begun}")
        elif now - said >= _EVERY:
            last = trainer.curves.evaluations[-1:]
            accuracy = f", {100 * last[0]['accuracy']:.2f} % last" if last else ""
            say(f"{job.name}: {step:,} of {steps:,}{accuracy}")
        else:
            return
        said = now

    return watch
