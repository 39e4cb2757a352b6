"""Refuses grids that would fail, or mislead, only when hours have been spent on them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyclr.errors import InputError, complaint
from cyclr.experiments.quoting import quoted_rows

if TYPE_CHECKING:
    from cyclr.experiments.claims import Claim
    from cyclr.experiments.grid import Grid, Row

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_PLAIN = "of letters, digits, dots, hyphens and underscores, since files are called by it"


def check_grid(grid: Grid) -> None:
    """Check what a grid says of names, seeds, references and cuts.

    Raises:
        InputError: Something is wrong; the message names grid and row.
    """
    _check_names(grid)
    _check_tiers(grid)
    _check_references(grid)
    for tier in grid.tiers:
        for row in grid.rows_of(tier):
            if row.cut is not None:
                _check_cut(grid, row, tier)


def _check_names(grid: Grid) -> None:
    names = [row.name for row in grid.rows]
    if len(set(names)) < len(names):
        raise InputError(f"{grid.name}: two rows have the same name among {names}")
    for row in grid.rows:
        where = f"{grid.name}: rows.name"
        if not _NAME.fullmatch(row.name):
            raise InputError(complaint(where, _PLAIN, row.name, "rename the row"))
        printed: Any = row.printed  # as it stands in the file
        if printed is not None and not isinstance(printed, int | float):
            where = f"{grid.name}, row {row.name}: printed"
            raise InputError(complaint(where, "a number", printed, "drop the quotes"))
    for tier in grid.tiers:
        labels = [row.label for row in grid.rows_of(tier)]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise InputError(
                f"{grid.name}, tier {tier}: two rows have the label {twice[0]!r}; a reader could "
                "not tell them apart"
            )


def _check_tiers(grid: Grid) -> None:
    for tier, changes in grid.tiers.items():
        where = f"{grid.name}, tier {tier}"
        if "seeds" not in changes:
            raise InputError(f"{where}: seeds is missing; write seeds = [0]")
        seeds = changes["seeds"]
        whole = isinstance(seeds, list) and all(type(s) is int and s >= 0 for s in seeds)
        if not (whole and seeds):
            words = "a list of whole numbers ≥ 0, at least one"
            raise InputError(complaint(f"{where}: seeds", words, seeds, "write seeds = [0]"))


def _check_references(grid: Grid) -> None:
    """Refuse references to rows and tiers that are not there; other grids are not looked at."""
    for row in grid.rows:
        for name in (row.needs, row.cut):
            if name:
                grid.row(name)
        if row.cut is not None and grid.row(row.cut).cut is not None:
            raise InputError(
                f"{grid.name}, row {row.name}: cut must name a row that is run, got {row.cut!r}, "
                "which is cut itself"
            )
    for claim in grid.claims:
        own = [name for name in _looked_at(grid, claim) if "/" not in name]
        for name in own:
            grid.row(name)
        if claim.tier not in grid.tiers and own:
            known = ", ".join(grid.tiers)
            raise InputError(
                f"{grid.name}: a claim looks at the tier {claim.tier!r}; the tiers: {known}"
            )
        if own:
            grid.rows_of(claim.tier, own)


def _looked_at(grid: Grid, claim: Claim) -> list[str]:
    """List the rows that a claim compares, and those that its note takes figures from."""
    try:
        return [*claim.rows, *quoted_rows(claim)]
    except InputError as error:
        raise InputError(f"{grid.name}: {error}") from error


def _check_cut(grid: Grid, row: Row, tier: str) -> None:
    """Refuse a cut at a step at which the run is not evaluated."""
    assert row.cut is not None
    whole = grid.row(row.cut)
    if not whole.is_of(tier):
        raise InputError(
            f"{grid.name}, row {row.name}: {row.cut}, which it is cut from, is not part of tier "
            f"{tier}; give it the same `in`"
        )
    if whole.needs is not None:
        return  # how long it is, only the range test's result says
    spec = grid.resolve(whole, tier, 0)
    steps = grid.cut_at(row, tier, spec.steps, spec.recipe.steps_per_epoch)
    if steps > spec.steps or steps == 0:
        raise InputError(
            f"{grid.name}, row {row.name}, tier {tier}: steps must be from 1 to the {spec.steps:,} "
            f"updates of {row.cut}, which it is cut from, got {steps:,}; shorten it"
        )
    evaluated = steps % spec.evaluate_every == 0 or steps in spec.recipe.stopping_points
    if not (evaluated or steps == spec.steps):
        raise InputError(
            f"{grid.name}, row {row.name}, tier {tier}: {row.cut} has {spec.steps:,} updates and "
            f"is not evaluated after {steps:,}; cut it at a multiple of evaluate_every "
            f"({spec.evaluate_every:,}) or at a cycle's end"
        )


def check_claims_across(grids: Mapping[str, Any]) -> None:
    """Check that the rows of other grids that claims look at are there.

    Raises:
        InputError: One is not.
    """
    for grid in grids.values():
        for claim in grid.claims:
            for home, _, name in (row.rpartition("/") for row in _looked_at(grid, claim)):
                if home and home not in grids:
                    raise InputError(
                        f"{grid.name}: a claim looks at {home!r}, and there is no such grid"
                    )
                if home:
                    grids[home].row(name)
