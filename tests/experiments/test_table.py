"""Tables and the page, from finished runs only."""

import copy
from pathlib import Path
from typing import Any

import pytest

from cyclr.errors import InputError
from cyclr.experiments.grid import Grid, all_grids, get_grid
from cyclr.experiments.page import page
from cyclr.experiments.store import write_result
from cyclr.experiments.table import Evidence, load_results, markdown, results_home, rows
from cyclr.report.papers import picture_files
from experiments.paper_runs import GRID, sweep_result, write_grid


def _result(row: str, seed: int, accuracy: float) -> dict[str, Any]:
    evaluations = [{"step": 4 * i, "accuracy": accuracy - 0.03 + i / 100} for i in (1, 2, 3)]
    return {
        **copy.deepcopy(sweep_result()),
        "row": row,
        "seed": seed,
        "accuracy": accuracy,
        "steps": 12,
        "steps_per_cpu_second": 20.0 + seed,
        "speed": {"ratio": 0.9},
        "curve": {"stretch": 1, "loss": [2.0] * 12, "evaluations": evaluations},
    }


def _grid(folder: Path, *results: dict[str, Any]) -> Grid:
    grid = get_grid(write_grid(folder), "paper-table")
    for result in results:
        name = f"{result['row']}-seed{result['seed']}.json"
        write_result(results_home(grid) / "full" / name, result)
    return grid


def test_a_table_says_mean_deviation_and_how_many(tmp_path: Path) -> None:
    grid = _grid(tmp_path, _result("fixed", 0, 0.5), _result("fixed", 1, 0.52))
    entries = rows(grid, "full", load_results(grid, "full"))
    assert entries[0] == {
        "row": "fixed",
        "label": "fixed rate",
        "printed": 50.0,
        "mean": 51.0,
        "std": 1.41,
        "n": 2,
        "seeds_wanted": 2,
        "steps": 12,
        "steps_per_cpu_second": 20.5,
        "share_of_bare_loop": 0.9,
        "diverged": 0,
    }
    assert [entry["n"] for entry in entries] == [2, 2, 0, 0, 0]
    lines = markdown(entries).splitlines()
    assert lines[2] == "| fixed rate (`fixed`) | 12 | 50.0 | 51.00 ± 1.41 | 2 of 2 | 20.5 | 90 % |"
    assert lines[6] == "| one cycle (`cycle`) |  |  | not run yet | 0 of 2 |  |  |"


def test_a_single_run_has_no_deviation_and_a_diverged_one_is_said_so(tmp_path: Path) -> None:
    result = {**_result("fixed", 1, 0.1), "outcome": "diverged"}
    grid = _grid(tmp_path, result)
    table = markdown(rows(grid, "full", load_results(grid, "full")))
    assert "| 10.00 (1 diverged) | 1 of 2 |" in table


def test_a_row_is_read_off_the_run_it_begins(tmp_path: Path) -> None:
    grid = _grid(tmp_path, _result("fixed", 0, 0.5))
    (cut,) = load_results(grid, "full")["fixed-4"]
    assert (cut["accuracy"], cut["steps"]) == (pytest.approx(0.48), 4)
    assert len(cut["curve"]["loss"]) == 4


def test_a_row_may_be_cut_in_epochs(tmp_path: Path) -> None:
    text = GRID.replace('cut = "fixed"\nsteps = 4', 'cut = "fixed"\nsteps = "2ep"')
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    result = _result("fixed", 0, 0.5)
    result["spec"]["recipe"]["steps_per_epoch"] = 4
    write_result(results_home(grid) / "full" / "fixed-seed0.json", result)
    assert load_results(grid, "full")["fixed-4"][0]["steps"] == 8


def test_the_beginning_of_a_run_that_diverged_before_diverged_too(tmp_path: Path) -> None:
    result = {**_result("fixed", 0, 0.1), "outcome": "diverged", "steps": 3}
    grid = _grid(tmp_path, result)
    (cut,) = load_results(grid, "full")["fixed-4"]
    assert (cut["outcome"], cut["row"], cut["steps"]) == ("diverged", "fixed-4", 3)


def test_a_row_cannot_be_cut_where_nothing_was_measured(tmp_path: Path) -> None:
    text = GRID.replace('cut = "fixed"\nsteps = 4', 'cut = "fixed"\nsteps = 5')
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    write_result(results_home(grid) / "full" / "fixed-seed0.json", _result("fixed", 0, 0.5))
    with pytest.raises(InputError, match="row fixed-4: fixed was not evaluated after 5 steps"):
        load_results(grid, "full")


def test_a_result_of_another_table_is_refused(tmp_path: Path) -> None:
    grid = _grid(tmp_path, {**_result("fixed", 0, 0.5), "grid": "another"})
    with pytest.raises(InputError, match=r"fixed-seed0\.json is a result of another, tier full"):
        load_results(grid, "full")


def test_claims_look_at_other_tables_too(tmp_path: Path) -> None:
    grid = _grid(tmp_path, _result("fixed", 0, 0.5))
    evidence = Evidence({grid.name: grid})
    assert evidence.values("paper-table", "full", "accuracy", "fixed") == [50.0]
    assert evidence.values("other", "full", "accuracy", "paper-table/fixed") == [50.0]
    with pytest.raises(InputError, match="a claim looks at 'other', and there is no such grid"):
        evidence.values("paper-table", "full", "accuracy", "other/fixed")


def test_the_page_says_what_was_run_and_what_was_not(tmp_path: Path) -> None:
    grid = _grid(tmp_path, _result("fixed", 0, 0.5))
    text = page({grid.name: grid})
    assert "\n- the cycle beats the fixed rate ([paper-table](#paper-table), full)\n" in text
    assert "**Tier full.** All of it." in text
    assert "Not run yet: tier cpu." in text
    assert "- `planned`: From the sweep." in text
    for seed, accuracy in ((0, 0.51), (1, 0.52)):
        result = _result("cycle", seed, accuracy)
        write_result(results_home(grid) / "full" / f"cycle-seed{seed}.json", result)
    assert (
        "| the cycle beats the fixed rate | [paper-table](#paper-table), full | – / 50 | "
        "51.5 ± 0.71 (n = 2) / 50 (n = 1) | "
        "holds: +1.50 points (margin 0, n = 2 against n = 1) |\n"
    ) in page({grid.name: grid})


def test_the_page_in_the_docs_is_the_one_the_results_make() -> None:
    root = Path(__file__).parents[2]
    grids = all_grids(root / "papers")
    files = picture_files(grids)
    expected = page(grids, pictures=files)
    remedy = "run: cyclr reproduce --page docs/papers.md"
    shown = {root / "docs" / file for of_tier in files.values() for file in of_tier}
    assert set((root / "docs" / "images" / "papers").iterdir()) == shown, remedy
    assert (root / "docs" / "papers.md").read_text(encoding="utf-8") == expected, remedy


def test_every_shipped_result_is_of_the_settings_its_grid_has_now() -> None:
    from cyclr.experiments.runner import Job, Options, finished

    for grid in all_grids(Path(__file__).parents[2] / "papers").values():
        for tier in grid.tiers:
            for name, members in load_results(grid, tier).items():
                row = grid.row(name)
                for result in members if row.cut is None else []:
                    job = Job(grid=grid, row=row, tier=tier, seed=result["seed"])
                    assert finished(job, Options()) is not None
