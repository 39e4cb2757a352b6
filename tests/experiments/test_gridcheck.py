"""Grids that would fail late, or mislead, are refused when they are read."""

from pathlib import Path

import pytest

from cyclr.errors import InputError
from cyclr.experiments.grid import all_grids, get_grid
from cyclr.experiments.results import load_results
from experiments.paper_runs import GRID, trained_result, write_finished, write_grid


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "cycle"', 'name = "a/b"', r"rows\.name must be of letters, digits.*got 'a/b'"),
        ("printed = 50.0", 'printed = "50"', r"row fixed: printed must be a number, got '50'"),
        ("seeds = [0, 1]", "seeds = []", r"tier full: seeds must be a list of whole numbers ≥ 0"),
        ("seeds = [0, 1]", "seeds = 0", r"tier full: seeds must be a list .* got 0"),
        ("seeds = [0, 1]", "seeds = [-1]", r"tier full: seeds must be a list .* got \[-1\]"),
        ('cut = "fixed"', 'cut = "fixed-4"', r"row fixed-4: cut must name a row that is run"),
        ('relation = "beats"', 'relation = "beats"\ntier = "ful"', "looks at the tier 'ful'"),
        ('b = "fixed"', 'b = "sweep"\ntier = "cpu"', "row sweep is not part of tier cpu"),
        (
            'relation = "beats"',
            'relation = "beats"\nnote = "It has {fixd} %."',
            "no row 'fixd'; its rows: fixed",
        ),
        (
            'relation = "beats"',
            'relation = "beats"\nnote = "{a - b - c}"',
            r"paper-table: the note of the claim .* a place in braces is a row, \{row\}, or",
        ),
        (
            'cut = "fixed"\nsteps = 4',
            'cut = "fixed"\nsteps = 16',
            r"steps must be from 1 to the 12 updates of fixed, which it is cut from, got 16",
        ),
        (
            'name = "synthetic"',
            'name = "synthetc"',
            r"row fixed: data\.name must be one of cifar10",
        ),
        (
            'cut = "fixed"\nsteps = 4',
            'cut = "fixed"\nsteps = 5',
            r"tier full: fixed has 12 updates and is not evaluated after 5; cut it at a multiple "
            r"of evaluate_every \(4\) or at a cycle's end",
        ),
        (
            'in = ["full"]\ncut = "fixed"',
            'in = ["cpu"]\ncut = "sweep"',
            "row fixed-4: sweep, which it is cut from, is not part of tier cpu",
        ),
    ],
)
def test_a_grid_that_would_fail_late_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GRID
    papers = write_grid(tmp_path, GRID.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        get_grid(papers, "paper-table")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("other-table/x", "'other-table', and there is no such grid"),
        ("paper-table/x", "no row 'x'"),
    ],
)
def test_a_claim_on_a_row_that_no_grid_has_is_refused(
    tmp_path: Path, row: str, message: str
) -> None:
    papers = write_grid(tmp_path, GRID.replace('b = "fixed"', f'b = "{row}"'))
    with pytest.raises(InputError, match=message):
        all_grids(papers)


@pytest.mark.parametrize(
    ("steps", "scale", "at"), [('"0.5run"', "", 6), ('"1run"', "", 12), ("8", "scale = 0.5", 4)]
)
def test_a_cut_follows_the_tier(tmp_path: Path, steps: str, scale: str, at: int) -> None:
    text = GRID.replace('cut = "fixed"\nsteps = 4', f'cut = "fixed"\nsteps = {steps}')
    text = text.replace("evaluate_every = 4", "evaluate_every = 2").replace(
        "seeds = [0, 1]", f"seeds = [0, 1]\n{scale}"
    )
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    finished = trained_result("fixed", 0, 0.5)
    whole = grid.resolve(grid.row("fixed"), "full", 0).steps
    finished["curve"]["evaluations"] = [
        {"step": step, "accuracy": step / 100} for step in range(2, whole + 1, 2)
    ]
    write_finished(grid, {**finished, "steps": whole})
    (cut,) = load_results(grid, "full")["fixed-4"]
    assert (cut["steps"], cut["accuracy"]) == (at, at / 100)
