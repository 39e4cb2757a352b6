"""Pictures with Matplotlib: a range test with its bounds, schedules, a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cyclr.errors import InputError
from cyclr.extras import require
from cyclr.rangetest import RangeRecord, Reading
from cyclr.schedules import LinearSweep, Schedule
from cyclr.schedules.draw import drawn_steps

if TYPE_CHECKING:
    from cyclr.report.runs import Curves as RunCurves

_LOSS, _METRIC, _RATE, _BAND = "#4269d0", "#e8590c", "#3b7d4f", "#ffd8a8"


def _figure(rows: int, *, height: float, shares: Sequence[float] | None = None) -> tuple[Any, Any]:
    # Figures of their own, without pyplot: nothing global is touched, no window is needed.
    figure = require("matplotlib.figure", caller="cyclr.report", extra="cli").Figure(
        figsize=(7.5, height), layout="constrained"
    )
    ratios = None if shares is None else {"height_ratios": list(shares)}
    return figure, figure.subplots(rows, 1, squeeze=False, gridspec_kw=ratios)[:, 0]


def save(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure to a file, in the format of its suffix.

    Raises:
        InputError: The file cannot be written, or the suffix is not a known format.
    """
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write the picture {path}: {error}; try another .png") from error


def check_picture(path: str | os.PathLike[str]) -> None:
    """Say early whether a picture can be written: before the work, not after it.

    Raises:
        InputError: The suffix is not a format, or the place is not one for a file.
        MissingExtraError: Matplotlib is not installed.
    """
    formats = _canvas().get_supported_filetypes()
    suffix = Path(path).suffix.lstrip(".").lower()
    if suffix not in formats:
        known = ", ".join(sorted(formats))
        raise InputError(f"cannot write the picture {path}: its suffix must be one of {known}")


def _canvas() -> Any:
    return require("matplotlib.figure", caller="a picture", extra="cli").Figure().canvas


def range_figure(record: RangeRecord, reading: Reading | None = None) -> Any:
    """Draw a range test: loss (and accuracy) over the rate, the bounds as a band.

    Args:
        record: What the sweep saw.
        reading: The bounds to mark; None to mark nothing.

    Returns:
        A Matplotlib figure.
    """
    figure, (axes,) = _figure(1, height=4.2)
    lr, loss = np.asarray(record.lr), np.asarray(record.loss)
    axes.plot(lr, loss, color=_LOSS, linewidth=1.4, label="training loss")
    if record.way_back.lr:
        axes.plot(*record.way_back, color=_LOSS, ls="--", linewidth=1.0, label="on the way back")
    _limit_loss(axes, loss)
    if not isinstance(record.sweep, LinearSweep):
        axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss", color=_LOSS)
    scores = {n: series for n, series in record.metrics.items() if not n.endswith("loss")}
    for name in sorted(set(record.metrics) - set(scores)):
        series = record.metrics[name]
        axes.plot(lr[list(series.steps)], series.values, color=_LOSS, ls=":", label=name)
    if scores:
        twin = axes.twinx()
        for name, series in scores.items():
            twin.plot(lr[list(series.steps)], series.values, color=_METRIC, label=name)
        twin.set_ylabel(", ".join(scores), color=_METRIC)
    axes.legend(loc="upper left", fontsize=8)
    if reading is not None:
        axes.axvspan(reading.base_lr, reading.max_lr, color=_BAND, alpha=0.6, lw=0)
        text = f"base_lr {reading.base_lr:.3g}, max_lr {reading.max_lr:.3g} ({reading.read_by})"
        axes.set_title(f"{text}; sweep {record.outcome.value}", fontsize=10)
    axes.grid(alpha=0.25)
    return figure


def _evaluations(axes: Any, stops: Sequence[Mapping[str, Any]]) -> None:
    """Add what was measured at the stopping points."""
    at = [line["step"] for line in stops]
    if stops and "val_loss" in stops[0]:
        values = [line["val_loss"] for line in stops]
        axes.plot(at, values, "s", color=_LOSS, markersize=5, label="validation loss")
    if stops and "val_accuracy" in stops[0]:
        twin = axes.twinx()
        twin.plot(at, [line["val_accuracy"] for line in stops], "o-", color=_METRIC)
        twin.set_ylabel("validation accuracy", color=_METRIC)
        twin.set_ylim(0, 1)


