"""``cyclr reproduce``."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cyclr.cli.app import app
from cyclr.errors import InputError
from experiments.paper_runs import GRID, write_grid


def _run(papers: Path, *arguments: str) -> Any:
    places = ["--papers", str(papers), "--store", str(papers.parent / "store"), "--threads", "1"]
    return CliRunner().invoke(app, ["reproduce", *arguments, *places], catch_exceptions=False)


def test_without_a_name_it_lists_the_tables(tmp_path: Path) -> None:
    result = _run(write_grid(tmp_path))
    assert (result.exit_code, result.stdout) == (
        0,
        "paper-table  A table (full 0/8, cpu 0/2)\n",
    )
    papers = tmp_path / "papers"
    _run(papers, "paper-table", "--only", "fixed")
    assert _run(papers).stdout == "paper-table  A table (full 0/8, cpu 1/2)\n"


def test_the_tier_is_the_scaled_one_where_there_is_one(tmp_path: Path) -> None:
    said = "paper-table: tier cpu, of full, cpu, smoke; choose with --tier"
    assert said in _run(write_grid(tmp_path), "paper-table", "--no-run").stderr
    head, scaled = GRID.split("[tiers.cpu]")
    text = head + scaled[scaled.index("[[rows]]") :].replace("[rows.tiers.cpu]\nsteps = 8\n", "")
    result = _run(write_grid(tmp_path / "b", text), "paper-table", "--no-run")
    assert "paper-table: tier full, of full, smoke; choose with --tier" in result.stderr
    assert "tier full\n" in result.stdout


def test_it_runs_and_prints_the_table(tmp_path: Path) -> None:
    papers = write_grid(tmp_path)
    result = _run(papers, "paper-table", "--only", "fixed", "--only", "cycle")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "A table (nowhere, Table 1), tier cpu"
    assert lines[4].startswith("| fixed rate (`fixed`) | 6 | 50 | ")
    assert lines[5].startswith("| one cycle (`cycle`) | 8 |  | ")
    assert lines[6:] == ["", "For tests."]  # the grid's note; no row shown has one, nor the tier
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
    assert result.stdout.count("not run yet") == 2
    assert not (tmp_path / "store").exists()


def test_a_seed_given_twice_is_run_once_and_only_the_rows_asked_for_are_printed(
    tmp_path: Path,
) -> None:
    arguments = ["--tier", "full", "--seeds", "0,0", "--only", "fixed-4", "--only", "cycle"]
    result = _run(write_grid(tmp_path), "paper-table", *arguments)
    assert result.stderr.count("paper-table full cycle seed 0: begins, 12 updates") == 1
    table = [line for line in result.stdout.splitlines() if line.startswith("| ")][1:]
    assert [line.split("`")[1] for line in table] == ["fixed-4", "cycle"]
    assert "the cycle beats" not in result.stdout  # it is about a row that is not shown


def test_a_result_of_other_settings_is_refused_though_nothing_is_run(tmp_path: Path) -> None:
    papers = write_grid(tmp_path)
    _run(papers, "paper-table", "--only", "fixed")
    grid = papers / "paper" / "table.toml"
    grid.write_text(GRID.replace("value = 0.05", "value = 0.06"))
    page = str(tmp_path / "page.md")
    for arguments in (["paper-table", "--no-run"], ["--page", page], ["paper-table"], []):
        with pytest.raises(InputError, match=r"fixed-seed0\.json was made under other settings"):
            _run(papers, *arguments)


def test_first_steps_are_kept_nowhere(tmp_path: Path) -> None:
    papers = write_grid(tmp_path)
    result = _run(papers, "paper-table", "--tier", "smoke", "--only", "cycle")
    assert result.exit_code == 0
    assert "| one cycle (`cycle`) | 3 |" in result.stdout
    assert not (papers / "paper" / "results").exists()
    assert not (tmp_path / "store").exists()
    assert not list(Path(tempfile.gettempdir()).glob("cyclr-smoke-*"))


def test_shipped_grids_are_smoked_with_their_figures(tmp_path: Path) -> None:
    papers, out = Path(__file__).parents[2] / "papers", tmp_path / "out"
    for table, rows in (
        ("clr-table1", ["table2-25k", "exp_range-42k"]),
        ("superconvergence-hessian", ["constant"]),
    ):
        only = [part for row in rows for part in ("--only", row)]
        arguments = [table, "--tier", "smoke", *only, "--threads", "1", "--out", str(out)]
        result = CliRunner().invoke(app, ["reproduce", *arguments, "--papers", str(papers)])
        assert result.exit_code == 0, result.output
        table_lines = [line for line in result.stdout.splitlines() if line.startswith("| ")][1:]
        assert [line.split("`")[1] for line in table_lines] == rows
        assert all("| 1 of 1 |" in line for line in table_lines)
        written = (out / f"{table}-smoke.md").read_text()
        assert written.startswith("| row | steps | printed |")
        assert "\n\nTier smoke. The first steps, on made-up images of the same" in written
    assert {path.name for path in out.glob("*.png")} == {
        "clr-table1-smoke-accuracy.png",
        "superconvergence-hessian-smoke-accuracy.png",
        "superconvergence-hessian-smoke-hessian-free-each-step.png",
    }


def test_the_page_is_written(tmp_path: Path) -> None:
    target = tmp_path / "papers.md"
    result = _run(write_grid(tmp_path), "--page", str(target))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "## A table" in target.read_text()


def test_the_page_has_what_has_just_been_run(tmp_path: Path) -> None:
    target = tmp_path / "papers.md"
    _run(write_grid(tmp_path), "paper-table", "--only", "cycle", "--page", str(target))
    assert "| one cycle (`cycle`) | 8 |  | " in target.read_text()


def test_the_list_is_printed_as_json(tmp_path: Path) -> None:
    tiers = {"full": {"finished": 0, "wanted": 8}, "cpu": {"finished": 0, "wanted": 2}}
    printed = json.loads(_run(write_grid(tmp_path), "--json").stdout)
    assert printed == {"paper-table": {"title": "A table", "tiers": tiers}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--page", "."], r"--page must name a file, got the folder \.; add a name"),
        (["--page", "file/page.md"], "cannot write to .*file: "),
        (["paper-table", "--out", "file"], "cannot write to file: "),
        (["--tier", "cpu"], "--tier is for one table; name it, such as paper-table"),
        (["--seeds", "1"], "--seeds is for one table"),
        (["--only", "cycle"], "--only is for one table"),
    ],
)
def test_places_and_options_are_looked_at_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    papers = write_grid(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        _run(papers, *arguments)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "there is no table 'nothing'; there are: paper-table"),
        (["paper-table", "--tier", "gpu"], "paper-table has no tier 'gpu'"),
        (
            ["paper-table", "--seeds", "0,x"],
            "--seeds must be whole numbers ≥ 0 with commas between, got '0,x'",
        ),
        (["paper-table", "--seeds", "-1"], "--seeds must be whole numbers ≥ 0 .*, got '-1'; write"),
        (["paper-table", "--only", "x"], "paper-table has no row 'x'"),
    ],
)
def test_a_wrong_request_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _run(write_grid(tmp_path), *arguments)
