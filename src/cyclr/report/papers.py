"""Pictures of the papers' experiments, from finished runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cyclr.experiments.policy import record_of
from cyclr.report.plots import _figure, range_figure

Runs = Mapping[str, Sequence[Mapping[str, Any]]]


def accuracy_figure(title: str, runs: Runs) -> Any:
    """Draw every row's accuracy on the test set over the updates, the mean of its seeds.

    Args:
        title: What to write above it.
        runs: Finished runs, by the row's label.

    Returns:
        A Matplotlib figure.
    """
    figure, (axes,) = _figure(1, height=4.4)
    for label, members in runs.items():
        steps = [entry["step"] for entry in members[0]["curve"]["evaluations"]]
        curves = [[e["accuracy"] for e in run["curve"]["evaluations"]] for run in members]
        length = min(map(len, curves))  # a run that diverged is shorter
        mean = 100 * np.mean([curve[:length] for curve in curves], axis=0)
        axes.plot(steps[:length], mean, label=f"{label} (n = {len(members)})", linewidth=1.3)
    axes.set_xlabel("updates")
    axes.set_ylabel("accuracy on the test set, %")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def estimate_figure(title: str, runs: Runs, measure: str = "hessian_free") -> Any:
    """Draw the Hessian-free estimate of the rate along runs, with the rate itself.

    Args:
        title: What to write above it.
        runs: Finished runs that were measured, by the row's label.
        measure: Name of the measure.

    Returns:
        A Matplotlib figure.

    Reference: arXiv 1708.07120, figure 5.
    """
    figure, (axes,) = _figure(1, height=4.4)
    for i, (label, members) in enumerate(runs.items()):
        table = np.asarray(members[0]["measures"][measure]["rows"], dtype=float)
        axes.plot(table[:, 0], table[:, 3], color=f"C{i}", label=f"estimate, {label}")
        axes.plot(table[:, 0], table[:, 1], color=f"C{i}", ls="--", label=f"rate, {label}")
    axes.set_yscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel("learning rate")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return figure


def sweep_figure(run: Mapping[str, Any]) -> Any:
    """Draw a range test's run with what our reading takes from it.

    Args:
        run: The finished run of a sweep.

    Returns:
        A Matplotlib figure.
    """
    record = record_of(run)
    return range_figure(record, record.read())


def figures(title: str, runs: Runs) -> dict[str, Any]:
    """Make every picture that a table's finished runs allow, by name.

    Args:
        title: Of the table.
        runs: Finished runs, by the row's label; rows without any are left out.
    """
    done = {label: members for label, members in runs.items() if members}
    made = {}
    trained = {label: m for label, m in done.items() if not _is_sweep(m[0])}
    if trained:
        made["accuracy"] = accuracy_figure(title, trained)
    for members in done.values():
        if _is_sweep(members[0]):
            made[f"range-{members[0]['row']}"] = sweep_figure(members[0])
    for measure in ("hessian_free", "hessian_free_each_step"):
        measured = {k: m for k, m in done.items() if measure in m[0]["measures"]}
        if measured:
            made[measure.replace("_", "-")] = estimate_figure(title, measured, measure)
    return made


def _is_sweep(run: Mapping[str, Any]) -> bool:
    """Say whether a run is a range test: its rate only rises."""
    lr = run["spec"]["recipe"]["lr"]
    return bool(lr["kind"] == "linear_sweep" and lr["end_lr"] > lr["start_lr"])
