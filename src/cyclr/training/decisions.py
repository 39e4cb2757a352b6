"""What to do at a cycle's end: go on, lower the bounds, or stop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cyclr.errors import InputError, complaint
from cyclr.recipe import Recipe
from cyclr.schedules import Chain, Opposite, Schedule, WarmRestarts
from cyclr.training.settings import Settings

_FACTOR = 10  # by which Table 2 lowers both bounds
_LEG = 2  # by which it shortens the stepsize
_MOST = 2  # how often it does: three levels in all
_FALLING = (
    *("loss", "error", "perplexity", "ppl", "nll", "mae", "mse", "rmse", "mape", "wer", "cer"),
    *("distance", "deviation", "divergence"),
)
_RISING = (
    *(
        "accuracy",
        "acc",
        "auc",
        "f1",
        "score",
        "precision",
        "recall",
        "iou",
        "dice",
        "bleu",
        "rouge",
    ),
    *("r2", "correlation", "auroc", "mcc", "kappa", "psnr", "ssim"),
)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was decided at a cycle's end.

    Attributes:
        kind: ``"lower"``, ``"stop"`` or ``"go-on"``.
        why: A sentence.
        recipe: What to run from here on; the same unless the bounds were lowered.
    """

    kind: str
    why: str
    recipe: Recipe


