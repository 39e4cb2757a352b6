"""Keeps a training's log, decisions and checkpoints, and passes on what happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import TrainingError
from cyclr.recipe import Recipe
from cyclr.training.checkpoints import prune, save_checkpoint
from cyclr.training.folder import RunFolder
from cyclr.training.loop import Loop
from cyclr.training.run import Run
from cyclr.training.state import gather, weights

Step = Mapping[str, Any]
Track = Callable[[Mapping[str, Any], int], None]

_DECISIONS = {
    "lower": "both bounds are divided by 10, the stepsize is halved",
    "stop": "training stops here",
    "go-on": "training goes on as planned",
}


class FolderKeeper:
    """Writes what happens into a run folder, and tells the caller.

    Only the first of several processes has a folder and listeners; the others take part in
    collecting the state.

    Args:
        home: The run's folder; None to keep nothing.
        kept: Whether the run is kept at all, on whichever process.
        model: The model that is trained.
        optimizer: Its optimizer.
        on_step: Called with the line of every update.
        on_stopping_point: Called with the count of updates and the metrics.
        on_evaluation: The same for every evaluation.
        on_recipe: Called with the recipe at the start and whenever it changes.
        tell: Called with a sentence about every decision.
        warn: Called with a sentence about what was measured and is not a number, once.

    Attributes:
        track: Called with a step's values and the step, for trackers; None for none.
        decisions: What has been decided so far.
        extensions: How often cycles have been added so far.
        last_kept: The step of the last checkpoint.
    """

    def __init__(
        self,
        home: RunFolder | None,
        *,
        kept: bool,
        model: nn.Module,
        optimizer: Optimizer,
        on_step: Callable[[Step], None] | None,
        on_stopping_point: Callable[[int, Mapping[str, float]], None] | None,
        on_evaluation: Callable[[int, Mapping[str, float]], None] | None,
        on_recipe: Callable[[Recipe], None] | None,
        tell: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._home, self._kept = home, kept
        self._model, self._optimizer = model, optimizer
        self._on_step, self._on_stopping_point = on_step, on_stopping_point
        self._on_evaluation = on_evaluation
        self._on_recipe, self._tell, self._warn = on_recipe, tell, warn
        self._warned = False
        self.track: Track | None = None
        self.decisions: list[dict[str, Any]] = []
        self.extensions = 0
        self.last_kept: int | None = None

    def step(self, line: Step) -> None:
        """Log the line of an update."""
        if self._home is not None:
            self._home.log(line)
        if self.track is not None:
            self.track({k: v for k, v in line.items() if k != "step"}, line["step"])
        if self._on_step is not None:
            self._on_step(line)

    def evaluated(self, step: int, metrics: Mapping[str, float], *, stopping_point: bool) -> None:
        """Log an evaluation."""
        if self._home is not None:
            kind = {"stopping_point": True} if stopping_point else {"validation": True}
            self._home.log({"step": step, **kind, **metrics})
            self._home.flush()
        if self.track is not None and metrics:
            self.track(metrics, step)
        if self._on_evaluation is not None:
            self._on_evaluation(step, metrics)
        if stopping_point and self._home is None and self._on_stopping_point is not None:
            self._on_stopping_point(step, metrics)
        self._remark_on_nan(step, metrics)

    def _remark_on_nan(self, step: int, metrics: Mapping[str, float]) -> None:
        names = [name for name, value in metrics.items() if math.isnan(value)]
        if names and not self._warned:
            self._warned = True
            self._warn(
                f"step {step:,}: {' and '.join(names)} {'is' if len(names) == 1 else 'are'} NaN, "
                "which counts as no gain; check the validation data, the loss function and the "
                "metrics (said once)"
            )

    def decided(self, step: int, kind: str, why: str) -> None:
        """Log a decision."""
        decision = {"step": step, "decision": kind, "why": why}
        self.decisions.append(decision)
        if self._home is not None:
            self._home.log(decision)
        self._tell(f"step {step:,}: {why}; {_DECISIONS[kind]}")

    def follows(self, recipe: Recipe) -> None:
        """Take note of the recipe that is followed from here on."""
        if self._on_recipe is not None:
            self._on_recipe(recipe)

    def checkpoint(
        self, loop: Loop, metrics: Mapping[str, float], *, cycle_end: bool, stopping_point: bool
    ) -> None:
        """Keep the state, and remove checkpoints that are no longer needed."""
        if not self._kept:
            return
        state = {**gather(loop, self._model, self._optimizer), "extensions": self.extensions}
        state["decisions"] = list(self.decisions)
        model = weights(self._model)
        if self._home is None:
            return
        folder = self._home.path / "checkpoints"
        try:
            save_checkpoint(
                folder,
                step=loop.step,
                model=model,
                ema=None if loop.ema is None else loop.ema[0],
                state=state,
                metrics=metrics,
                run=self._home.identity,
                cycle_end=cycle_end,
                stopping_point=stopping_point,
                log_bytes=self._home.sync_log(),
            )
            prune(folder, keep=loop.settings.keep, protected=_protected(loop))
        except (TrainingError, OSError) as error:
            raise TrainingError(f"{error}; {self._advice()}") from error
        self.last_kept = loop.step
        if stopping_point and self._on_stopping_point is not None:
            self._on_stopping_point(loop.step, metrics)

    def _advice(self) -> str:
        assert self._home is not None
        if self.last_kept is None:
            return "no checkpoint has been written yet; make room or choose another place"
        return (
            f"the checkpoint of step {self.last_kept:,} is whole; make room; "
            f"{self._home.how_to_go_on}"
        )

    def finish(self, run: Run) -> None:
        """Write the summary that says the run has finished."""
        if self._home is not None:
            self._home.close(run)

    def __enter__(self) -> FolderKeeper:
        """Return the keeper; the folder is open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close the folder, however the training ended."""
        if self._home is not None:
            try:
                self._home.close()
            except TrainingError:
                if kind is None:
                    raise  # otherwise what ended the training says more


def _protected(loop: Loop) -> set[int]:
    """List the steps whose checkpoints stay: the best, the last cycle's end, asked-for ones.

    And the one just written, which later ones that are no good may stand behind.
    """
    ends = loop.recipe.lr.cycle_ends(loop.step) if loop.step else ()
    kept = {loop.step, *(ends if loop.settings.snapshots else ends[-1:])}
    return kept if loop.judge.best_step is None else kept | {loop.judge.best_step}
