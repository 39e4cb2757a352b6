"""A recipe in the Trainer: its values, its stopping points, and what checkpoints hold of it."""

from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Mapping
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from cyclr.errors import InputError, SpecError, StateError, complaint
from cyclr.integrations.driver import essence
from cyclr.integrations.torch.scheduler import Scheduler
from cyclr.integrations.transformers.package import inner, transformers
from cyclr.recipe import Recipe

callbacks: Any = transformers.trainer_callback

# The trainings that have a callback, by their state, of which every train() makes a new one.
_driven: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


# What they are is known at run time only.
class CycleCallback(callbacks.TrainerCallback, callbacks.ExportableState):  # type: ignore[misc]
    """Drives rate, momentum and weight decay in a Trainer, and stops it at the end of a cycle.

    The Trainer makes a scheduler of its own (linear, by default) and calls it after each update.
    The callback sets the recipe's values after that, and once more right before each update, so the
    recipe's are the ones used, and logged. Let the Trainer's ``max_steps`` or epochs reach beyond
    the recipe; it stops after the recipe's last update.

    Every ``train()`` begins the recipe at its beginning, unless it resumes from a checkpoint.
    Checkpoints hold the recipe and the position in it. With
    ``restore_callback_states_from_checkpoint=True`` in the Trainer's arguments, the checkpoint's
    recipe is taken instead of this one, as the Trainer does with the arguments of any callback.

    At the recipe's stopping points (ends of cycles) the model is evaluated and saved, if the
    Trainer does so at all.

    Args:
        recipe: What to follow; or its data, as ``recipe.to_dict()`` gives it.
        evaluate: Whether to evaluate at stopping points; if None, unless ``eval_strategy`` is
            ``"no"``.
        save: Whether to save a checkpoint there; if None, unless ``save_strategy`` is ``"no"``, or
            is ``"best"``, when the Trainer saves if the evaluation is the best so far. True does
            not go with ``"best"``.
        allow_change: Let a checkpoint that was saved under another recipe go on under this one, at
            the same update. Without it that is an error.

    Raises:
        SpecError: It is not a recipe, or (when training begins) does not go with the optimizer.
    """

    def __init__(
        self,
        recipe: Recipe | Mapping[str, Any],
        *,
        evaluate: bool | None = None,
        save: bool | None = None,
        allow_change: bool = False,
    ) -> None:
        # The Trainer restores callbacks from what JSON holds of their arguments.
        given = Recipe.from_dict(dict(recipe)) if isinstance(recipe, Mapping) else recipe
        if not isinstance(given, Recipe):
            raise SpecError(complaint("recipe", "a cyclr Recipe", recipe, "try cyclr.plan(…)"))
        self.recipe = given
        self._evaluate = evaluate
        self._save = save
        self._allow_change = allow_change
        self._stops = frozenset(given.stopping_points)
        self._scheduler: Scheduler | None = None
        self._updates = 0
        self._evaluated_at = self._saved_at = -1

    def state(self) -> dict[str, Any]:
        """Give the recipe and the count of its updates made, for the Trainer's checkpoints."""
        updates = self._updates if self._scheduler is None else self._scheduler.last_epoch
        choices = {"evaluate": self._evaluate, "save": self._save}
        return {
            "args": {"recipe": self.recipe.to_dict(), **choices},
            "attributes": {"_updates": updates},
        }

    def on_train_begin(self, args: Any, state: Any, _control: Any, **kwargs: Any) -> None:
        """Take over the optimizer, at the first update or where a checkpoint left off.

        Raises:
            InputError: ``save=True`` was given, and the Trainer saves the best only.
            StateError: The Trainer was given a cyclr Scheduler or another CycleCallback too, the
                checkpoint is of another recipe and ``allow_change`` was not given, or the end has
                been reached already.
        """
        optimizer, theirs = kwargs["optimizer"], kwargs["lr_scheduler"]
        _refuse_company(theirs, state)
        if self._save and args.save_strategy == "best":
            raise InputError(
                'save=True does not go with save_strategy="best", under which the Trainer drops '
                "what it was asked to save whenever an evaluation is not the best so far; leave "
                'save out, or set save_strategy="steps" (with load_best_model_at_end=True the best '
                "is kept as well)"
            )
        position = self._position(theirs, state)
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
        self._evaluated_at = self._saved_at = -1
        self._scheduler = Scheduler(inner(optimizer), self.recipe)
        self._scheduler.step(position)
        # A Trainer that saves looks for an entry, which an older checkpoint does not bring.
        state.stateful_callbacks[type(self).__name__] = self.state()
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
        if self._scheduler is not None:
            self._updates, self._scheduler = self._scheduler.last_epoch, None

    def _impose(self, theirs: Any) -> None:
        """Set the values due, and have the Trainer log them."""
        assert self._scheduler is not None
        self._scheduler.step(self._scheduler.last_epoch)
        if hasattr(theirs, "_last_lr"):
            theirs._last_lr = self._scheduler.get_last_lr()

    def _position(self, theirs: Any, state: Any) -> int:
        """Say how many of the recipe's updates have been made.

        Raises:
            StateError: They were made under another recipe.
        """
        if state.global_step == 0:
            return 0  # whatever a scheduler of the user's has counted in an earlier training
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved is not None:
            self._compare(saved["args"]["recipe"])
            return int(saved["attributes"]["_updates"])
        # A checkpoint from before callbacks had a state. The Trainer's own count includes updates
        # that a gradient scaler skipped; the count of its usual schedulers does not.
        counted = isinstance(theirs, LambdaLR) and theirs.last_epoch > 0
        return int(theirs.last_epoch if counted else state.global_step)

    def _compare(self, saved: Mapping[str, Any]) -> None:
        # Through JSON as the saved one went, where tuples become lists.
        mine = json.loads(json.dumps(self.recipe.to_dict()))
        then, now = essence(saved), essence(mine)
        if then != now and not self._allow_change:
            raise StateError(
                f"the checkpoint was saved under another recipe: {then} instead of {now}; pass "
                "CycleCallback that recipe, or allow_change=True to go on under the new one"
            )


def _refuse_company(theirs: Any, state: Any) -> None:
    """Refuse what would set the same rate."""
    if isinstance(getattr(theirs, "scheduler", theirs), Scheduler):
        raise StateError(
            "the Trainer has a cyclr Scheduler, and CycleCallback would set the same rate; "
            "pass one of them: optimizers=(optimizer, Scheduler(…)), or the callback"
        )
    if id(state) in _driven:
        raise StateError(
            "the Trainer has two CycleCallbacks, which would both set the same rate; keep one: "
            "trainer.remove_callback(CycleCallback) takes out the one that was added first"
        )
    _driven[id(state)] = state


def _wish(given: bool | None, strategy: Any) -> bool:
    return strategy not in ("no", "best") if given is None else given
