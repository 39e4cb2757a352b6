"""What a person sees of a training: progress while it runs, and its result."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cyclr.cli.options import is_main, print_json, print_pairs, reading_pairs, say
from cyclr.cli.plan import recipe_pairs
from cyclr.figures import show
from cyclr.recipe import Recipe

if TYPE_CHECKING:
    from cyclr.training import Run


class Watch:
    """Shows rate, momentum, loss, accuracy and the cycle on a progress bar.

    Args:
        update: The bar's, from :func:`cyclr.cli.options.progress`.
    """

    def __init__(self, update: Any) -> None:
        self._update = update
        self._points: tuple[int, ...] = ()
        self._metrics: Mapping[str, float] = {}

    def recipe(self, recipe: Recipe) -> None:
        """Take note of where cycles end."""
        self._points = recipe.stopping_points

    def step(self, line: Mapping[str, Any]) -> None:
        """Show an update, when the bar is drawn."""
        self._update(line["step"] + 1, lambda: self._text(line), self._points[-1])

    def _text(self, line: Mapping[str, Any]) -> str:
        part = bisect_right(self._points, line["step"]) + 1
        shown = [f"lr {line['lr']:.2e}", f"loss {line['loss']:.4g}"]
        if "momentum" in line:
            shown.append(f"momentum {line['momentum']:.3f}")
        if "val_accuracy" in self._metrics:
            shown.append(f"accuracy {show(self._metrics['val_accuracy'])}")
        # Not every stopping point ends a cycle: a one-cycle's tail has one as well.
        return ", ".join([f"to stopping point {part} of {len(self._points)}", *shown])

    def stopping_point(self, step: int, metrics: Mapping[str, float]) -> None:
        """Say what was measured."""
        self._metrics = metrics
        found = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        say(f"step {step:,}: {found or 'no validation data'}")


def report(run: Run, reading: Any, as_json: bool) -> None:
    """Print a finished run on stdout."""
    from cyclr.report.runs import evaluation_at, signs_of_fit

    if not is_main():
        return  # the folder may be on another machine
    assert run.folder is not None  # the command always trains into one
    seen = signs_of_fit(run.folder)
    at_best = evaluation_at(run.folder, run.best)
    if as_json:
        found = None if reading is None else reading.to_dict()
        print_json({**run.to_dict(), "reading": found, "best_metrics": at_best, "fit": seen})
        return
    skipped = {"skipped updates": f"{run.skipped:,}"} if run.skipped else {}
    print_pairs(
        {
            **({} if reading is None else reading_pairs(reading)),
            **recipe_pairs(run.recipe),
            "ended": run.outcome,
            **{f"decision {i}": _decision(d) for i, d in enumerate(run.decisions, start=1)},
            **skipped,
            **{name: show(value) for name, value in run.metrics.items()},
            **_snapshots(run),
            "recommended": _model(run, run.recommended),
            "best": "  ".join(
                [_model(run, run.best), *(f"{k} {show(v)}" for k, v in at_best.items())]
            ),
            **({"fit": seen} if seen else {}),
            "folder": str(run.folder),
        }
    )


def _decision(decision: Mapping[str, Any]) -> str:
    return f"step {decision['step']:,}: {decision['decision']}, because {decision['why']}"


def _model(run: Run, step: int | None) -> str:
    return "none" if step is None else f"{run.folder}/checkpoints/step-{step:08d}"


def _snapshots(run: Run) -> dict[str, str]:
    """Word what the cycle ends' models give together."""
    steps = run.snapshots.get("steps", ())
    return {
        f"{name} of {len(steps)}": "  ".join(f"{k} {show(v)}" for k, v in found.items())
        for name, found in run.snapshots.items()
        if name in ("ensemble", "averaged")
    }
