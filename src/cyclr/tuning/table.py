"""What was tried, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cyclr.figures import show
from cyclr.tuning.budget import Plan
from cyclr.tuning.trial import Momentum, Outcome, TrialResult

HEAD = (
    "stage",
    "weight decay",
    "momentum",
    "batch",
    "max_lr",
    "updates",
    "seconds",
    "val loss",
    "accuracy",
    "remark",
)


def show_decay(value: float | None) -> str:
    """Word a weight decay."""
    return "own" if value is None else f"{value:.2g}"


def show_momentum(value: Momentum) -> str:
    """Word a momentum."""
    if value is None:
        return "own"
    return f"{value[1]:g}→{value[0]:g}" if isinstance(value, tuple) else f"{value:g}"


def row(result: TrialResult, winner: TrialResult | None = None) -> tuple[str, ...]:
    """Word a result, one entry per column of :data:`HEAD`."""
    trial = result.trial
    accuracy = result.metrics.get("val_accuracy")
    found = math.isfinite(result.val_loss)
    return (
        result.stage,
        show_decay(trial.weight_decay),
        show_momentum(trial.momentum),
        str(trial.batch_size),
        f"{result.max_lr:.3g}" if result.bounds else "",
        f"{result.sweep_updates} + {result.updates}",
        f"{result.seconds:.1f}",
        show(result.val_loss) if found else "",
        show(accuracy) if accuracy is not None and found else "",
        _remark(result, winner),
    )


def _remark(result: TrialResult, winner: TrialResult | None) -> str:
    words = []
    if winner is not None and result.trial.key == winner.trial.key:
        words.append("**chosen**")
    if result.outcome is not Outcome.COMPLETED:
        words.append(result.outcome.sentence)
    if result.trial.bounds is not None:
        words.append("given rate")
    if result.read is not None and result.read != result.bounds:
        words.append(f"range test: {result.read[1]:.3g}")
    if result.trial.examples is not None:
        words.append(f"{result.trial.examples:,} examples")
    if result.stage == "noise":
        words.append(f"seed {result.trial.seed}")
    return ", ".join(words)


def markdown(results: Sequence[TrialResult], winner: TrialResult | None = None) -> str:
    """Make a Markdown table, a row a trial, in columns of equal width."""
    rows = [HEAD, *(row(result, winner) for result in results)]
    widths = [max(len(entry[i]) for entry in rows) for i in range(len(HEAD))]
    lines = [
        "| " + " | ".join(text.ljust(w) for text, w in zip(entry, widths, strict=True)) + " |"
        for entry in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines) + "\n"


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """Word a plan: what is run, how often, what it costs, and about how long it takes."""
    rows = [("stage", "trials", "updates each", "updates", "about")]
    rows += [
        (
            line.stage,
            str(line.trials),
            f"{line.updates:,.0f}",
            f"{line.total:,.0f}",
            duration(line.total * plan.seconds_per_update),
        )
        for line in plan.lines
    ]
    trials = sum(line.trials for line in plan.lines)
    whole = (f"{plan.updates:,}", duration(plan.seconds))
    return [*rows, ("together", str(trials), "", *whole)]


def duration(seconds: float) -> str:
    """Word a length of time: ``8 s``, ``3 min``, ``2.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
