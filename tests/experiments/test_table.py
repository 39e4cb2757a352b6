"""Tables and the page, from finished runs only."""

from pathlib import Path

import pytest

from cyclr.errors import InputError
from cyclr.experiments.grid import all_grids, get_grid
from cyclr.experiments.page import page
from cyclr.experiments.results import load_results
from cyclr.experiments.table import Evidence, markdown, notes, rows
from cyclr.report.papers import picture_files
from experiments.paper_runs import GRID, grid_with, trained_result, write_finished, write_grid


def test_a_table_says_mean_deviation_and_how_many(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5), trained_result("fixed", 1, 0.52))
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
    lines = markdown(entries, "full").splitlines()
    assert lines[2] == "| fixed rate (`fixed`) | 12 | 50 | 51.00 ± 1.41 | 2 of 2 | 20.5 | 90 % |"
    assert lines[6] == "| one cycle (`cycle`) |  |  | not run yet | 0 of 2 |  |  |"


def test_a_single_run_has_no_deviation_and_a_diverged_one_is_said_so(tmp_path: Path) -> None:
    result = {**trained_result("fixed", 1, 0.1), "outcome": "diverged"}
    grid = grid_with(tmp_path, result)
    table = markdown(rows(grid, "full", load_results(grid, "full")), "full")
    assert "| 10.00 (1 diverged) | 1 of 2 |" in table


def test_seeds_beyond_those_wanted_count_as_wanted(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, *(trained_result("fixed", seed, 0.5) for seed in range(3)))
    table = markdown(rows(grid, "full", load_results(grid, "full"), ["fixed"]), "full")
    assert "| 3 of 3 |" in table
    assert len(table.splitlines()) == 3


def test_the_printed_numbers_are_those_of_the_full_scale(tmp_path: Path) -> None:
    grid = grid_with(tmp_path)
    entries = {tier: rows(grid, tier, {}) for tier in ("full", "cpu", "smoke")}
    tables = {tier: markdown(entries[tier], tier) for tier in entries}
    assert "| steps | printed | ours |" in tables["full"]
    assert "| steps | printed, full scale | ours |" in tables["cpu"]
    assert "| steps | printed | ours |" in tables["smoke"]
    assert [entries[tier][0]["printed"] for tier in entries] == [50.0, 50.0, None]


def test_notes_are_of_what_is_shown(tmp_path: Path) -> None:
    text = GRID.replace('relation = "beats"', 'relation = "beats"\nnote = """Of a\nclaim."""')
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    evidence = Evidence({grid.name: grid})
    assert notes(grid, "full", ["planned"], grid.claims, evidence) == [
        "For tests.",
        "Tier full. All of it.",
        "planned: From the sweep.",
        "the cycle beats the fixed rate: Of a claim.",
    ]
    assert notes(grid, "cpu", ["fixed"], (), evidence) == ["For tests."]


def test_figures_in_a_note_are_those_of_the_finished_runs(tmp_path: Path) -> None:
    note = "Fixed gains {fixed - fixed-4}, to {fixed}; the cycle has {cycle}."
    text = GRID.replace('relation = "beats"', f'relation = "beats"\nnote = "{note}"')
    runs = [trained_result("fixed", 0, 0.5), trained_result("fixed", 1, 0.53)]
    grid = grid_with(tmp_path, *runs, text=text)
    said = "Fixed gains 2.00, to 51.50; the cycle has (not run yet)."
    assert Evidence({grid.name: grid}).note(grid, grid.claims[0]) == said
    assert f"- the cycle beats the fixed rate: {said}" in page({grid.name: grid})


def test_a_claim_about_a_scaled_run_is_set_beside_what_is_printed_at_full_scale(
    tmp_path: Path,
) -> None:
    text = GRID.replace('relation = "beats"', 'relation = "beats"\ntier = "cpu"')
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    for row in ("fixed", "cycle"):
        write_finished(grid, {**trained_result(row, 0, 0.5), "tier": "cpu"})
    said = "(#paper-table), cpu | – / 50 (full scale) | 50 (n = 1) / 50 (n = 1) |"
    assert said in page({grid.name: grid})