def _limit_loss(axes: Any, loss: Any) -> None:
    """Keep an exploding end from flattening everything else."""
    finite = loss[np.isfinite(loss)]
    if finite.size:
        low, start = float(finite.min()), float(np.median(finite[:5]))
        top = max(start, float(np.quantile(finite, 0.9)))
        margin = 0.15 * (top - low) or 0.1 * abs(low) or 1.0
        axes.set_ylim(low - margin / 2, top + 3 * margin)


def schedule_figure(curves: Mapping[str, Mapping[str, Schedule]], *, steps: int) -> Any:
    """Draw schedules over the same steps: one chart below the other, several curves on each.

    Args:
        curves: For each chart, by its name, the schedules on it, by label.
        steps: How many steps to draw, ≥ 1.

    Returns:
        A Matplotlib figure.
    """
    figure, rows = _figure(len(curves), height=1.2 + 2.0 * len(curves))
    # A spec keeps its colour in every chart, also where it is alone.
    labels = list(dict.fromkeys(label for members in curves.values() for label in members))
    for axes, (name, members) in zip(rows, curves.items(), strict=True):
        for label, schedule in members.items():
            at = drawn_steps(schedule, steps)
            axes.plot(at, schedule(at), label=label, color=f"C{labels.index(label)}")
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
    if any(len(members) > 1 for members in curves.values()):
        rows[0].legend(fontsize=8)
    rows[-1].set_xlabel("step")
    return figure


def run_figure(folder: str | os.PathLike[str]) -> Any:
    """Draw a run: loss, evaluations, rate and probes against steps, stopping points marked.

    Args:
        folder: The run's folder, of a finished or an unfinished run.

    Returns:
        A Matplotlib figure.

    Raises:
        RecordError: The folder is not a run's.
    """
    from cyclr.report.runs import Curves  # brings torch, which the other pictures can spare

    curves = Curves.read(folder)
    probed = bool(curves.probes)
    rows, shares = (4, (3, 1.4, 1.4, 1.4)) if probed else (2, (2, 1))
    figure, axes = _figure(rows, height=9.5 if probed else 5.6, shares=shares)
    _training(axes[0], curves)
    axes[1].plot(*curves.series("lr"), color=_RATE, label="used")
    axes[1].set_ylabel("learning rate", color=_RATE)
    if probed:
        _probes(axes[2], axes[3], curves)
    axes[-1].set_xlabel("step")
    for row in axes:
        row.grid(alpha=0.25)
        row.set_xlim(axes[0].get_xlim())
        for point in curves.ends:
            row.axvline(point, color="grey", ls="--", lw=0.8)
    axes[0].set_title("dashed: stopping points", fontsize=9)
    return figure


def _training(axes: Any, curves: RunCurves) -> None:
    """Draw the loss and what was measured."""
    step, loss = curves.series("loss")
    axes.plot(step, loss, color=_LOSS, alpha=0.35, linewidth=0.8, label="training loss")
    middle, smooth = curves.smoothed("loss")
    if len(smooth):
        axes.plot(middle, smooth, color=_LOSS, label="training loss, averaged")
    axes.set_ylabel("loss", color=_LOSS)
    finite = loss[np.isfinite(loss)]
    if finite.size and finite.min() > 0:
        axes.set_yscale("log")
    _evaluations(axes, curves.evaluations)
    axes.legend(loc="upper center", fontsize=8)


def _probes(rates: Any, norms: Any, curves: RunCurves) -> None:
    """Draw the estimate of the optimal rate beside the rate, and the norms."""
    step, found = curves.series("optimal_lr")
    shown = np.isfinite(found) & (found > 0)
    rates.plot(step[shown], found[shown], ".", color=_METRIC, alpha=0.4, ms=3, label="estimate")
    rates.plot(*curves.series("optimal_lr_mean"), color=_METRIC, label="running mean")
    rates.plot(*curves.series("lr"), color=_RATE, label="used")
    rates.set_ylabel("optimal rate")
    rates.legend(loc="upper right", fontsize=7)
    norms.plot(*curves.series("grad_norm"), color=_LOSS)
    norms.set_ylabel("gradient norm", color=_LOSS)
    twin = norms.twinx()
    twin.plot(*curves.series("update_ratio"), color=_METRIC, lw=0.8)
    twin.set_ylabel("update / weight", color=_METRIC)
    for axes in (rates, norms, twin):
        axes.set_yscale("log")
