"""Pictures: what is drawn is what was recorded."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyclr import (
    Constant,
    ExponentialSweep,
    LinearSweep,
    OneCycle,
    Outcome,
    RangeRecord,
    Reading,
    Recipe,
    Triangular,
)
from cyclr.errors import InputError, MissingExtraError, RecordError
from cyclr.rangetest.record import Series
from cyclr.rangetest.way_back import Leg
from cyclr.report.plots import range_figure, run_figure, save, schedule_figure
from cyclr.training import Run, RunFolder

READING = Reading(base_lr=0.01, max_lr=0.2, rule="knee", outcome=Outcome.DIVERGED)
SWEEP = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=40)
RECIPE = Recipe(lr=Triangular(base_lr=0.1, max_lr=1.0, stepsize=5, cycles=2), total_steps=20)


def _record(**changes: Any) -> RangeRecord:
    lr = tuple(SWEEP(k) for k in range(40))
    loss = tuple(2.0 - k / 30 + (3.0 ** (k - 34) if k > 30 else 0.0) for k in range(40))
    fields = {"sweep": SWEEP, "lr": lr, "loss": loss, "outcome": Outcome.DIVERGED}
    return RangeRecord(**{**fields, **changes})


def _line(axes: Any, label: str) -> tuple[list[float], list[float]]:
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return list(line.get_xdata()), list(line.get_ydata())


def test_a_range_test_is_drawn_over_the_rate_with_its_bounds() -> None:
    record = _record()
    figure = range_figure(record, READING)
    (axes,) = figure.axes
    assert _line(axes, "training loss") == (list(record.lr), list(record.loss))
    assert axes.get_xscale() == "log"
    (band,) = axes.patches
    left, right = band.get_x(), band.get_x() + band.get_width()
    assert (left, right) == pytest.approx((0.01, 0.2))
    assert axes.get_title() == "base_lr 0.01, max_lr 0.2 (knee); sweep diverged"


def test_the_way_back_is_drawn_where_there_is_one() -> None:
    back = Leg((0.9, 0.8), (2.5, 2.0))
    (axes,) = range_figure(_record(way_back=back)).axes
    assert _line(axes, "on the way back") == (list(back.lr), list(back.loss))
    (axes,) = range_figure(_record()).axes
    assert "on the way back" not in [line.get_label() for line in axes.lines]


def test_an_exploding_end_does_not_flatten_the_rest() -> None:
    loss = (*_record().loss[:-2], 1e6, math.inf)
    (axes,) = range_figure(_record(loss=loss)).axes
    low, high = axes.get_ylim()
    assert low < min(loss)
    assert max(loss[:30]) < high < 20


def test_losses_that_are_all_nan_are_drawn_all_the_same(tmp_path: Path) -> None:
    save(range_figure(_record(loss=(math.nan,) * 40)), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_a_linear_sweep_has_a_linear_axis_and_its_accuracy() -> None:
    sweep = LinearSweep(start_lr=0.0, end_lr=0.02, steps=40)
    metrics = {
        "val_accuracy": Series((0, 10, 20), (0.1, 0.5, 0.7)),
        "val_loss": Series((0, 10, 20), (2.0, 1.5, 1.0)),
    }
    record = _record(sweep=sweep, lr=tuple(sweep(k) for k in range(40)), metrics=metrics)
    axes, twin = range_figure(record).axes
    assert axes.get_xscale() == "linear"
    at = [record.lr[k] for k in (0, 10, 20)]
    assert _line(twin, "val_accuracy") == (at, [0.1, 0.5, 0.7])
    assert _line(axes, "val_loss") == (at, [2.0, 1.5, 1.0])
    assert list(axes.patches) == []


def test_schedules_are_drawn_one_above_the_other() -> None:
    lr = OneCycle(base_lr=0.1, max_lr=1.0, final_lr=0.001, total_steps=50)
    momentum = Triangular(base_lr=0.85, max_lr=0.95, stepsize=25)
    top, bottom = schedule_figure({"lr": {"": lr}, "momentum": {"": momentum}}, steps=50).axes
    assert (top.get_ylabel(), bottom.get_ylabel()) == ("lr", "momentum")
    for axes, schedule in ((top, lr), (bottom, momentum)):
        (line,) = axes.lines
        assert list(line.get_xdata()) == list(range(50))
        assert list(line.get_ydata()) == pytest.approx([schedule(k) for k in range(50)])


def test_a_long_schedule_is_sampled_from_end_to_end() -> None:
    lr = Triangular(base_lr=0.1, max_lr=1.0, stepsize=250_000)
    (axes,) = schedule_figure({"lr": {"": lr}}, steps=1_000_000).axes
    x, y = axes.lines[0].get_xdata(), axes.lines[0].get_ydata()
    assert (x[0], x[-1]) == (0, 999_999)
    assert 1000 <= len(x) <= 2000
    assert np.array_equal(y, lr(x))


def _run(folder: Path, *, metrics: bool = True) -> None:
    home = RunFolder(folder)
    home.open(RECIPE)
    for step in range(20):
        home.log({"step": step, "loss": 2.0 / (step + 1), "lr": RECIPE.lr(step)})
        if step + 1 in RECIPE.stopping_points:
            found = {"val_loss": 0.5, "val_accuracy": 0.8 + step / 100} if metrics else {}
            home.log({"step": step + 1, "stopping_point": True, **found})
    home.close(Run(recipe=RECIPE, steps=20, outcome="completed", metrics={}, folder=folder))


def test_a_run_is_drawn_with_its_stopping_points(tmp_path: Path) -> None:
    _run(tmp_path / "run")
    top, bottom, twin = run_figure(tmp_path / "run").axes
    x, y = top.lines[0].get_data()
    assert list(x) == list(range(20))
    assert list(y) == pytest.approx([2.0 / (k + 1) for k in range(20)])
    assert list(bottom.lines[0].get_ydata()) == pytest.approx([RECIPE.lr(k) for k in range(20)])
    x, y = twin.lines[0].get_data()
    assert list(x) == [10, 20]
    assert list(y) == pytest.approx([0.89, 0.99])
    for axes in (top, bottom):
        marks = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert marks == [10, 20]


def test_a_run_without_metrics_is_drawn(tmp_path: Path) -> None:
    _run(tmp_path / "run", metrics=False)
    assert len(run_figure(tmp_path / "run").axes) == 2


def test_a_folder_that_is_no_run_is_a_record_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="is not a run's folder"):
        run_figure(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")]
)
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str, begins: bytes) -> None:
    path = tmp_path / f"x.{suffix}"
    save(range_figure(_record(), READING), path)
    assert path.read_bytes().startswith(begins)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x.nonsense", "Format 'nonsense' is not supported"), ("none/x.png", "No such file")],
)
def test_a_picture_that_cannot_be_written_is_an_input_error(
    tmp_path: Path, name: str, reason: str
) -> None:
    with pytest.raises(InputError) as caught:
        save(schedule_figure({"lr": {"": RECIPE.lr}}, steps=20), tmp_path / name)
    assert str(caught.value).startswith(f"cannot write the picture {tmp_path / name}: ")
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_pyplot_is_not_touched() -> None:
    # Figures of pyplot stay in memory, and pick a window system.
    code = (
        "import sys; from cyclr.report.plots import schedule_figure; from cyclr import Constant; "
        "schedule_figure({'lr': {'': Constant(value=1.0)}}, steps=3); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"cyclr.report needs matplotlib.*'cyclr\[cli\]'"):
        schedule_figure({"lr": {"": RECIPE.lr}}, steps=20)


def test_several_schedules_share_one_axis_with_a_legend() -> None:
    curves = {"one": Constant(value=0.1), "two": Constant(value=0.2)}
    (axes,) = schedule_figure({"lr": curves}, steps=5).axes
    assert [line.get_label() for line in axes.lines] == ["one", "two"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]


def test_a_spec_keeps_its_colour_where_it_is_alone() -> None:
    one, two = Constant(value=0.1), Constant(value=0.2)
    figure = schedule_figure({"lr": {"1": one, "2": two}, "weight_decay": {"2": two}}, steps=10)
    colours = [[line.get_color() for line in axes.lines] for axes in figure.axes]
    assert colours == [["C0", "C1"], ["C1"]]
