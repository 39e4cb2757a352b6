"""Pictures of the papers' experiments."""

import copy
from pathlib import Path
from typing import Any

from cyclr.experiments.grid import get_grid
from cyclr.experiments.page import page
from cyclr.report.papers import (
    accuracy_figure,
    estimate_figure,
    figures,
    labelled,
    picture_files,
    pictures,
    save_pictures,
    sweep_figure,
)
from experiments.paper_runs import GRID, sweep_result, write_finished, write_grid


def _trained(seed: int = 0) -> dict[str, Any]:
    result = copy.deepcopy(sweep_result())
    result["spec"]["recipe"]["lr"] = {"kind": "constant", "value": 0.1}
    result |= {"row": "fixed", "seed": seed, "accuracy": 0.6 + seed / 10, "steps": 100}
    for entry in result["curve"]["evaluations"]:
        entry["accuracy"] += seed / 10
    result |= {"grid": "paper-table", "tier": "full", "outcome": "completed"}
    result |= {"steps_per_cpu_second": 20.0, "speed": {"ratio": 0.9}}
    rows = [[step, 0.1, 0.3, 0.2 + step / 1000] for step in range(0, 100, 10)]
    measure = {"columns": ["step", "lr", "estimate", "average"], "rows": rows}
    result["measures"] = {"hessian_free": measure}
    return result


def test_accuracies_are_means_over_seeds_in_percent() -> None:
    figure = accuracy_figure("a table", {"fixed": [_trained(0), _trained(1)]})
    (line,) = figure.axes[0].lines
    assert line.get_label() == "fixed (n = 2)"
    evaluations = sweep_result()["curve"]["evaluations"]
    assert line.get_xdata()[-1] == evaluations[-1]["step"]
    assert abs(line.get_ydata()[-1] - 100 * (evaluations[-1]["accuracy"] + 0.05)) < 1e-9


def test_a_run_that_diverged_early_shortens_the_mean() -> None:
    short = _trained(1)
    short["curve"]["evaluations"] = short["curve"]["evaluations"][:3]
    figure = accuracy_figure("a table", {"fixed": [_trained(0), short]})
    assert len(figure.axes[0].lines[0].get_ydata()) == 3


def test_estimates_are_drawn_with_the_rate() -> None:
    figure = estimate_figure("a table", {"constant": [_trained()]})
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["estimate, constant", "rate, constant"]
    assert [round(y, 6) for y in figure.axes[0].lines[0].get_ydata()[:2]] == [0.2, 0.21]


def test_a_run_too_short_for_an_estimate_is_left_out() -> None:
    short = _trained()
    short["measures"]["hessian_free"]["rows"] = []
    figure = estimate_figure("a table", {"short": [short], "constant": [_trained()]})
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["estimate, constant", "rate, constant"]
    assert not estimate_figure("a table", {"short": [short]}).axes[0].lines
    assert list(pictures({"short": [short]})) == ["accuracy"]


def test_more_rows_than_colours_differ_in_their_style() -> None:
    lines = accuracy_figure("a", {f"row {i}": [_trained()] for i in range(23)}).axes[0].lines
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 23


def test_a_single_evaluation_can_be_seen() -> None:
    short = _trained()
    short["curve"]["evaluations"] = short["curve"]["evaluations"][:1]
    long, single = accuracy_figure("a", {"a": [_trained()], "b": [short]}).axes[0].lines
    assert (long.get_marker(), single.get_marker()) == ("None", "o")


def test_a_sweep_that_diverged_at_once_is_drawn_without_bounds() -> None:
    run = sweep_result()
    run["outcome"] = "diverged"
    run["curve"] |= {"loss": ["nan"], "evaluations": run["curve"]["evaluations"][:1]}
    assert sweep_figure(run).axes[0].get_xlabel() == "learning rate"


def test_a_sweep_is_drawn_as_a_range_test() -> None:
    figure = sweep_figure(sweep_result())
    assert figure.axes[0].get_xlabel() == "learning rate"


def test_every_picture_that_the_runs_allow() -> None:
    runs = {"range test": [sweep_result()], "fixed": [_trained()]}
    assert list(figures("a table", runs)) == ["accuracy", "range-sweep", "hessian-free"]
    assert list(pictures(runs)) == list(figures("a table", runs))
    assert figures("a table", {}) == {}


def test_a_page_s_pictures_are_saved_where_it_shows_them(tmp_path: Path) -> None:
    first = _trained()["curve"]["evaluations"][0]["step"]
    text = GRID.replace('cut = "fixed"\nsteps = 4', f'cut = "fixed"\nsteps = {first}')
    text = text.replace("steps = 12\n\n[tiers", "steps = 4000\n\n[tiers")
    text = text.replace("evaluate_every = 4", f"evaluate_every = {first}")
    grid = get_grid(write_grid(tmp_path, text), "paper-table")
    write_finished(grid, _trained())
    grids = {grid.name: grid}
    files = picture_files(grids)
    assert [name for name, shown in files.items() if shown] == [("paper-table", "full")]
    save_pictures(grids, tmp_path / "docs")
    for file, caption in files["paper-table", "full"].items():
        assert (tmp_path / "docs" / file).stat().st_size > 1000
        assert f"![{caption}]({file})\n" in page(grids, pictures=files)


def test_what_is_read_off_another_run_is_not_drawn_twice(tmp_path: Path) -> None:
    grid = get_grid(write_grid(tmp_path), "paper-table")
    found = {"fixed": [_trained()], "fixed-4": [_trained()]}
    assert list(labelled(grid, "full", found)) == ["fixed rate"]
