"""What a tune gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclr.recipe import Recipe
from cyclr.schedules import Constant
from cyclr.tuning.budget import Plan
from cyclr.tuning.choose import Choice
from cyclr.tuning.request import Request
from cyclr.tuning.running import make_recipe
from cyclr.tuning.table import markdown
from cyclr.tuning.trial import TrialResult
from cyclr.tuning.words import notes


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A finished tune.

    Attributes:
        recipe: What to train by.
        trials: Every trial, in order.
        winner: The trial whose settings the recipe has.
        words: What was found, in a paragraph.
        plan: How the budget was divided.
        request: What was asked for.
        noise: Relative difference of two losses that differ in the seed alone; None if it was not
            measured.
        within: The relative difference above which one loss was called better than another.
        remarks: What was left out, and why.
        timed: Updates that were timed before the plan was made.
        folder: Where it is kept, or None.
    """

    recipe: Recipe
    trials: tuple[TrialResult, ...]
    winner: TrialResult
    words: str
    plan: Plan
    request: Request
    noise: float | None
    within: float
    remarks: tuple[str, ...]
    timed: int
    folder: Path | None

    @property
    def updates(self) -> int:
        """Count the updates made, in range tests, trainings, and the few that were timed."""
        return self.timed + sum(result.cost for result in self.trials)

    @property
    def seconds(self) -> float:
        """What the trials took, added up."""
        return sum(result.seconds for result in self.trials)

    def table(self) -> str:
        """Make a Markdown table of what was tried."""
        return markdown(self.trials, self.winner)

    def to_dict(self) -> dict[str, Any]:
        """Write the result as plain data."""
        return {
            "cyclr_tuning": 1,
            "words": self.words,
            "winner": self.winner.trial.key,
            "noise": self.noise,
            "tolerance": self.within,
            "remarks": list(self.remarks),
            "updates": self.updates,
            "seconds": round(self.seconds, 3),
            "folder": None if self.folder is None else str(self.folder),
            "plan": self.plan.to_dict(),
            "trials": [_without_record(result) for result in self.trials],
            "recipe": self.recipe.to_dict(),
        }


def _without_record(result: TrialResult) -> dict[str, Any]:
    """Write a result without the raw range test, which the trial's own file has."""
    return {name: value for name, value in result.to_dict().items() if name != "record"}


def final_recipe(
    request: Request,
    winner: TrialResult,
    choices: Sequence[Choice],
    caveats: Sequence[str],
    costs: Mapping[int, float],
) -> Recipe:
    """Plan the training at the winner's settings, as long as one at the task's own batch size."""
    assert winner.bounds is not None
    size = winner.trial.batch_size
    per_epoch = request.facts.updates_per_epoch(size)
    epochs = max(1, round(request.run / costs[size] / per_epoch))
    recipe = make_recipe(winner.trial, winner.bounds, epochs * per_epoch, per_epoch)
    why = [*recipe.notes, *notes(choices)]
    why += [f"Caveat: {caveat}" for caveat in caveats]
    if epochs != request.epochs:
        why.append(
            f"{epochs} epochs of batches of {size} take as long as {request.epochs} of batches of "
            f"{request.facts.batch_size}."
        )
    if request.start is not None:
        why.append(f"Every trial started from the weights in {request.start}.")
    if "batch-size" in request.stages:
        recipe = recipe.replace(batch_size=Constant(value=float(size)))
    return recipe.replace(notes=tuple(why))
