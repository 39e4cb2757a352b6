"""Grids: what is in a file, and every grid we ship."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyclr.errors import InputError
from cyclr.experiments.grid import Grid, Row, all_grids, find_papers, get_grid
from cyclr.experiments.images import load_data
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.smoke import SMOKE
from cyclr.experiments.trainer import Trainer
from experiments.paper_runs import GRID, sweep_result, write_grid

PAPERS = Path(__file__).parents[2] / "papers"
SHIPPED = all_grids(PAPERS)


def _grid(folder: Path, text: str = GRID) -> Grid:
    return get_grid(write_grid(folder, text), "paper-table")


def test_a_row_takes_from_defaults_tier_and_its_own_changes(tmp_path: Path) -> None:
    grid = _grid(tmp_path)
    fixed, cycle = grid.row("fixed"), grid.row("cycle")
    assert grid.resolve(fixed, "full", 7).to_dict() == {
        "data": {"name": "synthetic", "size": 8, "train": 60},
        "net": {"kind": "densenet40", "depth": 7},
        "optimizer": {"kind": "caffe_sgd", "momentum": 0.9, "weight_decay": 1e-4},
        "recipe": {
            "cyclr_recipe": 1,
            "total_steps": 12,
            "steps_per_epoch": 6,
            "lr": {"kind": "constant", "value": 0.05},
            "notes": [],
        },
        "seed": 7,
        "batch_size": 10,
        "evaluate_every": 4,
    }
    assert grid.resolve(fixed, "cpu", 0).recipe.total_steps == 6  # scaled
    assert grid.resolve(cycle, "cpu", 0).recipe.total_steps == 8  # its own length there
    assert grid.resolve(cycle, "cpu", 0).recipe.lr.stepsize == 4  # type: ignore[attr-defined]


def test_a_tier_has_its_rows(tmp_path: Path) -> None:
    grid = _grid(tmp_path)
    assert [row.name for row in grid.rows_of("cpu")] == ["fixed", "cycle"]
    assert len(grid.rows_of("full")) == 5
    assert [r.name for r in grid.rows_of(SMOKE)] == ["fixed", "sweep", "planned", "cycle"]
    assert [row.name for row in grid.rows_of("full", ["cycle"])] == ["cycle"]
    with pytest.raises(InputError, match="paper-table: row sweep is not part of tier cpu"):
        grid.rows_of("cpu", ["sweep"])
    with pytest.raises(InputError, match="paper-table has no tier 'gpu'; its tiers: full, cpu, sm"):
        grid.rows_of("gpu")
    with pytest.raises(InputError, match="paper-table has no row 'cosine'; its rows: fixed, "):
        grid.rows_of("cpu", ["cosine"])


def test_a_row_may_have_another_label_at_a_tier(tmp_path: Path) -> None:
    text = GRID.replace("steps = 8", 'steps = 8\nlabel = "short cycle"')
    grid = _grid(tmp_path, text)
    labels = {tier: grid.rows_of(tier, ["cycle"])[0].label for tier in ("full", "cpu", SMOKE)}
    assert labels == {"full": "one cycle", "cpu": "short cycle", SMOKE: "one cycle"}
    assert "label" not in grid.resolve(grid.row("cycle"), "cpu", 0).to_dict()


DIGITS = """
title = "Digits"
source = "nowhere"

[defaults]
data = { name = "digits" }
net = { kind = "densenet40", depth = 7, channels = 1 }
optimizer = { kind = "sgd", momentum = 0.9 }
prepare = "unit"

[tiers.cpu]
seeds = [0]

