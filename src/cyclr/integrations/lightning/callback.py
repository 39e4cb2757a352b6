"""A recipe in Lightning's training: by ``configure_optimizers``, or by a callback."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch.optim.optimizer import Optimizer

from cyclr.errors import SpecError, StateError, complaint
from cyclr.integrations.lightning.added import numbers, with_new_groups
from cyclr.integrations.lightning.package import pl
from cyclr.integrations.torch.scheduler import Plan, Scheduler
from cyclr.recipe import Recipe


def configuration(
    optimizer: Optimizer, plan: Plan | Sequence[Plan], *, allow_change: bool = False
) -> dict[str, Any]:
    """Make what ``configure_optimizers`` returns, with a schedule that moves with every update.

    ::

        def configure_optimizers(self):
            return configuration(torch.optim.SGD(self.parameters(), lr=1.0), recipe)

    With several optimizers (manual optimization), return a list of these, and call ``step()`` on
    each of ``self.lr_schedulers()`` after each update; further calls do nothing.

    Args:
        optimizer: Any torch optimizer.
        plan: As for :class:`~cyclr.integrations.torch.Scheduler`.
        allow_change: As for :class:`~cyclr.integrations.torch.Scheduler`.

    Raises:
        SpecError: The plan does not go with the optimizer.
    """
    scheduler = Scheduler(optimizer, plan, allow_change=allow_change)
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step", "frequency": 1},
    }


class CycleCallback(pl.Callback):  # type: ignore[misc] # its type depends on what is installed
    """Drives rate, momentum and weight decay of a module that knows nothing of them.

    The Trainer stops after the recipe's last update, which is the end of a cycle; give it
    ``max_epochs=-1`` to leave the length to the recipe. The position in the recipe is saved in
    Lightning's checkpoints, and ``trainer.fit(…, ckpt_path=…)`` goes on with the next update.

    The recipe has the last word: its values are set after each update and once more right before
    the next. What another callback sets meanwhile is not used, and a warning says so. A parameter
    group that is added in the middle of training, as ``BaseFinetuning`` does, follows the recipe
    from then on, at the ratio that its rate has to the recipe's when it is added.

    Args:
        recipe: One for all optimizers, or a sequence with one for each. The Trainer stops when all
            have ended.
        allow_change: Let a checkpoint saved under another recipe go on under this one, at the same
            step. Without it that is an error.

    Raises:
        SpecError: It is not a recipe, or (when fitting begins) does not go with the optimizers.
    """

    def __init__(self, recipe: Recipe | Sequence[Recipe], *, allow_change: bool = False) -> None:
        for entry in recipe if isinstance(recipe, list | tuple) else [recipe]:
            if not isinstance(entry, Recipe):
                raise SpecError(complaint("recipe", "a cyclr Recipe", entry, "try cyclr.plan(…)"))
        self.recipe = recipe
        self._allow_change = allow_change
        self._schedulers: list[Scheduler] = []
        self._hooks: list[Any] = []
        self._after: list[Any] = []
        self._saved: list[dict[str, Any]] | None = None
        self._warned = False

    def setup(self, trainer: Any, *_: Any, stage: str) -> None:
        """Refuse what needs the rate for itself.

        Raises:
            StateError: The Trainer has Lightning's StochasticWeightAveraging.
        """
        kind = pl.callbacks.StochasticWeightAveraging
        if stage == "fit" and any(isinstance(other, kind) for other in trainer.callbacks):
            raise StateError(
                "StochasticWeightAveraging sets a rate of its own (swa_lrs), and CycleCallback "
                "would set the same; leave out one of them, or average with Lightning's "
                "WeightAveraging, which leaves the rate alone"
            )

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Take over the optimizers, before a checkpoint changes their settings.

        Raises:
            StateError: The module has a scheduler of its own.
            SpecError: The recipes do not go with the optimizers.
        """
        if trainer.lr_scheduler_configs:
            kind = type(trainer.lr_scheduler_configs[0].scheduler).__name__
            raise StateError(
                f"{type(pl_module).__name__}.configure_optimizers returns a scheduler ({kind}), "
                "and CycleCallback would set the same rate; return the optimizer alone, or leave "
                "out the callback"
            )
        self._take_over(trainer)

    def _take_over(self, trainer: Any) -> None:
        self._release()
        self._warned = False
        optimizers = trainer.optimizers
        self._schedulers = [
            Scheduler(optimizer, recipe, allow_change=self._allow_change)
            for optimizer, recipe in zip(optimizers, self._recipes(len(optimizers)), strict=True)
        ]
        for i, optimizer in enumerate(optimizers):
            self._listen(i, optimizer)

    def _recipes(self, count: int) -> Sequence[Recipe]:
        if isinstance(self.recipe, Recipe):
            return [self.recipe] * count
        if len(self.recipe) != count:
            constraint = f"one recipe, or {count}: one for each optimizer"
            raise SpecError(complaint("recipe", constraint, self.recipe, "match the optimizers"))
        return self.recipe

    def _listen(self, index: int, optimizer: Optimizer) -> None:
        self._hooks.append(
            optimizer.register_step_pre_hook(lambda *_: self._impose(index, optimizer))
        )
        self._after.append(self._listen_after(index, optimizer))

    def _listen_after(self, index: int, optimizer: Optimizer) -> Any:
        # After the scheduler's own hook, so that it knows of the update. A hook of the Trainer
        # would come once per batch, however many updates manual optimization makes in it.
        return optimizer.register_step_post_hook(lambda *_: self._schedulers[index].step())

    def _impose(self, index: int, optimizer: Optimizer) -> None:
        """Set what is due once more, right before an update."""
        if len(optimizer.param_groups) > len(self._schedulers[index].recipes):
            self._schedulers[index] = with_new_groups(
                self._schedulers[index], allow_change=self._allow_change
            )
            self._after[index].remove()
            self._after[index] = self._listen_after(index, optimizer)
        scheduler, found = self._schedulers[index], numbers(optimizer)
        scheduler.step(scheduler.last_epoch)
        if found != (due := numbers(optimizer)) and not self._warned:
            self._warned = True
            warnings.warn(
                f"something other than CycleCallback has set the rates to {found}; the recipe's "
                f"{due} are used instead: leave out what sets them, or the callback",
                stacklevel=2,
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Go to the first update, or to where a checkpoint left off.

        Raises:
            StateError: The checkpoint is of another recipe, and ``allow_change`` was not given.
        """
        saved, self._saved = self._saved, None
        if saved is not None and len(saved) != len(self._schedulers):
            raise StateError(
                f"the checkpoint is of {len(saved)} optimizers, and the module has "
                f"{len(self._schedulers)}; load it into the module that wrote it"
            )
        if saved is not None:
            # With the ratios of the checkpoint's groups, some of which may have been added.
            self._take_over(trainer)
        for i, scheduler in enumerate(self._schedulers):
            if saved is None:
                scheduler.step(0)
            else:
                scheduler.load_state_dict(saved[i])
        self._warn_of_an_early_end(trainer, pl_module)
        self._stop_at_the_end(trainer)

    def _warn_of_an_early_end(self, trainer: Any, pl_module: Any) -> None:
        due = max(scheduler.recipes[0].total_steps for scheduler in self._schedulers)
        end = trainer.estimated_stepping_batches  # -1 where the length of the data is not known
        # In manual optimization Lightning counts batches, which say nothing of updates.
        if pl_module.automatic_optimization and 0 <= end < due:
            warnings.warn(
                f"the Trainer ends after {end} updates, before the "
                f"recipe's {due}, in the middle of a cycle; pass Trainer(max_epochs=-1)",
                stacklevel=2,
            )

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop the Trainer after the recipe's last update."""
        self._stop_at_the_end(trainer)

    def _stop_at_the_end(self, trainer: Any) -> None:
        if all(s.last_epoch >= s.recipes[0].total_steps for s in self._schedulers):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Give the position in the recipe, for Lightning's checkpoints."""
        return {"schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's position until the optimizers are there."""
        self._saved = list(state_dict["schedulers"])

    def on_exception(self, *_: Any) -> None:
        """Let go of the optimizers."""
        self._release()

    def teardown(self, *_: Any, **__: Any) -> None:
        """Let go of the optimizers."""
        self._release()

    def _release(self) -> None:
        # The schedulers stay: a checkpoint may still be saved after the fit.
        for hook in (*self._hooks, *self._after):
            hook.remove()
        self._hooks, self._after = [], []
