"""A paper's table with ours beside it, made from finished runs only."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclr.errors import InputError
from cyclr.experiments.claims import Claim, Values
from cyclr.experiments.grid import Grid
from cyclr.experiments.quantities import QUANTITIES, accuracy
from cyclr.experiments.quoting import filled_note
from cyclr.experiments.results import Result, differing_images, load_results
from cyclr.experiments.smoke import SMOKE


def rows(
    grid: Grid, tier: str, found: Mapping[str, Sequence[Result]], only: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Make the table as data: one entry a row, in percent.

    Args:
        grid: The grid.
        tier: The tier. First steps have no printed number to be set beside.
        found: The finished runs, by row.
        only: Names of the rows to keep; all if empty.
    """
    entries = []
    for row in grid.rows_of(tier, only):
        runs = found.get(row.name, [])
        reached = [accuracy(run) for run in runs]
        entries.append(
            {
                "row": row.name,
                "label": row.label,
                "printed": None if tier == SMOKE else row.printed,
                "mean": round(statistics.fmean(reached), 2) if reached else None,
                "std": round(statistics.stdev(reached), 2) if len(reached) > 1 else None,
                "n": len(runs),
                "seeds_wanted": len(grid.tier(tier)["seeds"]),
                "steps": runs[0]["steps"] if runs else None,
                "steps_per_cpu_second": _median(run["steps_per_cpu_second"] for run in runs),
                "share_of_bare_loop": _median(run["speed"]["ratio"] for run in runs),
                "diverged": sum(run["outcome"] == "diverged" for run in runs),
            }
        )
    return entries


def _median(values: Iterable[float]) -> float | None:
    listed = list(values)
    return round(statistics.median(listed), 3) if listed else None


def markdown(entries: Sequence[Mapping[str, Any]], tier: str) -> str:
    """Write the table in Markdown.

    Args:
        entries: As :func:`rows` makes them.
        tier: Their tier; the printed numbers are those of the paper's scale in any.
    """
    printed = "printed" if tier in ("full", SMOKE) else "printed, full scale"
    lines = [
        f"| row | steps | {printed} | ours | n | steps per CPU second | of a bare loop |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in entries:
        cells = [
            f"{entry['label']} (`{entry['row']}`)",
            f"{entry['steps']:,}" if entry["steps"] else "",
            f"{entry['printed']:g}" if entry["printed"] is not None else "",
            _ours(entry),
            f"{entry['n']} of {max(entry['n'], entry['seeds_wanted'])}",
            f"{entry['steps_per_cpu_second']:.1f}" if entry["n"] else "",
            f"{100 * entry['share_of_bare_loop']:.0f} %" if entry["n"] else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def notes(
    grid: Grid, tier: str, shown: Collection[str], claims: Iterable[Claim], evidence: Evidence
) -> list[str]:
    """Give what a reader of a tier's table must know, a paragraph each.

    Args:
        grid: The grid.
        tier: The tier.
        shown: Names of the rows in the table.
        claims: The claims below it.
        evidence: The finished runs, for the figures in the claims' notes.
    """
    of_tier = grid.tier(tier).get("note")
    found = [grid.note, of_tier and f"Tier {tier}. {of_tier}"]
    found += [f"{row.name}: {row.note}" for row in grid.rows if row.name in shown and row.note]
    found += [f"{claim.text}: {evidence.note(grid, claim)}" for claim in claims if claim.note]
    return [" ".join(note.split()) for note in found if note]


def _ours(entry: Mapping[str, Any]) -> str:
    if entry["mean"] is None:
        return "not run yet"
    spread = "" if entry["std"] is None else f" ± {entry['std']:.2f}"
    diverged = f" ({entry['diverged']} diverged)" if entry["diverged"] else ""
    return f"{entry['mean']:.2f}{spread}{diverged}"


class Evidence:
    """The finished runs of every grid, for claims that look at more than one.

    Args:
        grids: By name.
        results: In place of the folders ``results`` beside the grids.
    """

    def __init__(self, grids: Mapping[str, Grid], results: Path | None = None) -> None:
        self._grids, self._results = grids, results
        self._found: dict[tuple[str, str], dict[str, list[Result]]] = {}

    def of(self, grid: str, tier: str) -> dict[str, list[Result]]:
        """Give a grid's finished runs at a tier, by row."""
        if (grid, tier) not in self._found:
            if grid not in self._grids:
                raise InputError(f"a claim looks at {grid!r}, and there is no such grid")
            self._found[grid, tier] = load_results(self._grids[grid], tier, self._results)
        return self._found[grid, tier]

    def values(self, grid: str, tier: str, quantity: str, row: str) -> list[float]:
        """Give a quantity of a row's finished runs, one per seed; ``row`` may be ``grid/row``."""
        home, _, name = row.rpartition("/")
        runs = self.of(home or grid, tier).get(name, [])
        return [QUANTITIES[quantity].read(run) for run in runs]

    def verdicts(self, grid: Grid) -> list[tuple[Claim, str]]:
        """Give each of a grid's claims with what the finished runs say."""
        return [(claim, self.verdict(grid, claim)) for claim in grid.claims]

    def diverged(self, grid: str, tier: str, row: str) -> int:
        """Count a row's finished runs that diverged."""
        home, _, name = row.rpartition("/")
        runs = self.of(home or grid, tier).get(name, [])
        return sum(run["outcome"] == "diverged" for run in runs)

    def verdict(self, grid: Grid, claim: Claim) -> str:
        """Say what the finished runs say to a claim of a grid, and how many of them diverged."""
        if self._images_differ(grid, claim):
            return f"cannot be said: {' and '.join(claim.rows)} were run on different images"
        said = claim.verdict(self._reader(grid, claim, claim.quantity))
        lost = {row: self.diverged(grid.name, claim.tier, row) for row in claim.rows}
        if said.startswith("cannot be said") or not any(lost.values()):
            return said
        told = [f"{count} of {row} diverged" for row, count in lost.items() if count]
        return f"{said}; {', '.join(told)}"

    def note(self, grid: Grid, claim: Claim) -> str:
        """Give a claim's note with the accuracies that it takes from finished runs."""
        return filled_note(claim, self._reader(grid, claim, "accuracy"))

    def _images_differ(self, grid: Grid, claim: Claim) -> bool:
        """See whether the same data settings stood for different images in a claim's rows."""
        runs = []
        for row in claim.rows:
            home, _, name = row.rpartition("/")
            runs += self.of(home or grid.name, claim.tier).get(name, [])
        return bool(differing_images(runs))

    def _reader(self, grid: Grid, claim: Claim, quantity: str) -> Values:
        return functools.partial(self.values, grid.name, claim.tier, quantity)
