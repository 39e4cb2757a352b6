"""What is compared: each arm chooses a recipe, which is then trained in full and scored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cyclr
from benchmarks.tuning import search
from benchmarks.tuning.tasks import Case
from cyclr.errors import TrainingError
from cyclr.experiments import pipeline
from cyclr.training import make_loader
from cyclr.training.evaluation import accuracy, evaluate
from cyclr.tuning import tune
from cyclr.tuning.trial import TrialResult

Result = dict[str, Any]
Say = Callable[[str], None]

OURS = 2  # the budget of a tune, in full trainings; Optuna's is that, and three times as much
SEEDS = (6, 7, 8)  # 0 to 5 were looked at while tuning was being developed
EVERYWHERE = ("untuned", "tuned", "optuna")  # the arms that every task has
FOLDER = Path("runs/benchmark-tuning")  # where a tune that is cut off goes on


def score(case: Case, seed: int, recipe: cyclr.Recipe) -> Result:
    """Train in full; give the validation loss and the test accuracy."""
    parts = pipeline.build(case.task(), seed=seed)
    try:
        run = pipeline.train(parts, recipe, probe_every=None)
    except TrainingError as error:
        return {"val_loss": "inf", "test_accuracy": 0.0, "outcome": str(error)}
    loader = make_loader(case.parts()[2], 512, train=False, prepare=parts.task.prepare)
    test = evaluate(parts.model, loader, parts.task.loss_fn, {"accuracy": accuracy})
    return {
        "val_loss": run.metrics["val_loss"],
        "val_accuracy": run.metrics["val_accuracy"],
        "test_loss": test["val_loss"],
        "test_accuracy": test["val_accuracy"],
        "outcome": "completed",
    }


def untuned(case: Case, seed: int, _: Say) -> Result:
    """Range test, plan and train, with nothing said."""
    parts = pipeline.build(case.task(), seed=seed)
    record = pipeline.find(parts)
    recipe = cyclr.plan(record.read(), total_steps=case.size.steps)
    chosen = {"recipe": recipe.to_dict(), "spent": record.updates, "trials": []}
    return chosen | score(case, seed, recipe)


def tuned(case: Case, seed: int, say: Say) -> Result:
    """Tune, then train by the recipe."""
    result = tune(
        case.task(),
        budget=f"{OURS}run",
        seed=seed,
        folder=FOLDER / f"{case.name}-{seed}",
        on_trial=lambda trial: say(f"{trial.stage}: {_in_words(trial)}"),
    )
    chosen = {
        "recipe": result.recipe.to_dict(),
        "trials": [trial.to_dict() for trial in result.trials],
        "spent": result.updates,
        "winner": result.winner.trial.key,
        "words": result.words,
    }
    return chosen | score(case, seed, result.recipe)


def _in_words(trial: TrialResult) -> str:
    tried = trial.trial
    return (
        f"weight decay {tried.weight_decay}, momentum {tried.momentum}, lr {trial.max_lr:.3g}, "
        f"{trial.cost} updates: {trial.outcome}, loss {trial.val_loss:.4f}"
    )


def searched(name: str, case: Case, seed: int, say: Say) -> Result:
    """Search with Optuna for the larger budget; train by what is best at either."""
    budgets = {"1": OURS * case.size.steps, "3": 3 * OURS * case.size.steps}
    rows = search.search(case, search.SETUPS[name], seed, budgets["3"], say)
    answers: Result = {"trials": rows, "spent": rows[-1]["before"] + rows[-1]["updates"]}
    for times, budget in budgets.items():
        row = search.best(rows, budget)
        same = next((a for a in answers.values() if isinstance(a, dict) and a["row"] == row), None)
        answers[times] = same or {
            "row": row,
            **score(case, seed, search.recipe_of(row, case.size.steps)),
        }
    return answers


def run(name: str, case: Case, seed: int, say: Say) -> Result:
    """Run one arm with one seed; its processor time is noted as well."""
    begun = time.process_time()
    if name in search.SETUPS:
        result = searched(name, case, seed, say)
    else:
        result = {"untuned": untuned, "tuned": tuned}[name](case, seed, say)
    return {key: _plain(v) for key, v in result.items()} | {
        "seconds": round(time.process_time() - begun, 1)
    }


ARMS = ("untuned", "tuned", *search.SETUPS)


def _plain(value: Any) -> Any:
    """Six digits are enough; JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return value
