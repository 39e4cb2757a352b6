"""Pictures of the papers' experiments, from finished runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cyclr.errors import RecordError
from cyclr.experiments.grid import Grid
from cyclr.experiments.policy import record_of
from cyclr.experiments.results import load_results
from cyclr.recipe import Recipe
from cyclr.report.plots import _figure, range_figure, save
from cyclr.report.terminal import chart

Runs = Mapping[str, Sequence[Mapping[str, Any]]]

_POINTS = 400  # as many as a terminal can show
_LINES = 12
_COLOURS = 10  # as many as Matplotlib goes through before it begins anew
_STYLES = ("-", "--", ":", "-.")
_ESTIMATES = {"hessian_free": "averaged", "hessian_free_each_step": "of single updates"}


def accuracy_figure(title: str, runs: Runs) -> Any:
    """Draw every row's accuracy on the test set over the updates, the mean of its seeds.

    Args:
        title: What to write above it.
        runs: Finished runs, by the row's label.

    Returns:
        A Matplotlib figure.
    """
    figure, (axes,) = _figure(1, height=4.4)
    for i, (label, members) in enumerate(runs.items()):
        steps = [entry["step"] for entry in members[0]["curve"]["evaluations"]]
        curves = [[e["accuracy"] for e in run["curve"]["evaluations"]] for run in members]
        length = min(map(len, curves))  # a run that diverged is shorter
        mean = 100 * np.mean([curve[:length] for curve in curves], axis=0)
        axes.plot(
            steps[:length],
            mean,
            label=f"{label} (n = {len(members)})",
            linewidth=1.3,
            linestyle=_STYLES[i // _COLOURS % len(_STYLES)],
            marker="o" if length == 1 else None,  # one point makes no line
        )
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
        runs: Finished runs that were measured, by the row's label. One too short for an estimate
            is left out.
        measure: Name of the measure.

    Returns:
        A Matplotlib figure.

    Reference: arXiv 1708.07120, figure 5.
    """
    figure, (axes,) = _figure(1, height=4.4)
    measured = {label: members[0] for label, members in runs.items()}
    measured = {label: run for label, run in measured.items() if _has_estimates(run, measure)}
    for i, (label, run) in enumerate(measured.items()):
        table = np.asarray(run["measures"][measure]["rows"], dtype=float)
        axes.plot(table[:, 0], table[:, 3], color=f"C{i}", label=f"estimate, {label}")
        axes.plot(table[:, 0], table[:, 1], color=f"C{i}", ls="--", label=f"rate, {label}")
    axes.set_yscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel("learning rate")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    if measured:
        axes.legend(fontsize=8)
    return figure


def _has_estimates(run: Mapping[str, Any], measure: str) -> bool:
    return bool(run["measures"].get(measure, {}).get("rows"))


def sweep_figure(run: Mapping[str, Any]) -> Any:
    """Draw a range test's run with what our reading takes from it.

    Args:
        run: The finished run of a sweep.

    Returns:
        A Matplotlib figure.
    """
    record = record_of(run)
    try:
        reading = record.read()
    except RecordError:
        reading = None  # it diverged at once: there is nothing to mark
    return range_figure(record, reading)


def result_chart(result: Mapping[str, Any]) -> str:
    """Draw accuracy, training loss and rate of a finished run in the terminal.

    Args:
        result: The finished run.
    """
    steps, curve = result["steps"], result["curve"]
    at = np.linspace(0, steps, min(steps + 1, _POINTS))
    drawn = {}
    if evaluations := curve["evaluations"]:
        made = [entry["step"] for entry in evaluations]
        accuracy = [100 * entry["accuracy"] for entry in evaluations]
        drawn["accuracy on the test set, %"] = {"": np.interp(at, made, accuracy)}
    loss = np.asarray(curve["loss"], dtype=float)  # null where it was not finite
    if (finite := np.isfinite(loss)).any():
        middles = curve["stretch"] * (np.arange(len(loss)) + 0.5)
        drawn["training loss"] = {"": np.interp(at, middles[finite], loss[finite])}
    lr = Recipe.from_dict(result["spec"]["recipe"]).lr
    drawn["lr"] = {"": lr(np.minimum(at.astype(np.int64), max(0, steps - 1)))}
    return chart(drawn, x_max=steps)