class Judge:
    """Compares the ends of cycles.

    A cycle brings no gain when the monitored metric at its end is not better than at every earlier
    cycle's end; NaN never is. That is judged from the ``plateau_cycles``-th cycle at the same
    bounds on, as arXiv 1506.01186, section 3.2, advises at least three. Bounds that have been
    lowered twice, as in the paper's Table 2, are not lowered again: training stops.

    Args:
        settings: ``on_plateau``, ``plateau_cycles`` and ``monitor``.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._best: float | None = None
        self._cycles = 0  # ended at the present bounds
        self._lowered = 0  # times
        self.best_step: int | None = None
        self._best_of_all: float | None = None

    def monitored(self, metrics: Mapping[str, float]) -> str | None:
        """Name the metric that says what is better; None without any.

        Raises:
            InputError: The one the user named is not measured.
        """
        return monitored(self._settings.monitor, metrics)

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Take note of an evaluation; say whether it is the best so far."""
        score = self._score(metrics)
        if score is None or math.isnan(score):
            return False  # what is not a number is no best
        if self._best_of_all is not None and score <= self._best_of_all:
            return False
        self._best_of_all, self.best_step = score, step
        return True

    def decide(self, step: int, metrics: Mapping[str, float], recipe: Recipe) -> Decision | None:
        """Judge the cycle that ended after ``step`` updates; None when all is as planned."""
        score = self._score(metrics)
        if score is None:
            return None
        self._cycles += 1
        # What is not a number brings no gain, and is nothing that later cycles are compared with.
        gained = not math.isnan(score) and (self._best is None or score > self._best)
        if gained:
            self._best = score
        settings = self._settings
        if gained or self._cycles < settings.plateau_cycles or settings.on_plateau == "go-on":
            return None
        name = self.monitored(metrics)
        why = f"cycle {self._cycles} at these bounds brought no gain in {name}"
        if settings.on_plateau == "stop" or self._lowered >= _MOST:
            return Decision(kind="stop", why=why, recipe=recipe)
        return self._lower(step, recipe, why)

    def start_over(self) -> None:
        """Count cycles anew: the run goes on under another plan."""
        self._cycles = self._lowered = 0

    def _lower(self, step: int, recipe: Recipe, why: str) -> Decision:
        try:
            changed = lower(recipe, step)
        except InputError as error:
            return Decision(kind="go-on", why=f"{why}; {error}", recipe=recipe)
        self._cycles = 0
        self._lowered += 1
        return Decision(kind="lower", why=why, recipe=changed)

    def _score(self, metrics: Mapping[str, float]) -> float | None:
        name = self.monitored(metrics)
        if name is None:
            return None
        return -metrics[name] if lower_is_better(self._settings.monitor or name) else metrics[name]

    def state_dict(self) -> dict[str, Any]:
        """Give what has been seen."""
        return {
            "best": self._best,
            "cycles": self._cycles,
            "lowered": self._lowered,
            "best_step": self.best_step,
            "best_of_all": self._best_of_all,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what had been seen."""
        best = state["best"]
        # Checkpoints of earlier versions may hold a best that is not a number.
        self._best = None if best is None or math.isnan(best) else best
        self._cycles = state["cycles"]
        self._lowered = state["lowered"]
        self.best_step, self._best_of_all = state["best_step"], state["best_of_all"]


def monitored(asked: str | None, metrics: Mapping[str, float]) -> str | None:
    """Name the metric that says what is better: accuracy if it is measured, otherwise the loss.

    Args:
        asked: What the user named, perhaps with a sign before it; None if nothing.
        metrics: What is measured.

    Raises:
        InputError: The one asked for is not measured.
    """
    if asked is None:
        names = ("val_accuracy", "val_loss")
        return next((name for name in names if name in metrics), None)
    name = asked.lstrip("+-")
    if metrics and name not in metrics:
        known = "one of " + ", ".join(metrics)
        raise InputError(complaint("monitor", known, asked, "name a metric that is measured"))
    return name if metrics else None


def lower_is_better(metric: str) -> bool:
    """Say whether a metric is better when it is smaller: by its sign, or else by its name."""
    return metric.startswith("-") or (not metric.startswith("+") and metric.endswith(_FALLING))


def check_direction(metric: str) -> None:
    """Refuse to monitor a metric of which nobody says which way is better.

    Raises:
        InputError: Its name does not tell, and it has no sign.
    """
    if not metric.startswith(("+", "-")) and not metric.endswith((*_FALLING, *_RISING)):
        raise InputError(
            f"monitor must say which way {metric!r} is better; write it as '+{metric}' if more is "
            f"better, and as '-{metric}' if less is"
        )


def lower(recipe: Recipe, step: int) -> Recipe:
    """Divide a recipe's bounds by 10 and halve its stepsize from ``step`` on.

    As in Table 2 of the paper; as many whole cycles as the remaining steps hold. A momentum
    opposite to the rate goes on opposite to the lowered one, and schedules made from the rate
    (such as a weight decay tied to it) follow it.

    Args:
        recipe: What is being run.
        step: The end of a cycle, in updates, > 0.

    Raises:
        InputError: The rate has no bounds to lower, or not one of the shorter cycles would fit.

    Reference: arXiv 1506.01186, Table 2.
    """
    before, piece, start = _in_force(recipe.lr, step)
    room = recipe.total_steps - step
    lowered = _lowered(piece, step - start, room)
    if lowered is None:
        raise InputError(
            f"the bounds are not lowered: {room} steps are left, and a shorter cycle of "
            f"{piece.kind} does not fit or has no bounds"
        )
    lr = Chain(schedules=(*before, lowered), boundaries=(*_starts(recipe.lr, step), step))
    length = step + (lowered.total_steps or room)
    changes = {
        name: _follow(schedule, recipe.lr, lr, lowered, step)
        for name, schedule in recipe.schedules.items()
        if name != "lr"
    }
    return recipe.replace(lr=lr, total_steps=length, **changes)


def _in_force(lr: Schedule, step: int) -> tuple[tuple[Schedule, ...], Schedule, int]:
    """Give the pieces that begin before ``step``, the last of them, and where that begins."""
    if not isinstance(lr, Chain):
        return (lr,), lr, 0
    starts = (0, *lr.starts)
    begun = [i for i, start in enumerate(starts) if start < step]
    return lr.schedules[: len(begun)], lr.schedules[begun[-1]], starts[begun[-1]]


def _starts(lr: Schedule, step: int) -> tuple[int, ...]:
    return tuple(s for s in lr.starts if s < step) if isinstance(lr, Chain) else ()


def _lowered(piece: Schedule, since: int, room: int) -> Schedule | None:
    """Make the piece that follows; None when it has no bounds or does not fit."""
    if isinstance(piece, WarmRestarts):
        ends = (0, *piece.cycle_ends(since))
        period = (ends[-1] - ends[-2]) // _LEG if len(ends) > 1 else 0
        if period < 1 or period > room:
            return None
        return WarmRestarts(
            max_lr=piece.max_lr / _FACTOR,
            min_lr=piece.min_lr / _FACTOR,
            period=period,
            cycles=room // period,
        )
    if not hasattr(piece, "cycle_steps") or not hasattr(piece, "stepsize"):
        return None
    fields: dict[str, Any] = {
        "base_lr": piece.base_lr / _FACTOR,  # type: ignore[attr-defined] # cyclical schedules'
        "max_lr": piece.max_lr / _FACTOR,  # type: ignore[attr-defined] # as above
    }
    for name in ("stepsize", "down_stepsize", "hold_max", "hold_base"):
        value = getattr(piece, name, None)
        if value:
            fields[name] = max(1, value // _LEG)
    one: Any = piece.replace(**fields, cycles=1)
    cycles = room // one.cycle_steps
    return one.replace(cycles=cycles) if cycles else None


def _follow(
    schedule: Schedule, old: Schedule, new: Schedule, lowered: Schedule, step: int
) -> Schedule:
    """Let a schedule that is made from the rate follow the lowered one."""
    last = schedule
    if isinstance(schedule, Chain) and schedule.starts and schedule.starts[-1] < step:
        last = schedule.schedules[-1]
    if isinstance(last, Opposite):
        below = last.replace(schedule=lowered, bottom=last.bottom / _FACTOR, top=last.top / _FACTOR)
        before, _, _ = _in_force(schedule, step)
        return Chain(schedules=(*before, below), boundaries=(*_starts(schedule, step), step))
    if getattr(schedule, "schedule", None) == old:
        return schedule.replace(schedule=new)
    return schedule
