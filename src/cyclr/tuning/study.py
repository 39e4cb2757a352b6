"""Trials in an Optuna study, for the tools that browse those."""

from __future__ import annotations

import math
from typing import Any

from cyclr.errors import InputError
from cyclr.extras import require
from cyclr.tuning.trial import TrialResult

_MOST = 2**31 - 1


class Study:
    """Puts finished trials in an Optuna study, each once.

    Parameters there: ``weight_decay``, ``momentum_low`` and ``momentum_high`` (equal for a constant
    momentum), ``batch_size`` and ``max_lr``. The value is the validation loss at the end;
    evaluations on the way are intermediate values. A trial that did not train to its end is failed.

    Args:
        storage: Optuna's URL of a storage, such as ``"sqlite:///tune.db"``.
        name: The study's; it is made if there is none.
        task: The task's name, which tells trials of several tasks in one study apart.

    Raises:
        MissingExtraError: Optuna is not installed.
        InputError: The storage cannot be opened, or the study maximizes.
    """

    def __init__(self, storage: str, name: str, task: str) -> None:
        self._optuna = optuna = require("optuna", caller="a storage for trials", extra="tune")
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self._study = optuna.create_study(
                storage=storage, study_name=name, load_if_exists=True, direction="minimize"
            )
            trials = self._study.get_trials(deepcopy=False)
        except Exception as error:  # a storage raises whatever its database does
            words = " ".join(str(error).split())[:200]
            raise InputError(
                f"storage {storage!r} cannot be opened: {type(error).__name__}: {words}; name one "
                "as Optuna does, such as sqlite:///tune.db"
            ) from error
        finally:
            optuna.logging.set_verbosity(verbosity)
        if self._study.direction != optuna.study.StudyDirection.MINIMIZE:
            raise InputError(
                f"study {name!r} in {storage} maximizes, and trials are judged by their loss; name "
                "another with --study"
            )
        self._task = task
        self._known = {
            trial.user_attrs.get("cyclr_key")
            for trial in trials
            if trial.user_attrs.get("task") == task
        }

    def add(self, result: TrialResult) -> None:
        """Put a trial in, unless it is there."""
        if result.trial.key in self._known:
            return
        optuna = self._optuna
        params = _params(result)
        finished = math.isfinite(result.val_loss)
        states = optuna.trial.TrialState
        trial = optuna.trial.create_trial(
            state=states.COMPLETE if finished else states.FAIL,
            value=result.val_loss if finished else None,
            params=params,
            distributions=_distributions(optuna, params),
            intermediate_values={
                int(point["step"]): point["val_loss"]
                for point in result.curve
                if math.isfinite(point["val_loss"])
            },
            user_attrs=self._attributes(result),
        )
        self._study.add_trial(trial)
        self._known.add(result.trial.key)

    def _attributes(self, result: TrialResult) -> dict[str, Any]:
        return {
            "cyclr_key": result.trial.key,
            "task": self._task,
            "stage": result.stage,
            "outcome": result.outcome.value,
            "seed": result.trial.seed,
            "policy": result.trial.policy,
            "examples": result.trial.examples,
            "sweep_updates": result.sweep_updates,
            "updates": result.updates,
            "seconds": round(result.seconds, 3),
            **{name: value for name, value in result.metrics.items() if math.isfinite(value)},
        }


def _params(result: TrialResult) -> dict[str, Any]:
    trial = result.trial
    params: dict[str, Any] = {"batch_size": trial.batch_size}
    if trial.weight_decay is not None:
        params["weight_decay"] = trial.weight_decay
    if trial.momentum is not None:
        pair = trial.momentum if isinstance(trial.momentum, tuple) else (trial.momentum,) * 2
        params["momentum_low"], params["momentum_high"] = pair
    if result.bounds is not None:
        params["max_lr"] = result.max_lr
    return params


def _distributions(optuna: Any, params: dict[str, Any]) -> dict[str, Any]:
    """Give each parameter's range: wide, because a grid has no other."""
    kinds = optuna.distributions
    known = {
        "batch_size": kinds.IntDistribution(1, _MOST),
        "weight_decay": kinds.FloatDistribution(0.0, 1e9),
        "momentum_low": kinds.FloatDistribution(0.0, 1.0),
        "momentum_high": kinds.FloatDistribution(0.0, 1.0),
        "max_lr": kinds.FloatDistribution(0.0, 1e9),
    }
    return {name: known[name] for name in params}