[[rows]]
name = "cycle"
steps = "3ep"
policy = { kind = "triangular", base_lr = 0.01, max_lr = 0.1, stepsize = "1.5ep" }
"""


def test_a_grid_of_one_s_own_on_digits_runs_its_first_steps(tmp_path: Path) -> None:
    grid = _grid(tmp_path, DIGITS)
    spec = grid.resolve(grid.row("cycle"), "cpu", 0)
    assert (spec.steps, spec.recipe.steps_per_epoch) == (33, 11)  # 1,438 images, 128 at a time
    smoke = grid.resolve(grid.row("cycle"), SMOKE, 0)
    trainer = Trainer(smoke, load_data(smoke.data))
    trainer.run()
    assert trainer.step == 3
    assert trainer.data.train.images.shape == (40, 1, 8, 8)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title =", "titel =", "paper-table: titel is not a key"),
        ('title = "A table"', "", "paper-table: title is missing"),
        ("steps = 12", "stepz = 12", "paper-table, defaults: stepz is not a key"),
        ('name = "cycle"', 'name = "fixed"', "two rows have the same name"),
        ('name = "cycle"', "name = 3", "rows.name must be a string, got 3"),
        ("seeds = [0]", "", "paper-table, tier cpu: seeds is missing"),
        ('range_test = "sweep"', 'range_test = "swoop"', "has no row 'swoop'"),
        ('b = "fixed"', 'b = "faxed"', "has no row 'faxed'"),
        ('in = ["full"]', 'in = ["fool"]', "there is no tier 'fool'; the tiers: full, cpu"),
        ("[defaults]", "[defaults", "cannot read the grid"),
        ('label = "one cycle"', 'label = "fixed rate"', "tier full: two rows have the label 'fix"),
        ("steps = 8", 'label = "fixed rate"', "tier cpu: two rows have the label 'fixed rate'"),
    ],
)
def test_what_is_no_grid_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GRID
    with pytest.raises(InputError, match=message):
        _grid(tmp_path, GRID.replace(old, new, 1) if "in =" not in old else GRID.replace(old, new))


def test_a_wrong_setting_is_named_with_its_row(tmp_path: Path) -> None:
    for name, old, new, message in (
        ("a", "batch_size = 10", "batch_size = 0.5", r"run\.batch_size must be an int"),
        ("b", "steps = 12\n\n", "\n", "'steps' is missing"),
    ):
        with pytest.raises(InputError, match=f"paper-table, row fixed: {message}"):
            _grid(tmp_path / name, GRID.replace(old, new, 1))  # by the row that is cut from it


def test_grids_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    papers = write_grid(tmp_path)
    assert find_papers(str(papers)) == papers
    monkeypatch.chdir(tmp_path)
    assert find_papers() == Path("papers")
    monkeypatch.chdir("/")
    assert find_papers() == PAPERS
    with pytest.raises(InputError, match="no grids in /nowhere; pass --papers"):
        find_papers("/nowhere")
    with pytest.raises(InputError, match="there is no table 'x'; there are: paper-table"):
        get_grid(papers, "x")


def _specs(grid: Grid) -> Iterator[tuple[Row, str, RunSpec]]:
    for tier in (*grid.tiers, SMOKE):
        for row in grid.rows_of(tier):
            if row.cut is None:
                sweep = sweep_result() if row.needs else None
                yield row, tier, grid.resolve(row, tier, 0, sweep)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_row_we_ship_resolves(name: str) -> None:
    for row, tier, spec in _specs(SHIPPED[name]):
        assert spec.steps >= 3, (row.name, tier)
        length = spec.recipe.lr.total_steps
        if tier != SMOKE and row.needs is None and length is not None:
            assert length <= spec.recipe.total_steps, (row.name, tier)


def _nets(name: str) -> Iterator[tuple[str, RunSpec]]:
    """One smoke run for each net and optimizer of a grid."""
    seen = set()
    for row, tier, spec in _specs(SHIPPED[name]):
        kind = (str(spec.net), str(spec.optimizer))
        if tier == SMOKE and kind not in seen:
            seen.add(kind)
            yield row.name, spec


HEAVY = {("sgdr-table1", "step-200")}  # WRN-28-10
FIRST_STEPS = [
    pytest.param(spec, id=f"{name}-{row}", marks=[pytest.mark.slow] if (name, row) in HEAVY else [])
    for name in sorted(SHIPPED)
    for row, spec in _nets(name)
]


@pytest.mark.parametrize("spec", FIRST_STEPS)
def test_the_full_scale_starts_and_runs_its_first_steps(spec: RunSpec) -> None:
    trainer = Trainer(spec, load_data(spec.data))
    before = [p.detach().clone() for p in trainer.net.parameters()]
    trainer.run()
    assert trainer.step == spec.steps
    assert not trainer.curves.diverged
    assert any(
        not (p.detach() == q).all() for p, q in zip(trainer.net.parameters(), before, strict=True)
    )
    assert len(trainer.curves.evaluations) >= 1
