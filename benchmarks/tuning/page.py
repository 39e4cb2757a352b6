"""Writes results.md from the cache: what every arm reached, what it spent, and what it chose."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tuning import lengths
from benchmarks.tuning.arms import EVERYWHERE, OURS, SEEDS
from benchmarks.tuning.search import SETUPS
from benchmarks.tuning.store import Store
from benchmarks.tuning.tasks import CASES, MOMENTUM, WEIGHT_DECAY, Case

PAGE = Path(__file__).parent / "results.md"
_HEAD = f"""# Tuning against Optuna

`python -m benchmarks.tuning page` wrote this from the cache; README.md says what is compared. The
budget of a search is counted in full trainings (tuning has {OURS}), the full training that follows
is not in it. Mean ± standard deviation over the seeds, each of which is a search of its own.
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One seed of one arm.

    Attributes:
        accuracy: On the test set, after the full training.
        loss: On the held-out data, after the full training.
        spent: Updates of the search.
        trials: How many it tried.
        chosen: Peak rate, weight decay and momentum, in words.
    """

    accuracy: float
    loss: float
    spent: int
    trials: int
    chosen: str


Lines = dict[str, dict[str, Line]]


def lines(data: dict[str, Any], full: int) -> Lines:
    """Give every arm's seeds from what is in the cache.

    Args:
        data: A task's file.
        full: Updates of the full training.
    """
    found: Lines = {}
    for arm in ("untuned", "tuned"):
        found[arm] = {
            seed: _line(r, _ours(r["recipe"]), r) for seed, r in data.get(arm, {}).items()
        }
    for arm in SETUPS:
        for times in ("1", "3"):
            name = f"{arm}, {int(times) * OURS} trainings"
            found[name] = {
                seed: _line(r[times], _theirs(r[times]["row"]), _within(r, times, full))
                for seed, r in data.get(arm, {}).items()
            }
    return {name: seeds for name, seeds in found.items() if seeds}


def _line(result: dict[str, Any], chosen: str, search: dict[str, Any]) -> Line:
    return Line(
        accuracy=float(result["test_accuracy"]),
        loss=float(result["val_loss"]),
        spent=int(search["spent"]),
        trials=len(search["trials"]),
        chosen=chosen,
    )


def _within(result: dict[str, Any], times: str, full: int) -> dict[str, Any]:
    """Count only what the smaller of the two budgets had begun."""
    rows = [r for r in result["trials"] if r["before"] < int(times) * OURS * full]
    return {"trials": rows, "spent": rows[-1]["before"] + rows[-1]["updates"]}


def _ours(recipe: dict[str, Any]) -> str:
    momentum, decay = recipe.get("momentum"), recipe.get("weight_decay")
    words = f"{MOMENTUM:g}"
    if momentum is not None:
        constant = "value" in momentum
        words = (
            f"{momentum['value']:g}" if constant else f"{momentum['high']:g}–{momentum['low']:g}"
        )
    value = WEIGHT_DECAY if decay is None else decay["value"]
    return f"{recipe['lr']['max_lr']:.2g}, {value:.2g}, {words}"


def _theirs(row: dict[str, Any]) -> str:
    return f"{row['lr']:.2g}, {row['weight_decay']:.2g}, {row['momentum']:.3f}"


def _spread(values: list[float], form: str) -> str:
    mean = f"{statistics.fmean(values):{form}}"
    return f"{mean} ± {statistics.stdev(values):{form}}" if len(values) > 1 else mean


def table(case: Case, found: Lines) -> Iterator[str]:
    """Write one task's figures."""
    size = case.size
    yield f"\n## {case.name}\n"
    yield (
        f"{size.images - size.held:,} images to train on, {size.held:,} to choose by, "
        f"{size.test:,} to score on; {size.steps:,} updates of {size.batch_size}.\n"
    )
    yield "| | seeds | test accuracy, % | validation loss | trials | updates | in trainings |"
    yield "|---|---|---|---|---|---|---|"
    for name, seeds in found.items():
        all_of = list(seeds.values())
        spent = statistics.fmean(line.spent for line in all_of)
        trials = statistics.fmean(line.trials for line in all_of)
        yield (
            f"| {name} | {len(all_of)} | {_spread([100 * x.accuracy for x in all_of], '.2f')} "
            f"| {_spread([x.loss for x in all_of], '.4f')} | {trials:.0f} | {spent:,.0f} "
            f"| {spent / size.steps:.2f} |"
        )
    yield "\nWhat was chosen (peak rate, weight decay, momentum), seed by seed:\n"
    for name, seeds in found.items():
        yield f"- {name}: " + "; ".join(line.chosen for _, line in sorted(seeds.items()))


def _difference(values: list[float], form: str) -> str:
    """Say by how much we are better, with the standard error of the paired difference."""
    mean = f"{statistics.fmean(values):+{form}}"
    return f"{mean} ± {_error(values):{form}}" if len(values) > 1 else mean


def _error(values: list[float]) -> float:
    """Give the standard error of the mean, 0 of a single value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def verdict(accuracies: list[float], losses: list[float]) -> str:
    """Say whether the goal is met, from how much better we are, seed by seed."""
    better = [statistics.fmean(values) >= 0 for values in (accuracies, losses)]
    if all(better):
        return "at least as good"
    if all(statistics.fmean(values) >= -_error(values) for values in (accuracies, losses)):
        return "equal within the standard error"
    return "better in one, worse in the other" if any(better) else "worse"


def comparison(found: dict[str, Lines]) -> Iterator[str]:
    """Set the tuned recipe beside the others, task by task."""
    yield "\n## How much better the tuned recipe is\n"
    yield "Differences of the same seeds, with their standard error; positive is for tuning.\n"
    yield "| task | against | test accuracy, points | validation loss | the tuned recipe is |"
    yield "|---|---|---|---|---|"
    for task, arms in found.items():
        ours = arms.get("tuned", {})
        for name, theirs in arms.items():
            both = sorted(set(ours) & set(theirs))
            if name == "tuned" or not both:
                continue
            accuracies = [100 * (ours[s].accuracy - theirs[s].accuracy) for s in both]
            losses = [theirs[s].loss - ours[s].loss for s in both]
            yield (
                f"| {task} | {name} | {_difference(accuracies, '.2f')} "
                f"| {_difference(losses, '.4f')} | {verdict(accuracies, losses)} |"
            )


def missing(found: dict[str, Lines]) -> list[str]:
    """List what has not been computed yet."""
    return [
        f"{task}, {arm}, seed {seed}"
        for task, arms in found.items()
        for arm in EVERYWHERE
        for seed in SEEDS
        if not any(str(seed) in arms[name] for name in arms if name.split(",")[0] == arm)
    ]


def text() -> str:
    """Make the page."""
    found = {case.name: lines(Store(case).data, case.size.steps) for case in CASES}
    parts = [_HEAD]
    if left := missing(found):
        parts.append(f"Not computed yet: {'; '.join(left)}.")
    parts += comparison(found)
    for case in CASES:
        if found[case.name]:
            parts += table(case, found[case.name])
    parts.append("\nThe searches:\n")
    parts += [f"- {name}: {setup.words}" for name, setup in SETUPS.items()]
    shorter = {case.name: Store(case).get(lengths.ARM, lengths.SEED) for case in lengths.COMPARED}
    parts += lengths.tables({name: found for name, found in shorter.items() if found})
    return "\n".join(parts) + "\n"


def write() -> None:
    """Write results.md."""
    PAGE.write_text(text(), encoding="utf-8")