def result_facts(result: Mapping[str, Any]) -> dict[str, str]:
    """Say what a finished run reached when, and how it was made.

    Args:
        result: The finished run.
    """
    evaluations = result["curve"]["evaluations"]
    kept = np.unique(np.linspace(0, len(evaluations) - 1, min(len(evaluations), _LINES)).round())
    facts = {}
    for entry in (evaluations[int(i)] for i in kept):
        facts[f"after {entry['step']:,}"] = f"{100 * entry['accuracy']:.2f} %"
    if len(kept) < len(evaluations):
        facts["and between"] = f"{len(evaluations) - len(kept)} evaluations more, by --json"
    hardware, versions = result["hardware"], result["versions"]
    facts["outcome"] = f"{result['outcome']} after {result['steps']:,} updates"
    facts["speed"] = f"{result['steps_per_cpu_second']:.3g} updates a CPU second"
    facts["on"] = f"{hardware['cpu']}, {hardware['threads']} thread(s), torch {versions['torch']}"
    return facts


def labelled(grid: Grid, tier: str, found: Mapping[str, Sequence[Any]]) -> Runs:
    """Give the finished runs that are drawn, by their row's label.

    Args:
        grid: The grid.
        tier: The tier.
        found: The finished runs, by row. What is read off the beginning of another is left out.
    """
    drawn = (row for row in grid.rows_of(tier) if row.cut is None and found.get(row.name))
    return {row.label: found[row.name] for row in drawn}


def pictures(runs: Runs) -> dict[str, str]:
    """Say which pictures a table's finished runs allow: a caption by name.

    Args:
        runs: Finished runs, by the row's label.
    """
    captions = {}
    if any(not _is_sweep(members[0]) for members in runs.values()):
        captions["accuracy"] = "Accuracy on the test set over the updates, the mean of the seeds"
    for members in runs.values():
        if _is_sweep(members[0]):
            captions[f"range-{members[0]['row']}"] = "The range test and the bounds read off it"
    for measure, kind in _ESTIMATES.items():
        if any(_has_estimates(members[0], measure) for members in runs.values()):
            captions[measure.replace("_", "-")] = f"The Hessian-free estimate, {kind}, and the rate"
    return captions


def figures(title: str, runs: Runs) -> dict[str, Any]:
    """Make every picture of :func:`pictures`, by name.

    Args:
        title: Of the table.
        runs: Finished runs, by the row's label.
    """
    sweeps = {f"range-{m[0]['row']}": m[0] for m in runs.values() if _is_sweep(m[0])}
    made = {}
    for name in pictures(runs):
        measure = name.replace("-", "_")
        if name in sweeps:
            made[name] = sweep_figure(sweeps[name])
        elif measure in _ESTIMATES:
            made[name] = estimate_figure(title, runs, measure)
        else:
            trained = {label: m for label, m in runs.items() if not _is_sweep(m[0])}
            made[name] = accuracy_figure(title, trained)
    return made


def picture_files(grids: Mapping[str, Grid]) -> dict[tuple[str, str], dict[str, str]]:
    """Name the pictures that a page of all tables shows, from its folder: captions by file.

    Args:
        grids: All grids, by name.
    """
    return {
        (grid.name, tier): {
            _file(grid, tier, name): caption for name, caption in pictures(runs).items()
        }
        for grid, tier, runs in _finished(grids)
    }


def save_pictures(grids: Mapping[str, Grid], folder: Path) -> None:
    """Draw the pictures of :func:`picture_files`.

    Args:
        grids: All grids, by name.
        folder: Of the page.
    """
    for grid, tier, runs in _finished(grids):
        for name, figure in figures(grid.title, runs).items():
            path = folder / _file(grid, tier, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            save(figure, path)


def _finished(grids: Mapping[str, Grid]) -> Iterator[tuple[Grid, str, Runs]]:
    for grid in grids.values():
        for tier in grid.tiers:
            yield grid, tier, labelled(grid, tier, load_results(grid, tier))


def _file(grid: Grid, tier: str, name: str) -> str:
    return f"images/papers/{grid.name}-{tier}-{name}.png"


def _is_sweep(run: Mapping[str, Any]) -> bool:
    """Say whether a run is a range test: its rate only rises."""
    lr = run["spec"]["recipe"]["lr"]
    return bool(lr["kind"] == "linear_sweep" and lr["end_lr"] > lr["start_lr"])
