"""A recipe in the Trainer: its values, its stopping points, and where it stands after resuming."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from cyclr.errors import SpecError, StateError, complaint
from cyclr.integrations.torch.scheduler import Scheduler
from cyclr.integrations.transformers.package import inner, transformers
from cyclr.recipe import Recipe


class CycleCallback(transformers.TrainerCallback):  # type: ignore[misc] # known at run time only
    """Drives rate, momentum and weight decay in a Trainer, and stops it at the end of a cycle.

    The Trainer makes a scheduler of its own (linear, by default) and calls it after each update.
    The callback sets the recipe's values after that, and once more right before each update, so the
    recipe's are the ones used, and logged. Let the Trainer's ``max_steps`` or epochs reach beyond
    the recipe; it stops after the recipe's last update. Checkpoints hold the position.

    At the recipe's stopping points (ends of cycles) the model is evaluated and saved, if the
    Trainer does so at all.

    Args:
        recipe: What to follow.
        evaluate: Whether to evaluate at stopping points; if None, unless ``eval_strategy`` is
            ``"no"``.
        save: Whether to save a checkpoint there; if None, unless ``save_strategy`` is ``"no"``.

    Raises:
        SpecError: It is not a recipe, or (when training begins) does not go with the optimizer.
    """

    def __init__(
        self, recipe: Recipe, *, evaluate: bool | None = None, save: bool | None = None
    ) -> None:
        if not isinstance(recipe, Recipe):
            raise SpecError(complaint("recipe", "a cyclr Recipe", recipe, "try cyclr.plan(…)"))
        self.recipe = recipe
        self._evaluate = evaluate
        self._save = save
        self._stops = frozenset(recipe.stopping_points)
        self._scheduler: Scheduler | None = None
        self._evaluated_at = self._saved_at = -1

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
        """Take over the optimizer, at the first update or where a checkpoint left off.

        Raises:
            StateError: The Trainer was given a cyclr Scheduler too, or has reached the end already.
        """
        optimizer, theirs = kwargs["optimizer"], kwargs["lr_scheduler"]
        if isinstance(getattr(theirs, "scheduler", theirs), Scheduler):
            raise StateError(
                "the Trainer has a cyclr Scheduler, and CycleCallback would set the same rate; "
                "pass one of them: optimizers=(optimizer, Scheduler(…)), or the callback"
            )
        position = _position(theirs, state)
        end = self.recipe.total_steps
        if position >= end:
            raise StateError(
                f"training has made {position} updates and the recipe ends after {end}, so none is "
                "left; pass a longer recipe"
            )
        if state.max_steps < end:
            warnings.warn(
                f"the Trainer ends after {state.max_steps} updates, before the recipe's {end}, in "
                "the middle of a cycle; raise max_steps or num_train_epochs",
                stacklevel=2,
            )
        self._scheduler = Scheduler(inner(optimizer), self.recipe)
        self._scheduler.step(position)
        self._impose(theirs)

    def on_pre_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
        """Have the last word: a scheduler of the Trainer may also act after an evaluation."""
        self._impose(kwargs["lr_scheduler"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move on, and stop at the end."""
        assert self._scheduler is not None
        before = self._scheduler.last_epoch
        self._scheduler.step()
        self._impose(kwargs["lr_scheduler"])
        done = self._scheduler.last_epoch
        if done > before and done in self._stops:
            if _wish(self._evaluate, args.eval_strategy):
                control.should_evaluate, self._evaluated_at = True, state.global_step
            if _wish(self._save, args.save_strategy):
                control.should_save, self._saved_at = True, state.global_step
        if done >= self.recipe.total_steps:
            control.should_training_stop = True

    def on_epoch_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave out what has just been done at a stopping point."""
        control.should_evaluate &= state.global_step != self._evaluated_at
        control.should_save &= state.global_step != self._saved_at

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Let go of the optimizer."""
        self._scheduler = None

    def _impose(self, theirs: Any) -> None:
        """Set the values due, and have the Trainer log them."""
        assert self._scheduler is not None
        self._scheduler.step(self._scheduler.last_epoch)
        if hasattr(theirs, "_last_lr"):
            theirs._last_lr = self._scheduler.get_last_lr()


def _position(theirs: Any, state: Any) -> int:
    """Say how many updates have been made, after a checkpoint was loaded."""
    # The Trainer's own count includes updates that a gradient scaler skipped; the count of its
    # usual schedulers does not, and is saved with them.
    counted = isinstance(theirs, LambdaLR) and theirs.last_epoch > 0
    return int(theirs.last_epoch if counted else state.global_step)


def _wish(given: bool | None, strategy: Any) -> bool:
    return strategy != "no" if given is None else given
