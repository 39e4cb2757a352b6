"""A paper's table as data: rows to run, tiers to run them at, printed numbers, claims."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyclr.errors import InputError, complaint
from cyclr.experiments.claims import Claim
from cyclr.experiments.gridcheck import check_claims_across, check_grid
from cyclr.experiments.images import check_data
from cyclr.experiments.policy import make_recipe
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.smoke import SMOKE, first_steps, shape_of
from cyclr.schedules.units import Units

_RUN = {"data", "net", "optimizer", "batch_size", "order", "prepare", "augment"}
_RUN |= {"evaluate_every", "precision", "measures"}
_SETTINGS = _RUN | {"policy", "steps", "scale"}
_ROW = _SETTINGS | {"name", "label", "printed", "note", "in", "tiers", "cut"}
_TIER = _SETTINGS | {"note", "seeds"}
_GRID = {"title", "order", "source", "note", "defaults", "tiers", "rows", "claims"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table.

    Attributes:
        name: What ``--only`` and file names call it.
        label: What the table calls it.
        printed: The printed accuracy in percent; None where the paper prints none.
        note: What a reader must know about it; may be empty.
        tiers: The tiers it belongs to; None for all.
        settings: What is run, as in the file.
        changes: By tier, what differs there.
        cut: The row whose runs this one is the beginning of; it is read off them, not run.
    """

    name: str
    label: str
    printed: float | None
    note: str
    tiers: tuple[str, ...] | None
    settings: Mapping[str, Any]
    changes: Mapping[str, Mapping[str, Any]]
    cut: str | None = None

    @property
    def needs(self) -> str | None:
        """The row whose range test this one's policy is planned from."""
        name: str | None = self.settings.get("policy", {}).get("range_test")
        return name

    def is_of(self, tier: str) -> bool:
        """Say whether a tier has this row."""
        if tier == SMOKE:  # too short to be the beginning of anything
            return self.cut is None and self.is_of("full")
        return self.tiers is None or tier in self.tiers

    def at(self, tier: str) -> Row:
        """Give the row as a tier's table calls it."""
        return replace(self, label=self.changes.get(tier, {}).get("label", self.label))


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of a paper.

    Attributes:
        name: Such as ``clr-table1``.
        path: The file it was read from.
        title: One line.
        order: Where it comes among all tables; the lowest first.
        source: Where it is printed.
        note: What a reader must know; may be empty.
        rows: In the table's order.
        tiers: By name: seeds, a note, and what differs from the defaults.
        defaults: Of every row.
        claims: What the table is to show.
    """

    name: str
    path: Path
    title: str
    order: int
    source: str
    note: str
    rows: tuple[Row, ...]
    tiers: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]
    claims: tuple[Claim, ...]

    def row(self, name: str) -> Row:
        """Find a row.

        Raises:
            InputError: There is none of that name.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise InputError(f"{self.name} has no row {name!r}; its rows: {known}")

    def tier(self, name: str) -> Mapping[str, Any]:
        """Find a tier; ``"smoke"`` is one of every grid.

        Raises:
            InputError: There is none of that name.
        """
        if name == SMOKE:
            return {"seeds": [0], "note": "The first steps, on made-up images of the same size."}
        if name not in self.tiers:
            known = ", ".join([*self.tiers, SMOKE])
            raise InputError(f"{self.name} has no tier {name!r}; its tiers: {known}")
        return self.tiers[name]

    def rows_of(self, tier: str, only: Sequence[str] = ()) -> list[Row]:
        """List a tier's rows, in the table's order.

        Args:
            tier: The tier; smoke has those of ``full`` that are run.
            only: Names of the rows to keep; all if empty.

        Raises:
            InputError: There is no row of that name at that tier.
        """
        self.tier(tier)
        rows = {row.name: row.at(tier) for row in self.rows if row.is_of(tier)}
        for name in only:
            if self.row(name).name not in rows:
                raise InputError(f"{self.name}: row {name} is not part of tier {tier}")
        return [row for name, row in rows.items() if not only or name in only]

    def cut_at(self, row: Row, tier: str, length: int, per_epoch: int | None) -> int:
        """Say after how many updates a row is cut from the run it is the beginning of.

        Args:
            row: The row.
            tier: Name of the tier.
            length: Updates of the whole run.
            per_epoch: Updates in an epoch, if known.

        Raises:
            SpecError: Its steps are no duration.
        """
        own = row.changes.get(tier, {})
        steps = {**row.settings, **own}.get("steps", "1run")
        units = Units(steps_per_epoch=per_epoch, total_steps=length)
        count = units.steps(steps, where=f"row {row.name}, steps")
        is_share = isinstance(steps, str) and steps.rstrip().endswith("run")
        scale = 1 if "steps" in own or is_share else self.tier(tier).get("scale", 1)
        return round(count * scale)

    def resolve(self, row: Row, tier: str, seed: int, range_test: Any = None) -> RunSpec:
        """Make the run of a row.

        Args:
            row: The row.
            tier: Name of the tier.
            seed: The seed.
            range_test: The result of the row it needs, if any.

        Raises:
            InputError: A setting is wrong; the message names grid and row.
        """
        changes = self.tier(tier)
        own = row.changes.get(tier, {})
        merged = {**self.defaults, **row.settings, **changes, **own}
        try:
            return _run(merged, seed, tier, own, range_test)
        except KeyError as error:
            raise InputError(f"{self.name}, row {row.name}: {error} is missing") from error
        except InputError as error:
            raise InputError(f"{self.name}, row {row.name}: {error}") from error