def test_a_verdict_says_which_runs_diverged(tmp_path: Path) -> None:
    lost = {**trained_result("fixed", 0, 0.1), "outcome": "diverged"}
    grid = grid_with(tmp_path, lost, trained_result("cycle", 0, 0.5))
    said = "in one run: holds: +40.00 points (margin 0, n = 1); 1 of fixed diverged"
    assert Evidence({grid.name: grid}).verdict(grid, grid.claims[0]) == said
    assert f"| 50 (n = 1) / 10 (n = 1, 1 diverged) | {said} |" in page({grid.name: grid})


def test_rows_on_other_images_are_not_compared(tmp_path: Path) -> None:
    other = {**trained_result("fixed", 0, 0.5), "data_fingerprint": "fedcba9876543210"}
    grid = grid_with(tmp_path, other, trained_result("cycle", 0, 0.5))
    said = "cannot be said: cycle and fixed were run on different images"
    assert Evidence({grid.name: grid}).verdict(grid, grid.claims[0]) == said


def test_the_page_says_what_is_written_about_the_results(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5))
    (tmp_path / "papers" / "about.md").write_text("Made of\nsand.\n")
    assert "\nMade of\nsand.\n\n## Claims" in page({grid.name: grid})


def test_a_run_that_diverged_before_a_measure_leaves_table_and_page_whole(tmp_path: Path) -> None:
    text = GRID.replace('b = "fixed"', "b = 0.0").replace(
        'relation = "beats"', 'relation = "beats"\nquantity = "ensemble_gain"'
    )
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    lost = {**trained_result("cycle", 0, 0.1), "outcome": "diverged"}
    lost["measures"] = {"snapshots": {"steps": [], "single": [], "last": []}}
    write_finished(grid, lost)
    said = "cannot be said: a run of cycle diverged before it could be measured"
    assert f"| – / – | – / 0 | {said} |" in page({grid.name: grid})
    kept = {**trained_result("cycle", 1, 0.5)}
    kept["measures"] = {"snapshots": {"steps": [6], "single": [0.5], "last": [0.5, 0.52]}}
    write_finished(grid, kept)
    assert f"| – / – | 2 (n = 1, 1 diverged) / 0 | {said} |" in page({grid.name: grid})
    assert "(1 diverged) | 2 of 2 |" in markdown(
        rows(grid, "full", load_results(grid, "full")), "full"
    )


def test_claims_look_at_other_tables_too(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5))
    evidence = Evidence({grid.name: grid})
    assert evidence.values("paper-table", "full", "accuracy", "fixed") == [50.0]
    assert evidence.values("other", "full", "accuracy", "paper-table/fixed") == [50.0]
    with pytest.raises(InputError, match="a claim looks at 'other', and there is no such grid"):
        evidence.values("paper-table", "full", "accuracy", "other/fixed")


def test_the_page_says_what_was_run_and_what_was_not(tmp_path: Path) -> None:
    grid = grid_with(tmp_path, trained_result("fixed", 0, 0.5))
    text = page({grid.name: grid})
    waiting = "| the cycle beats the fixed rate | [paper-table](#paper-table), full | – / 50 |\n"
    assert f"Not run yet:\n\n| claim | table, tier | printed |\n|---|---|--:|\n{waiting}" in text
    assert "**Tier full.** All of it." in text
    assert "**Tier cpu**, not run yet.\n\n| row | printed, full scale |\n|---|--:|\n" in text
    assert "| fixed rate (`fixed`) | 50 |\n| one cycle (`cycle`) |  |\n" in text
    assert "- `planned`: From the sweep." in text
    for seed, accuracy in ((0, 0.51), (1, 0.52)):
        write_finished(grid, trained_result("cycle", seed, accuracy))
    assert (
        "| the cycle beats the fixed rate | [paper-table](#paper-table), full | – / 50 | "
        "51.5 ± 0.71 (n = 2) / 50 (n = 1) | "
        "in one run: holds: +1.50 points (margin 0, n = 2 against n = 1) |\n"
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
