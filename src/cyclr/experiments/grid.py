"""A paper's table as data: rows to run, tiers to run them at, printed numbers, claims."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclr.errors import InputError, SpecError, complaint
from cyclr.experiments.claims import Claim
from cyclr.experiments.policy import make_recipe
from cyclr.experiments.runspec import RunSpec
from cyclr.recipe import Recipe

SMOKE = "smoke"
_SMOKE_STEPS = 3
_SIZES = {"cifar10": (32, 10), "tiny-imagenet-100": (64, 100)}
_RUN = ("data", "net", "optimizer", "batch_size", "order", "prepare", "augment")
_RUN += ("evaluate_every", "precision", "measures")
_ROW = {"name", "label", "printed", "note", "policy", "steps", "needs", "tiers", *_RUN}
_TIER = {"note", "seeds", "scale", *_RUN}
_GRID = {"title", "source", "note", "figure", "defaults", "tiers", "rows", "claims"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table.

    Attributes:
        name: What ``--only`` and file names call it.
        label: What the table calls it.
        printed: The printed accuracy in percent; None where the paper prints none.
        settings: Everything else, as in the file.
    """

    name: str
    label: str
    printed: float | None
    settings: Mapping[str, Any]

    @property
    def needs(self) -> str | None:
        """The row whose range test this one's policy is planned from."""
        name: str | None = self.settings.get("policy", {}).get("range_test")
        return name


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of a paper.

    Attributes:
        name: Such as ``clr-table1``.
        path: The file it was read from.
        title: One line.
        source: Where it is printed.
        note: What a reader must know; may be empty.
        rows: In the table's order.
        tiers: By name: seeds, and what differs from the defaults.
        defaults: Of every row.
        claims: What the table is to show.
    """

    name: str
    path: Path
    title: str
    source: str
    note: str = ""
    rows: tuple[Row, ...]
    tiers: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]
    claims: tuple[Claim, ...] = field(default=())

    @property
    def results(self) -> Path:
        """The folder of the finished runs' results."""
        return self.path.parent / "results" / self.path.stem

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
        """Find a tier.

        Raises:
            InputError: There is none of that name.
        """
        if name == SMOKE:
            return {"seeds": [0], "note": "The first steps, on made-up images of the same size."}
        if name not in self.tiers:
            known = ", ".join([*self.tiers, SMOKE])
            raise InputError(f"{self.name} has no tier {name!r}; its tiers: {known}")
        return self.tiers[name]

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
        own = row.settings.get("tiers", {}).get(tier, {})
        merged = {**self.defaults, **row.settings, **changes, **own}
        try:
            scale = merged.get("scale", 1)
            recipe = make_recipe(
                merged["policy"],
                steps=merged["steps"],
                scale=1 if "steps" in own else scale,
                per_epoch=_per_epoch(merged),
                range_test=range_test,
            )
            settings = {key: merged[key] for key in _RUN if key in merged}
            if "steps" in own or scale != 1:
                settings.setdefault("evaluate_every", 1000)
            if tier == SMOKE:
                settings = _smoke(settings)
            return RunSpec(recipe=recipe, seed=seed, **settings)
        except KeyError as error:
            raise InputError(f"{self.name}, row {row.name}: {error} is missing") from error
        except InputError as error:
            raise InputError(f"{self.name}, row {row.name}: {error}") from error


def _per_epoch(merged: Mapping[str, Any]) -> int | None:
    count = merged["data"].get("train")
    if count is None:
        count = {"cifar10": 50_000, "tiny-imagenet-100": 50_000}.get(merged["data"]["name"])
    return None if count is None else max(1, round(count / merged.get("batch_size", 128)))


def _smoke(settings: dict[str, Any]) -> dict[str, Any]:
    """Keep everything but the data and the length: the first steps, on images of the same size."""
    data = settings["data"]
    size, classes = _SIZES.get(data["name"], (32, 10))
    made_up = {"name": "synthetic", "size": data.get("size", size), "classes": classes, "train": 40}
    if "channels" in data:
        made_up["channels"] = data["channels"]
    batch = min(8, settings.get("batch_size", 128))
    return {**settings, "data": made_up, "batch_size": batch, "stop_after": _SMOKE_STEPS}


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
    for tier, changes in data["tiers"].items():
        _check(f"{name}, tier {tier}", changes, _TIER)
    _check(f"{name}, defaults", data["defaults"], _ROW)
    rows = tuple(_row(name, entry) for entry in data["rows"])
    names = [row.name for row in rows]
    if len(set(names)) < len(names):
        raise InputError(f"{name}: two rows have the same name among {names}")
    grid = Grid(
        name=name,
        path=path,
        title=data["title"],
        source=data["source"],
        note=data.get("note", ""),
        rows=rows,
        tiers=data["tiers"],
        defaults=data["defaults"],
        claims=tuple(Claim.from_dict(entry, where=name) for entry in data.get("claims", ())),
    )
    for needed in [row.needs for row in rows if row.needs] + [
        n for claim in grid.claims for n in claim.rows
    ]:
        grid.row(needed)
    return grid


def _row(grid: str, entry: Mapping[str, Any]) -> Row:
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(complaint(f"{grid}: rows.name", "a string", name, "name every row"))
    _check(f"{grid}, row {name}", entry, _ROW)
    settings = {k: v for k, v in entry.items() if k not in ("name", "label", "printed", "note")}
    return Row(
        name=name,
        label=entry.get("label", name),
        printed=entry.get("printed"),
        settings=settings,
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
    """Read every grid of a folder, by name."""
    grids = [load_grid(path) for path in sorted(papers.glob("*/*.toml"))]
    return {grid.name: grid for grid in grids}


def get_grid(papers: Path, name: str) -> Grid:
    """Read one grid.

    Raises:
        InputError: There is none of that name.
    """
    paths = {f"{p.parent.name}-{p.stem}": p for p in sorted(papers.glob("*/*.toml"))}
    if name not in paths:
        raise InputError(f"there is no grid {name!r}; there are: {', '.join(paths)}")
    return load_grid(paths[name])


def selected(rows: Sequence[Row], only: Sequence[str], grid: Grid) -> list[Row]:
    """Keep the rows asked for, in the table's order; all if none are named."""
    wanted = {grid.row(name).name for name in only}
    return [row for row in rows if not wanted or row.name in wanted]


__all__ = ["SMOKE", "Grid", "Recipe", "Row", "SpecError", "all_grids", "find_papers", "get_grid"]