def _run(
    merged: Mapping[str, Any], seed: int, tier: str, own: Mapping[str, Any], range_test: Any
) -> RunSpec:
    per_epoch = _per_epoch(merged)
    recipe = make_recipe(
        merged["policy"],
        steps=merged["steps"],
        # A row that says how long it is at this tier is not scaled as well.
        scale=1 if "steps" in own else merged.get("scale", 1),
        per_epoch=per_epoch,
        range_test=range_test,
    )
    settings = {key: merged[key] for key in _RUN if key in merged}
    units = Units(steps_per_epoch=per_epoch, total_steps=recipe.total_steps)
    every = units.steps(merged.get("evaluate_every", 1000), where="evaluate_every")
    settings["evaluate_every"] = max(1, every)
    if tier == SMOKE:
        settings |= first_steps(merged)
    return RunSpec(recipe=recipe, seed=seed, **settings)


def _per_epoch(merged: Mapping[str, Any]) -> int | None:
    check_data(merged["data"])
    count = shape_of(merged["data"]).train
    return None if count is None else max(1, round(count / merged.get("batch_size", 128)))


def load_grid(path: Path) -> Grid:
    """Read a grid from a TOML file ``<paper>/<table>.toml``.

    Raises:
        InputError: The file cannot be read, or is not a grid; the message names the field.
    """
    name = f"{path.parent.name}-{path.stem}"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the grid {path}: {error}") from error
    _check(name, data, _GRID)
    for key in ("title", "source", "defaults", "tiers", "rows"):
        if key not in data:
            raise InputError(f"{name}: {key} is missing from {path}")
    _check(f"{name}, defaults", data["defaults"], _SETTINGS)
    for tier, changes in data["tiers"].items():
        _check(f"{name}, tier {tier}", changes, _TIER)
    grid = Grid(
        name=name,
        path=path,
        title=data["title"],
        order=data.get("order", 0),
        source=data["source"],
        note=data.get("note", "").strip(),
        rows=tuple(_row(name, entry, data["tiers"]) for entry in data["rows"]),
        tiers=data["tiers"],
        defaults=data["defaults"],
        claims=tuple(Claim.from_dict(entry, where=name) for entry in data.get("claims", ())),
    )
    check_grid(grid)
    return grid


def _row(grid: str, entry: Mapping[str, Any], tiers: Mapping[str, Any]) -> Row:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(complaint(f"{grid}: rows.name", "a string", name, "name every row"))
    where = f"{grid}, row {name}"
    _check(where, entry, _ROW)
    changes = entry.get("tiers", {})
    for tier in [*changes, *entry.get("in", ())]:
        if tier not in tiers:
            raise InputError(f"{where}: there is no tier {tier!r}; the tiers: {', '.join(tiers)}")
    for tier, own in changes.items():
        _check(f"{where}, tier {tier}", own, _SETTINGS | {"label"})
    return Row(
        name=name,
        label=entry.get("label", name),
        printed=entry.get("printed"),
        note=entry.get("note", "").strip(),
        tiers=tuple(entry["in"]) if "in" in entry else None,
        settings={key: entry[key] for key in _SETTINGS if key in entry},
        changes=changes,
        cut=entry.get("cut"),
    )


def _check(where: str, table: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(table) - known):
        raise InputError(f"{where}: {unknown[0]} is not a key; the keys: {sorted(known)}")


def find_papers(folder: str | None = None) -> Path:
    """Find the folder of the grids: the one given, ./papers, or the one of this source tree.

    Raises:
        InputError: There is none.
    """
    here = Path(__file__).resolve()
    places = [Path(folder)] if folder else [Path("papers"), *(p / "papers" for p in here.parents)]
    for place in places:
        if any(place.glob("*/*.toml")):
            return place
    raise InputError(f"no grids in {places[0]}; pass --papers with the folder that holds them")


def all_grids(papers: Path) -> dict[str, Grid]:
    """Read every grid of a folder, by name, in their order."""
    read = [load_grid(path) for path in sorted(papers.glob("*/*.toml"))]
    grids = {grid.name: grid for grid in sorted(read, key=lambda grid: (grid.order, grid.name))}
    check_claims_across(grids)
    return grids


def get_grid(papers: Path, name: str) -> Grid:
    """Read one grid.

    Raises:
        InputError: There is none of that name.
    """
    paths = {f"{p.parent.name}-{p.stem}": p for p in sorted(papers.glob("*/*.toml"))}
    if name not in paths:
        raise InputError(f"there is no table {name!r}; there are: {', '.join(paths)}")
    return load_grid(paths[name])
