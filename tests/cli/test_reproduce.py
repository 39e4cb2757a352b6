"""``cyclr reproduce``."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cyclr.cli.app import app
from cyclr.errors import InputError
from experiments.paper_runs import write_grid


def _run(papers: Path, *arguments: str) -> Any:
    places = ["--papers", str(papers), "--store", str(papers.parent / "store"), "--threads", "1"]
    return CliRunner().invoke(app, ["reproduce", *arguments, *places], catch_exceptions=False)


def test_without_a_name_it_lists_the_tables(tmp_path: Path) -> None:
    result = _run(write_grid(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "paper-table  A table\n")


def test_it_runs_and_prints_the_table(tmp_path: Path) -> None:
    papers = write_grid(tmp_path)
    result = _run(papers, "paper-table", "--only", "fixed", "--only", "cycle")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "A table (nowhere, Table 1), tier cpu"
    assert lines[4].startswith("| fixed rate (`fixed`) | 6 | 50.0 | ")
    assert lines[6].startswith("| one cycle (`cycle`) | 8 |  | ")
    assert "paper-table cpu fixed seed 0: " in result.stderr
    assert len(list((papers / "paper" / "results" / "table" / "cpu").iterdir())) == 2


def test_table_and_figures_are_written(tmp_path: Path) -> None:
    papers = write_grid(tmp_path)
    out = tmp_path / "out"
    arguments = ["paper-table", "--tier", "full", "--seeds", "0", "--out", str(out)]
    result = _run(papers, *arguments, "--json")
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed == json.loads((out / "paper-table-full.json").read_text())
    assert [row["n"] for row in printed["rows"]] == [1, 1, 1, 1, 1]
    assert [claim["claim"] for claim in printed["claims"]] == ["the cycle beats the fixed rate"]
    assert (out / "paper-table-full.md").read_text().startswith("| row | steps |")
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == ["paper-table-full-accuracy.png", "paper-table-full-range-sweep.png"]


def test_nothing_is_run_when_only_the_table_is_asked_for(tmp_path: Path) -> None:
    result = _run(write_grid(tmp_path), "paper-table", "--no-run")
    assert result.exit_code == 0
    assert result.stdout.count("not run yet") == 3
    assert not (tmp_path / "store").exists()


def test_first_steps_are_not_kept_beside_the_grids(tmp_path: Path) -> None:
    papers = write_grid(tmp_path)
    result = _run(papers, "paper-table", "--tier", "smoke", "--only", "cycle")
    assert result.exit_code == 0
    assert "| one cycle (`cycle`) | 3 |" in result.stdout
    assert not (papers / "paper" / "results").exists()


def test_the_page_is_written(tmp_path: Path) -> None:
    target = tmp_path / "papers.md"
    result = _run(write_grid(tmp_path), "--page", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "## A table" in target.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no table 'nothing'; there are: paper-table"),
        (["paper-table", "--tier", "gpu"], "paper-table has no tier 'gpu'"),
        (["paper-table", "--seeds", "0,x"], "--seeds must be whole numbers and commas, got '0,x'"),
        (["paper-table", "--only", "x"], "paper-table has no row 'x'"),
    ],
)
def test_a_wrong_request_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _run(write_grid(tmp_path), *arguments)
