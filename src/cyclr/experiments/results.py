"""A grid's finished results on disk, none of them of other settings than the grid has now."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cyclr.errors import InputError
from cyclr.experiments.grid import Grid, Row
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.store import read_result

Result = dict[str, Any]


def results_home(grid: Grid, results: Path | None = None) -> Path:
    """Say where a grid's finished results are.

    Args:
        grid: The grid.
        results: In place of the folder ``results`` beside the grid.
    """
    home = grid.path.parent / "results" if results is None else results / grid.path.parent.name
    return home / grid.path.stem


def result_path(grid: Grid, row: str, tier: str, seed: int, results: Path | None = None) -> Path:
    """Say where the result of one run is kept."""
    return results_home(grid, results) / tier / f"{row}-seed{seed}.json"


def spec_of(
    grid: Grid, row: Row, tier: str, seed: int, results: Path | None = None
) -> RunSpec | None:
    """Make the spec of one run; None as long as the range test it needs has not been run.

    Args:
        grid: The grid.
        row: The row.
        tier: Name of the tier.
        seed: The seed.
        results: Where the range test's result is, see :func:`results_home`.
    """
    test = None
    if row.needs is not None:
        test = read_result(result_path(grid, row.needs, tier, seed, results))
        if test is None:
            return None
    return grid.resolve(row, tier, seed, test)


def read_current(path: Path, grid: Grid, spec: RunSpec | None) -> Result | None:
    """Read a finished result; None if there is none.

    Args:
        path: Where it is.
        grid: Its grid.
        spec: What the grid makes of it now; None if that cannot be known.

    Raises:
        InputError: It was made under another spec.
    """
    result = read_result(path)
    if result is not None:
        _check_current(result, path, grid, spec)
    return result


def _check_current(result: Result, path: Path, grid: Grid, spec: RunSpec | None) -> None:
    if spec is not None and RunSpec.from_dict(result["spec"]).key != spec.key:
        raise InputError(
            f"{path} was made under other settings than {grid.path} has now; "
            "move it away to run again, or put the grid back"
        )


def load_results(grid: Grid, tier: str, results: Path | None = None) -> dict[str, list[Result]]:
    """Read a tier's finished runs, by row, in the order of their seeds.

    Raises:
        InputError: A file there is not a result of this grid, or of other settings than it has.
    """
    found: dict[str, list[Result]] = {}
    for path in sorted((results_home(grid, results) / tier).glob("*.json")):
        result = _load(path, grid, tier, results)
        found.setdefault(result["row"], []).append(result)
    for row, members in found.items():
        members.sort(key=lambda result: int(result["seed"]))
        if two := differing_images(members):
            raise InputError(
                f"{grid.name}, tier {tier}, row {row}: seeds {two[0]['seed']} and {two[1]['seed']} "
                "were run on different images, and cannot be averaged; move one of them away"
            )
    for part in grid.rows_of(tier):
        if part.cut is not None and part.cut in found:
            found[part.name] = [_cut(grid, part, whole) for whole in found[part.cut]]
    return found


def differing_images(runs: Iterable[Result]) -> tuple[Result, Result] | None:
    """Find two runs for which the same data settings stood for different images."""
    seen: dict[str, Result] = {}
    for run in runs:
        first = seen.setdefault(json.dumps(run["spec"]["data"], sort_keys=True), run)
        if first["data_fingerprint"] != run["data_fingerprint"]:
            return first, run
    return None


def _load(path: Path, grid: Grid, tier: str, results: Path | None) -> Result:
    result = read_result(path)
    assert result is not None
    if (result["grid"], result["tier"]) != (grid.name, tier):
        raise InputError(f"{path} is a result of {result['grid']}, tier {result['tier']}")
    row, seed = result["row"], result["seed"]
    proper = result_path(grid, row, tier, seed, results)
    if path.name != proper.name:
        raise InputError(f"{path} is the result that {proper.name} should hold; move it away")
    if row not in {row.name for row in grid.rows_of(tier) if row.cut is None}:
        raise InputError(f"{path}: {grid.path} does not run a row {row} at {tier}; move it away")
    _check_current(result, path, grid, spec_of(grid, grid.row(row), tier, seed, results))
    return result


def _cut(grid: Grid, row: Row, whole: Result) -> Result:
    """Read a row off the run that it is the beginning of."""
    recipe = whole["spec"]["recipe"]
    steps = grid.cut_at(row, whole["tier"], recipe["total_steps"], recipe.get("steps_per_epoch"))
    curve = whole["curve"]
    kept = [entry for entry in curve["evaluations"] if entry["step"] <= steps]
    if whole["outcome"] == "diverged" and whole["steps"] < steps:
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
