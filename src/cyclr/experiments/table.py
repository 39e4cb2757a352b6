"""A paper's table with ours beside it, made from finished runs only."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclr.errors import InputError
from cyclr.experiments.claims import Claim, Values
from cyclr.experiments.grid import Grid, Row
from cyclr.experiments.quantities import QUANTITIES, accuracy
from cyclr.experiments.store import read_result
from cyclr.schedules import Units

Result = dict[str, Any]


def results_home(grid: Grid, results: Path | None = None) -> Path:
    """Say where a grid's finished results are.

    Args:
        grid: The grid.
        results: In place of the folder ``results`` beside the grid.
    """
    home = grid.path.parent / "results" if results is None else results / grid.path.parent.name
    return home / grid.path.stem


def load_results(grid: Grid, tier: str, results: Path | None = None) -> dict[str, list[Result]]:
    """Read a tier's finished runs, by row, in the order of their seeds.

    Raises:
        InputError: A file there is not a result of this grid.
    """
    found: dict[str, list[Result]] = {}
    for path in sorted((results_home(grid, results) / tier).glob("*.json")):
        result = read_result(path)
        assert result is not None
        if (result["grid"], result["tier"]) != (grid.name, tier):
            raise InputError(f"{path} is a result of {result['grid']}, tier {result['tier']}")
        found.setdefault(result["row"], []).append(result)
    for members in found.values():
        members.sort(key=lambda result: int(result["seed"]))
    for row in grid.rows_of(tier):
        if row.cut is not None and row.cut in found:
            found[row.name] = [_cut(row, whole) for whole in found[row.cut]]
    return found


def _cut(row: Row, whole: Result) -> Result:
    """Read a row off the run that it is the beginning of."""
    length, per_epoch = whole["steps"], whole["spec"]["recipe"].get("steps_per_epoch")
    units = Units(steps_per_epoch=per_epoch, total_steps=length)
    steps = units.steps(row.settings["steps"], where=f"row {row.name}, steps")
    curve = whole["curve"]
    kept = [entry for entry in curve["evaluations"] if entry["step"] <= steps]
    if whole["outcome"] == "diverged" and length < steps:
        return {**whole, "row": row.name}
    if not kept or kept[-1]["step"] != steps:
        raise InputError(f"row {row.name}: {whole['row']} was not evaluated after {steps} steps")
    losses = curve["loss"][: steps // curve["stretch"]]
    return {
        **whole,
        "row": row.name,
        "steps": steps,
        "accuracy": kept[-1]["accuracy"],
        "curve": {**curve, "loss": losses, "evaluations": kept},
    }


def rows(grid: Grid, tier: str, found: Mapping[str, Sequence[Result]]) -> list[dict[str, Any]]:
    """Make the table as data: one entry a row, in percent.

    Args:
        grid: The grid.
        tier: The tier.
        found: The finished runs, by row.
    """
    entries = []
    for row in grid.rows_of(tier):
        runs = found.get(row.name, [])
        reached = [accuracy(run) for run in runs]
        entries.append(
            {
                "row": row.name,
                "label": row.label,
                "printed": row.printed,
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


def markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """Write the table in Markdown."""
    lines = [
        "| row | steps | printed | ours | n | steps per CPU second | of a bare loop |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for entry in entries:
        cells = [
            f"{entry['label']} (`{entry['row']}`)",
            f"{entry['steps']:,}" if entry["steps"] else "",
            f"{entry['printed']:.1f}" if entry["printed"] is not None else "",
            _ours(entry),
            f"{entry['n']} of {entry['seeds_wanted']}",
            f"{entry['steps_per_cpu_second']:.1f}" if entry["n"] else "",
            f"{100 * entry['share_of_bare_loop']:.0f} %" if entry["n"] else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


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
        return [(claim, claim.verdict(self._reader(grid, claim))) for claim in grid.claims]

    def _reader(self, grid: Grid, claim: Claim) -> Values:
        return functools.partial(self.values, grid.name, claim.tier, claim.quantity)
