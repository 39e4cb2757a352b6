"""The page a reader would cite: every claim, printed, ours, n, mean ± std, verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cyclr.experiments.claims import Claim
from cyclr.experiments.grid import Grid
from cyclr.experiments.table import Evidence, markdown, rows

_INTRO = """\
<!-- Made by `cyclr reproduce --page FILE` from the results in papers/; do not edit. -->
# The papers, reproduced

Tables, verdicts and figures are computed from the finished runs in `papers/*/results`, each of
which keeps its resolved settings, seed, versions, hardware, curve and speed; the words of the notes
between them were written by hand, their figures of ours are filled in. They are made by

```bash
cyclr reproduce clr-table1 --tier full --data-dir DIR  # run what is missing, print the table
cyclr reproduce --page FILE  # this page
```

A run that is cut off goes on where it was, with the same number of threads to the bit. The tier
`full` is the paper's scale, `cpu` a scaled one that says how, and `smoke` the first steps of `full`
on made-up images.

*Ours* is accuracy on the test set at the last step, mean ± standard deviation over n seeds, in
percent. *Of a bare loop* is the speed of the whole loop beside forward, backward and update alone.

A claim of which one side has a single run says so (*in one run*). With two or more on each side
the difference has its standard error, and is *undecided* where Student's t at 95 % does not tell it
from the threshold; with two runs on each side that takes four standard errors or more.
"""


# Captions by the picture's file, by grid and tier.
Pictures = Mapping[tuple[str, str], Mapping[str, str]]


def page(
    grids: Mapping[str, Grid],
    results: Path | None = None,
    pictures: Pictures | None = None,
    *,
    file: str = "docs/papers.md",
) -> str:
    """Write the page.

    Args:
        grids: All grids, by name.
        results: In place of the folders ``results`` beside the grids.
        pictures: What to show below a tier's table.
        file: What the page calls itself.
    """
    evidence = Evidence(grids, results)
    parts = [_INTRO.replace("FILE", file), *_about(grids), _overview(grids, evidence)]
    parts += [_section(grid, evidence, pictures or {}) for grid in grids.values()]
    return "\n".join(parts)


def _about(grids: Mapping[str, Grid]) -> list[str]:
    """Give what ``about.md`` beside the papers' folders says of these results, as of their data."""
    homes = dict.fromkeys(grid.path.parent.parent for grid in grids.values())
    files = [home / "about.md" for home in homes]
    return [file.read_text(encoding="utf-8") for file in files if file.is_file()]


def _overview(grids: Mapping[str, Grid], evidence: Evidence) -> str:
    """List the claims that finished runs speak to, and name those that wait."""
    head = ["| claim | table, tier | printed | ours | verdict |", "|---|---|--:|--:|---|"]
    waiting_head = ["| claim | table, tier | printed |", "|---|---|--:|"]
    lines, waiting = [], []
    for grid in grids.values():
        for claim, verdict in evidence.verdicts(grid):
            where = f"[{grid.name}](#{grid.name}), {claim.tier}"
            sides = [claim.a, claim.b]
            printed = " / ".join(_printed(grids, grid, claim, side) for side in sides)
            printed += _at_full_scale(claim, printed)
            if verdict.startswith("not run yet"):
                waiting.append(f"| {claim.text} | {where} | {printed} |")
                continue
            ours = " / ".join(_ours(evidence, grid, claim, side) for side in sides)
            lines.append(f"| {claim.text} | {where} | {printed} | {ours} | {verdict} |")
    if waiting:
        waiting = ["", "Not run yet:", "", *waiting_head, *waiting]
    return "\n".join(["## Claims", "", *head, *lines, *waiting]) + "\n"


def _printed(grids: Mapping[str, Grid], grid: Grid, claim: Claim, side: Any) -> str:
    """Give the printed accuracy of one side of a claim."""
    if not isinstance(side, str) or claim.quantity != "accuracy":
        return "–"
    home, _, name = side.rpartition("/")
    printed = grids[home or grid.name].row(name).printed
    return "–" if printed is None else f"{printed:g}"


def _at_full_scale(claim: Claim, printed: str) -> str:
    return "" if claim.tier == "full" or set(printed) <= set("– /") else " (full scale)"


def _ours(evidence: Evidence, grid: Grid, claim: Claim, side: Any) -> str:
    """Word one side of a claim: a row's mean, deviation and count, or what it is held against."""
    if isinstance(side, list):
        return f"{side[0]:g} to {side[1]:g}"
    if not isinstance(side, str):
        return f"{side:g}"
    values = [v for v in evidence.values(grid.name, claim.tier, claim.quantity, side) if v == v]
    if not values:
        return "–"  # every run of it diverged before it could be measured
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
    lost = evidence.diverged(grid.name, claim.tier, side)
    diverged = f", {lost} diverged" if lost else ""
    return f"{statistics.fmean(values):.4g}{spread} (n = {len(values)}{diverged})"


def _section(grid: Grid, evidence: Evidence, pictures: Pictures) -> str:
    parts = [f"({grid.name})=", f"## {grid.title}", "", f"`{grid.name}`, after {grid.source}.", ""]
    if grid.note:
        parts += [grid.note, ""]
    waiting = []
    for tier, settings in grid.tiers.items():
        found = evidence.of(grid.name, tier)
        if not any(found.get(row.name) for row in grid.rows_of(tier)):
            waiting += _not_run(grid, tier)
            continue
        parts += [f"**Tier {tier}.** {settings.get('note', '')}".rstrip(), ""]
        parts += [markdown(rows(grid, tier, found), tier), ""]
        shown = pictures.get((grid.name, tier), {})
        parts += [f"![{caption}]({file})\n" for file, caption in shown.items()]
    parts += waiting
    notes = [f"- `{row.name}`: {row.note}" for row in grid.rows if row.note]
    notes += [f"- {c.text}: {evidence.note(grid, c)}" for c in grid.claims if c.note]
    return "\n".join([*parts, *notes, ""])


def _not_run(grid: Grid, tier: str) -> list[str]:
    """Name the rows of a tier that nothing is known of yet, with what is printed of them."""
    printed = "printed" if tier == "full" else "printed, full scale"
    lines = [f"**Tier {tier}**, not run yet. {grid.tiers[tier].get('note', '')}".rstrip(), ""]
    lines += [f"| row | {printed} |", "|---|--:|"]
    for row in grid.rows_of(tier):
        number = "" if row.printed is None else f"{row.printed:g}"
        lines.append(f"| {row.label} (`{row.name}`) | {number} |")
    return [*lines, ""]
