"""Optimizers that follow a plan from within their own update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from cyclr.errors import InputError, SpecError, StateError
from cyclr.integrations.driver import as_recipe
from cyclr.integrations.keras.learning_rate import LearningRate, evaluate
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule

_RECIPE = "_cyclr_recipe"  # where an optimizer keeps the recipe it follows


def follow(model: Any, plan: Schedule | Recipe) -> Recipe:
    """Let a compiled model's optimizer follow a plan, from its next update on.

    Update ``k`` uses ``recipe.values(k)``, where ``k`` is the optimizer's ``iterations``: rate,
    momentum (or beta_1) and weight decay. ``float(model.optimizer.momentum)`` is then what the next
    update will use. The optimizer's config still says what it was made with, so the model is saved
    as usual; the rate's schedule is saved with it. Follow again after loading, for the others.

    The train function is made anew, as compiled ones hold the old numbers. Following the same plan
    again does nothing. Keras folds the rate into the velocity (``v = momentum·v − rate·gradient``),
    so that a changing rate acts on future gradients only; torch and optax multiply afterwards.

    Args:
        model: A compiled Keras model.
        plan: A schedule (of the rate), or a recipe.

    Returns:
        The recipe followed.

    Raises:
        InputError: The model is not compiled with an optimizer, or with a ``MultiOptimizer``.
        SpecError: The plan is not one, or schedules a momentum that the optimizer does not have or
            was made without.
    """
    recipe = as_recipe(plan)
    optimizer = optimizer_of(model)
    if getattr(optimizer, _RECIPE, None) == recipe:
        return recipe
    schedules = _attributes(optimizer, recipe)
    optimizer.learning_rate = LearningRate(
        recipe.lr, accumulate=optimizer.gradient_accumulation_steps or 1
    )
    # Past Keras's own __setattr__, which would make what follows a part of the saved state.
    for name, follower in followers(optimizer).items():
        object.__setattr__(optimizer, name, follower.initial)
    for name, schedule in schedules.items():
        follower = Follower(schedule, optimizer, getattr(optimizer, name))
        object.__setattr__(optimizer, name, follower)
    object.__setattr__(optimizer, "get_config", _plain_config(optimizer))
    object.__setattr__(optimizer, _RECIPE, recipe)
    if model.train_function is not None:
        model.make_train_function(force=True)
    return recipe


def updates_made(model: Any) -> int:
    """Count the updates that a model's optimizer has made."""
    return int(ops.convert_to_numpy(ops.convert_to_tensor(optimizer_of(model).iterations)))


class Follower(keras.Variable):  # type: ignore[misc]
    """What an optimizer has in place of a number: a variable whose value is a function of the step.

    Optimizers hand it to ``keras.ops`` like any other variable, within whatever they compile.
    """

    def __init__(self, schedule: Schedule, optimizer: Any, initial: float | None) -> None:
        super().__init__(initial or 0.0, dtype=keras.backend.floatx(), trainable=False)
        self._cyclr_schedule, self._cyclr_optimizer = schedule, optimizer
        self.initial = initial

    @property
    def value(self) -> Any:
        """The value used by the update that is next, or being traced."""
        return evaluate(
            self._cyclr_schedule, ops.convert_to_tensor(self._cyclr_optimizer.iterations)
        )

    def assign(self, value: Any) -> Any:
        """Refuse: what follows a plan cannot be set.

        Raises:
            StateError: Always.
        """
        raise StateError(f"cannot set {value!r}: this follows a plan; follow another plan instead")

    # Optimizers ask these while they are traced, to know if they keep velocities at all. That was
    # decided when they were made, whatever the schedule says later.
    def __ne__(self, other: object) -> bool:
        return bool(self.initial != other)

    def __gt__(self, other: Any) -> bool:
        return bool((self.initial or 0.0) > other)


def optimizer_of(model: Any) -> Any:
    """Find the optimizer that makes the updates, inside a loss scale's if there is one."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None:
        raise InputError(
            f"the model must be compiled, and {type(model).__name__} has no optimizer; "
            "call model.compile(optimizer=…, loss=…) first"
        )
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if type(optimizer).__name__ == "MultiOptimizer":
        raise InputError(
            "a MultiOptimizer has several rates and counters; compile with one of them"
        )
    return optimizer


def _attributes(optimizer: Any, recipe: Recipe) -> dict[str, Schedule]:
    """Say which of the optimizer's attributes follow which schedule, besides the rate."""
    found: dict[str, Schedule] = {}
    kind, remedy = type(optimizer).__name__, "or drop it with recipe.replace(momentum=None)"
    if recipe.momentum is not None:
        name = next((n for n in ("momentum", "beta_1") if hasattr(optimizer, n)), None)
        if name is None:
            raise SpecError(
                f"the recipe schedules a momentum, and {kind} has neither momentum nor beta_1; "
                f"use another optimizer, {remedy}"
            )
        if name == "momentum" and _plain(optimizer.momentum) == 0:
            raise SpecError(
                f"the recipe schedules a momentum, and {kind} was made without one and keeps no "
                f"velocities; make it with momentum=0.9, {remedy}"
            )
        found[name] = recipe.momentum
    if recipe.weight_decay is not None:
        # Muon leaves some weights to Adam, with a decay of its own.
        names = [n for n in ("weight_decay", "adam_weight_decay") if hasattr(optimizer, n)]
        found.update(dict.fromkeys(names, recipe.weight_decay))
    return found


def followers(optimizer: Any) -> dict[str, Follower]:
    """Find the optimizer's attributes that follow a plan."""
    return {n: v for n, v in vars(optimizer).items() if isinstance(v, Follower)}


def _plain(value: Any) -> Any:
    """Give what the optimizer was made with, for a value that follows a plan."""
    return value.initial if isinstance(value, Follower) else value


def _plain_config(optimizer: Any) -> Callable[[], dict[str, Any]]:
    """Make the optimizer's get_config, with the numbers it was made with: Keras can read those."""

    def get_config() -> dict[str, Any]:
        config: dict[str, Any] = type(optimizer).get_config(optimizer)
        return {name: _plain(value) for name, value in config.items()}

    return get_config
