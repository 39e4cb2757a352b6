"""Finished results on disk: read, cut, and refused where they are not of the grid as it is."""

from pathlib import Path
from typing import Any

import pytest

from cyclr.errors import InputError
from cyclr.experiments.grid import all_grids, get_grid
from cyclr.experiments.page import page
from cyclr.experiments.results import load_results, read_current, result_path, spec_of
from cyclr.experiments.store import write_result
from cyclr.report.papers import picture_files
from experiments.paper_runs import (
    GRID,
    grid_with,
    sweep_result,
    trained_result,
    write_finished,
    write_grid,
)


def test_a_row_is_read_off_the_run_it_begins(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5))
    (cut,) = load_results(grid, "full")["fixed-4"]
    assert (cut["accuracy"], cut["steps"]) == (pytest.approx(0.48), 4)
    assert len(cut["curve"]["loss"]) == 4


def test_a_row_may_be_cut_in_epochs(tmp_path: Path) -> None:
    text = GRID.replace('cut = "fixed"\nsteps = 4', 'cut = "fixed"\nsteps = "2ep"')
    text = text.replace("batch_size = 10", "batch_size = 15")  # four updates an epoch
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    write_finished(grid, trained_result("fixed", 0, 0.5))
    assert load_results(grid, "full")["fixed-4"][0]["steps"] == 8


def test_the_beginning_of_a_run_that_diverged_before_diverged_too(tmp_path: Path) -> None:
    result = {**trained_result("fixed", 0, 0.1), "outcome": "diverged", "steps": 3}
    grid = grid_with(tmp_path, result)
    (cut,) = load_results(grid, "full")["fixed-4"]
    assert (cut["outcome"], cut["row"], cut["steps"]) == ("diverged", "fixed-4", 3)


def test_results_on_other_images_are_not_averaged(tmp_path: Path) -> None:
    other = {**trained_result("fixed", 1, 0.5), "data_fingerprint": "fedcba9876543210"}
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5), other)
    message = "row fixed: seeds 0 and 1 were run on different images, and cannot be averaged"
    with pytest.raises(InputError, match=message):
        load_results(grid, "full")


def test_a_result_of_another_table_is_refused(tmp_path: Path) -> None:
    grid = grid_with(tmp_path)
    path = write_finished(grid, trained_result("fixed", 0, 0.5))
    path.write_text(path.read_text().replace('"paper-table"', '"another"'))
    with pytest.raises(InputError, match=r"fixed-seed0\.json is a result of another, tier full"):
        load_results(grid, "full")


def test_a_result_of_other_settings_is_refused(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5))
    grid.path.write_text(GRID.replace("value = 0.05", "value = 0.06"))
    changed = get_grid(tmp_path / "papers", "paper-table")
    message = r"fixed-seed0\.json was made under other settings than .*table\.toml has now; move it"
    for look in (
        lambda: load_results(changed, "full"),
        lambda: page({changed.name: changed}),
        lambda: picture_files({changed.name: changed}),
    ):
        with pytest.raises(InputError, match=message):
            look()


def test_what_is_planned_from_a_sweep_is_checked_against_that_sweep(tmp_path: Path) -> None:
    text = GRID.replace("end_lr = 0.3, steps = 12", "end_lr = 0.02, steps = 4000")
    text = text.replace("evaluate_every = 1\n", "evaluate_every = 100\nsteps = 4000\n")
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    sweep = {**sweep_result(), "spec": grid.resolve(grid.row("sweep"), "full", 0).to_dict()}
    write_result(result_path(grid, "sweep", "full", 0), sweep)
    spec = spec_of(grid, grid.row("planned"), "full", 0)
    assert spec is not None
    planned = {**trained_result("planned", 0, 0.5), "spec": spec.to_dict()}
    write_result(result_path(grid, "planned", "full", 0), planned)
    assert set(load_results(grid, "full")) == {"sweep", "planned"}
    for entry in sweep["curve"]["evaluations"][:20]:
        entry["accuracy"] = 0.1  # rises only from .01 on
    write_result(result_path(grid, "sweep", "full", 0), sweep)
    with pytest.raises(InputError, match=r"planned-seed0\.json was made under other settings"):
        load_results(grid, "full")
    result_path(grid, "sweep", "full", 0).unlink()
    assert spec_of(grid, grid.row("planned"), "full", 0) is None


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("copy-of-fixed", {}, r"copy-of-fixed\.json is the result that fixed-seed0\.json should"),
        ("gone-seed0", {"row": "gone"}, r"table\.toml does not run a row gone at full; move it"),
        ("fixed-4-seed0", {"row": "fixed-4"}, "does not run a row fixed-4 at full"),  # it is cut
    ],
)
def test_a_result_that_a_table_would_not_have_written_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    grid = grid_with(tmp_path)
    path = result_path(grid, "fixed", "full", 0).with_name(f"{name}.json")
    write_result(path, {**trained_result("fixed", 0, 0.5), **changes})
    with pytest.raises(InputError, match=message):
        load_results(grid, "full")


def test_results_may_be_kept_elsewhere(tmp_path: Path) -> None:
    grid = grid_with(tmp_path)
    home = tmp_path / "elsewhere"
    path = result_path(grid, "fixed", "full", 1, home)
    assert path == home / "paper" / "table" / "full" / "fixed-seed1.json"
    spec = grid.resolve(grid.row("fixed"), "full", 1)
    assert read_current(path, grid, spec) is None
    write_result(path, {**trained_result("fixed", 1, 0.5), "spec": spec.to_dict()})
    assert read_current(path, grid, spec) == load_results(grid, "full", home)["fixed"][0]
    assert load_results(grid, "full") == {}


def test_every_shipped_result_is_of_the_settings_its_grid_has_now() -> None:
    from cyclr.experiments.runner import Job, Options, finished

    for grid in all_grids(Path(__file__).parents[2] / "papers").values():
        for tier in grid.tiers:
            for name, members in load_results(grid, tier).items():
                row = grid.row(name)
                for result in members if row.cut is None else []:
                    job = Job(grid=grid, row=row, tier=tier, seed=result["seed"])
                    assert finished(job, Options()) is not None
