"""A task of a second or two, and trials whose outcome is a formula."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cyclr import Task
from cyclr.experiments.data import digits
from cyclr.tuning import Outcome, Trial, TrialResult
from cyclr.tuning.budget import Plan
from cyclr.tuning.desk import Desk
from cyclr.tuning.facts import Facts
from cyclr.tuning.request import Request, make_request
from cyclr.tuning.store import TuneStore

SOURCE = """
import torch
from torch import nn
from cyclr import Task
from cyclr.experiments.data import digits

def small():
    (inputs, targets), (held, held_targets) = digits()
    return Task(
        name="small",
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        train=(inputs[:512], targets[:512]),
        validation=(held, held_targets),
        loss_fn=nn.functional.cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=5e-4),
        batch_size=64,
        epochs=10,
        prepare=lambda images: images.float() / 8 - 1,
    )
"""


def small(**changes: Any) -> Task:
    """Make a linear classifier of digits: 8 updates an epoch, 80 a run."""
    (inputs, targets), (held, held_targets) = digits()
    fields: dict[str, Any] = {
        "name": "small",
        "model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        "train": (inputs[:512], targets[:512]),
        "validation": (held, held_targets),
        "loss_fn": nn.functional.cross_entropy,
        "optimizer": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=5e-4),
        "batch_size": 64,
        "epochs": 10,
        "prepare": lambda images: images.float() / 8 - 1,
    }
    return Task(**{**fields, **changes})


def write_source(folder: Path, *, note_processes: bool = False) -> dict[str, Any]:
    """Write the task to a file; give how it is found there.

    With ``note_processes``, every process that makes its model leaves a file named by its number
    in the folder ``processes``.
    """
    text = SOURCE
    if note_processes:
        (folder / "processes").mkdir()
        note = f"pathlib.Path({str(folder / 'processes')!r}, str(os.getpid())).touch()"
        text = "import os, pathlib\n" + text.replace(
            "model=lambda: nn.", f"model=lambda: {note} or nn."
        )
    (folder / "own.py").write_text(text)
    return {"task": f"{folder / 'own.py'}:small", "data_dir": None}


def request(task: Task | None = None, **wanted: Any) -> Request:
    """Make a request with everything at its default."""
    fields: dict[str, Any] = {
        "budget": "2run",
        "epochs": None,
        "policy": "one_cycle",
        "seed": 0,
        "weight_decay": None,
        "momentum": None,
        "batch_size": None,
        "stages": None,
        "start": None,
        "source": None,
    }
    return make_request(task or small(), **{**fields, **wanted})


def facts(**changes: Any) -> Facts:
    """Describe a task without building one."""
    fields: dict[str, Any] = {
        "name": "formula",
        "source": None,
        "examples": 6400,
        "batch_size": 64,
        "parameters": 1000,
        "weight_layers": 3,
        "optimizer": "SGD",
        "weight_decay": 5e-4,
        "momentum": 0.9,
        "averages": False,
    }
    return Facts(**{**fields, **changes})


class Formula:
    """In place of training: the validation loss, and the rate read, by formulas.

    Args:
        loss: Of a trial and the max_lr it runs at; NaN for a training that diverges.
        rate: max_lr that a trial's range test reads.
        sweep: Updates of a range test; one beside given bounds costs half as many.
    """

    def __init__(
        self,
        loss: Callable[[Trial, float], float],
        rate: Callable[[Trial], float] = lambda _: 0.1,
        sweep: int = 60,
    ) -> None:
        self.loss, self.rate, self.sweep = loss, rate, sweep
        self.ran: list[Trial] = []

    def run(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """Answer the trials, the last one first: no order is promised."""
        for trial in reversed(trials):
            self.ran.append(trial)
            read = self._read(trial)
            bounds = self._bounds(trial, read)
            high = bounds[1]
            loss = self.loss(trial, high)
            good = math.isfinite(loss)
            yield TrialResult(
                trial=trial,
                outcome=Outcome.COMPLETED if good else Outcome.DIVERGED,
                bounds=bounds,
                read=read,
                curve=({"step": trial.updates, "loss": loss, "val_loss": loss},) if good else (),
                sweep_updates=self._cost(trial),
                updates=trial.updates,
            )

    def _read(self, trial: Trial) -> tuple[float, float] | None:
        """Say what the trial's own range test reads, if it has one."""
        if trial.bounds is not None and trial.reference is None:
            return None
        high = self.rate(trial)
        return high / 10, high

    def _bounds(self, trial: Trial, read: tuple[float, float] | None) -> tuple[float, float]:
        """Say at which bounds a trial runs; less than a third of the reference brings them down."""
        if trial.bounds is None:
            assert read is not None
            return read
        if read is None or trial.reference is None or read[1] >= trial.reference / 3:
            return trial.bounds
        low, high = trial.bounds
        return low * read[1] / trial.reference, high * read[1] / trial.reference

    def _cost(self, trial: Trial) -> int:
        if trial.bounds is None:
            return self.sweep
        return 0 if trial.reference is None else self.sweep // 2


def desk_of(formula: Formula, costs: dict[int, float] | None = None) -> Desk:
    """Make a desk that keeps nothing."""
    fan: Any = formula
    return Desk(fan, TuneStore(None), costs or {64: 1.0}, lambda _: None, lambda _: None)


def plan_of(budget: int, length: int = 100, **changes: Any) -> Plan:
    """Make a plan of runs of one length."""
    return Plan(budget=budget, length=length, sweep=60, **changes)


def trial_of(**changes: Any) -> Trial:
    """Make a trial."""
    fields: dict[str, Any] = {"seed": 0, "updates": 60, "sweep_steps": 60, "batch_size": 64}
    return Trial(**{**fields, **changes})


def result_of(
    loss: float, max_lr: float = 0.1, *, read: float | None = None, **changes: Any
) -> TrialResult:
    """Make a finished trial's result; ``read`` is the max_lr of its range test, if it had one."""
    good = math.isfinite(loss)
    trial = trial_of(**changes)
    return TrialResult(
        trial=trial,
        outcome=Outcome.COMPLETED if good else Outcome.DIVERGED,
        bounds=(max_lr / 10, max_lr),
        read=None if read is None else (read / 10, read),
        curve=({"step": 60, "loss": loss, "val_loss": loss},) if good else (),
        updates=trial.updates,
    )
