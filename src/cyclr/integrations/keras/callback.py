"""The callback by which ``model.fit`` follows a plan."""

from __future__ import annotations

from typing import Any

import keras

from cyclr.errors import StateError
from cyclr.integrations.driver import as_recipe
from cyclr.integrations.keras.follow import follow, optimizer_of, updates_made
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule


class Scheduler(keras.callbacks.Callback):  # type: ignore[misc]
    """Lets the model's optimizer follow a plan: ``model.fit(…, callbacks=[Scheduler(recipe)])``.

    As :func:`follow`, before training begins. A later ``fit``, or one that resumes from a saved
    model, goes on where the optimizer's ``iterations`` stands. After a recipe's last update, which
    is the end of a cycle, training stops (with several steps per execution, after the execution
    which that update is in); a schedule alone has no end. Each epoch's logs, and so the history,
    get the values that its last update used: ``learning_rate``, ``momentum``, ``weight_decay``.

    Attributes:
        recipe: The recipe to follow.

    Args:
        plan: A schedule (of the rate), or a recipe.

    Raises:
        SpecError: The plan is not one.
    """

    def __init__(self, plan: Schedule | Recipe) -> None:
        super().__init__()
        self.recipe = as_recipe(plan)
        self._end = self.recipe.total_steps if isinstance(plan, Recipe) else None
        self._left: int | None = None  # in this epoch, as far as micro-batches tell

    def set_model(self, model: Any) -> None:
        """Follow the recipe, before any callback loads what the optimizer had saved.

        Raises:
            InputError: As :func:`follow` does.
            SpecError: As :func:`follow` does.
        """
        super().set_model(model)
        follow(model, self.recipe)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 -- Keras's signature
        """See where training stands.

        Raises:
            StateError: It has made all of the recipe's updates.
        """
        follow(self.model, self.recipe)
        made = updates_made(self.model)
        if self._end is not None and made >= self._end:
            raise StateError(
                f"training has made {made} updates and the recipe ends after {self._end}, so there "
                "is nothing left to do; for another recipe from its beginning call model.compile "
                "with a new optimizer, which counts from 0"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002 -- as above
        """Count how many batches may be left until the recipe ends."""
        if self._end is not None:
            each = optimizer_of(self.model).gradient_accumulation_steps or 1
            self._left = (self._end - updates_made(self.model) - 1) * each + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 -- as above
        """Stop after the recipe's last update."""
        # By the batch's number first: the count of updates itself is in the optimizer, and on JAX
        # it has to be fetched.
        if self._left is None or self._end is None or batch + 1 < self._left:
            return
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        if updates_made(self.model) >= self._end:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note what the epoch's last update used."""
        done = updates_made(self.model)
        if logs is not None and done > 0:
            values = self.recipe.values(done - 1)
            logs.update({"learning_rate": values.pop("lr"), **values})
