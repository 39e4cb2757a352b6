"""optax: schedules that trace, an optimizer that follows a recipe, and a range test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from cyclr.errors import InputError, SpecError, complaint
from cyclr.extras import require
from cyclr.integrations.driver import as_recipe, drive, endless, make_test
from cyclr.integrations.host import host_random
from cyclr.integrations.validation import check_validation
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.rangetest.numbers import as_number
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule

require("optax", caller="cyclr.integrations.optax", extra="jax")

import jax  # noqa: E402 -- after the check for optax, which brings it
import jax.numpy as jnp  # noqa: E402
import optax  # noqa: E402

__all__ = ["as_optax", "follow", "range_test"]

State = TypeVar("State")

# optax's names for what a recipe schedules; where an optimizer has several, the first counts.
_ARGUMENTS = {
    "lr": ("learning_rate",),
    "momentum": ("momentum", "b1"),
    "weight_decay": ("weight_decay",),
}


def as_optax(schedule: Schedule) -> Callable[[Any], jax.Array]:
    """Make a schedule one that optax takes: a function of the count of updates.

    ::

        as_optax(schedule)(count) = schedule(count)

    optax counts from 0, and so do schedules: update ``k`` uses ``schedule(k)``. The function may be
    traced, under ``jit``, ``scan`` and ``vmap``; its formula then becomes part of the compiled
    update. It answers in JAX's default floating-point type, float32 unless x64 is enabled.

    >>> from cyclr.schedules import Triangular
    >>> rate = as_optax(Triangular(base_lr=0.0, max_lr=1.0, stepsize=4))
    >>> [float(rate(count)) for count in (0, 2, 4, 8)]
    [0.0, 0.5, 1.0, 0.0]
    >>> float(jax.jit(rate)(2))
    0.5

    Args:
        schedule: Any cyclr schedule.

    Raises:
        SpecError: It is not a schedule; or, when called, a count that is not traced is negative.
    """
    if not isinstance(schedule, Schedule):
        raise SpecError(complaint("schedule", "a cyclr schedule", schedule, "try Triangular(...)"))

    def value(count: Any) -> jax.Array:
        return jnp.asarray(schedule(count))

    return value


def follow(
    make_optimizer: Callable[..., optax.GradientTransformation],
    plan: Schedule | Recipe,
    **fixed: Any,
) -> optax.GradientTransformationExtraArgs:
    """Make an optimizer whose rate, momentum (or b1) and weight decay follow a plan.

    Built with ``optax.inject_hyperparams``: after update ``k``, the state's ``hyperparams`` holds
    the values that update used, which are ``recipe.values(k)`` under optax's names. In a chain,
    ``optax.tree_utils.tree_get(state, "hyperparams")`` finds them. The counts are in the state,
    so a restored state goes on where it was saved.

    >>> import cyclr
    >>> recipe = cyclr.Recipe(
    ...     lr=cyclr.Triangular(base_lr=0.5, max_lr=1.0, stepsize=2),
    ...     momentum=cyclr.LinearSweep(start_lr=0.75, end_lr=0.5, steps=2),
    ...     total_steps=4,
    ... )
    >>> optimizer = follow(optax.sgd, recipe, nesterov=True)
    >>> state = optimizer.init(jnp.zeros(3))
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(jnp.ones(3), state, jnp.zeros(3))
    >>> {name: float(value) for name, value in sorted(state.hyperparams.items())}
    {'learning_rate': 0.75, 'momentum': 0.5}

    Args:
        make_optimizer: What makes the optimizer, such as ``optax.sgd`` or ``optax.adamw``.
        plan: A schedule (of the rate), or a recipe.
        **fixed: Other arguments of make_optimizer; they stay as they are.

    Raises:
        SpecError: The plan is not one, schedules something that make_optimizer has no argument
            for, or something that is also given as fixed.
    """
    recipe = as_recipe(plan)
    name = getattr(make_optimizer, "__name__", repr(make_optimizer))
    arguments = inspect.signature(make_optimizer).parameters
    scheduled = {}
    for key, schedule in recipe.schedules.items():
        argument = next((a for a in _ARGUMENTS[key] if a in arguments), None)
        if argument is None:
            names = " or ".join(_ARGUMENTS[key])
            raise SpecError(
                f"the recipe schedules {key}, and {name} has no argument {names}; use an optimizer "
                f"that has one{'' if key == 'lr' else f', or recipe.replace({key}=None)'}"
            )
        if argument in fixed:
            raise SpecError(f"{argument} is both scheduled and given as fixed; drop one of the two")
        scheduled[argument] = as_optax(schedule)
    # Everything else is static: optax would call a function among it as if it were a schedule.
    static = set(arguments) - set(scheduled)
    # Before version 0.2.5 optax rounds rates to the weights' type, such as bfloat16, unless told.
    dtype = jnp.asarray(0.0).dtype
    make = optax.inject_hyperparams(make_optimizer, static_args=static, hyperparam_dtype=dtype)
    return make(**scheduled, **fixed)


def range_test(
    step: Callable[[State, Any, float], tuple[State, Any]],
    state: State,
    batches: Iterable[Any],
    *,
    sweep: Schedule | RangeTest | None = None,
    steps: int | None = None,
    optimizer: Mapping[str, Any] | None = None,
    validate: Callable[[State], Mapping[str, Any]] | None = None,
    validate_every: int | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeRecord:
    """Run a learning rate range test with a train step that is a pure function.

    A step that raises because of NaN or infinity, as under ``jax_debug_nans``, ends the test with a
    note in its record; a range found by itself that began too high begins again lower, as often as
    steps are left.

    Nothing has to be restored: the states the test goes through are dropped at its end, and the
    one passed in stays usable, also when the step donates its buffers (``donate_argnums``), because
    the test begins with a copy. Python's, NumPy's and (if loaded) torch's random generators are put
    back. Batches are passed on as they are and more than once: a step must not donate those.

    >>> import cyclr
    >>> @jax.jit
    ... def step(weight, batch, lr):
    ...     loss, slope = jax.value_and_grad(lambda w: ((w - batch) ** 2).mean())(weight)
    ...     return weight - lr * slope, loss
    >>> sweep = cyclr.ExponentialSweep(start_lr=1e-3, end_lr=1e-1, steps=20)
    >>> record = range_test(step, jnp.zeros(()), [jnp.ones(4)], sweep=sweep)
    >>> len(record), record.outcome.value, record.loss[0]
    (20, 'completed', 1.0)

    Args:
        step: ``step(state, batch, lr)`` makes one update at the rate ``lr``, a Python float that
            ``jit`` traces without compiling anew, and gives the next state and the loss. An
            optimizer made with ``optax.inject_hyperparams`` and a number for its rate takes it by
            ``optax.tree_utils.tree_set(opt_state, learning_rate=lr)``; one that follows a schedule
            cannot. ``optax.radam`` warms itself up, so a sweep with it reads rates several times
            too high; test with ``optax.adam``, whose rates serve it as well.
        state: Whatever the step takes and gives; any pytree.
        batches: A re-iterable (a data loader, a list); gone through as often as the sweep needs.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` to watch. By
            default the test finds its range by itself.
        steps: Density of a range that the test finds, ≥ 2; 100 if None. Not with sweep.
        optimizer: What the sweep is run with, for the record: ``name``, ``momentum`` (or b1),
            ``weight_decay``. A plan moves the momentum only if told here that there is one.
        validate: ``validate(state)`` gives metrics by name, such as ``{"val_loss": 0.9}``; called
            before an update.
        validate_every: Updates between validations, ≥ 1. If None, a twentieth of the sweep; or 1
            where an epoch has twenty updates or fewer, since there the validation loss is what is
            read (:meth:`~cyclr.rangetest.RangeRecord.read`).
        on_step: Called after every update with the running test, for progress.

    Raises:
        InputError: Arguments do not go together, or the step does not give a state and a loss.
        DataError: ``batches`` is empty, or an iterator that cannot be started again.

    Reference: arXiv 1506.01186, section 3.3.
    """
    check_validation(validate, validate_every)
    test = make_test(sweep, steps, optimizer=optimizer, batches=batches)
    while True:
        training = _Training(step, state, batches)
        measure = None if validate is None else lambda now=training: validate(now.state)
        with host_random(batches):
            drive(test, training.update, on_step, measure, validate_every)
        if not test.restart():
            return test.record


class _Training(Generic[State]):
    """Takes a copy of a state through the batches, an update a call."""

    def __init__(
        self,
        step: Callable[[State, Any, float], tuple[State, Any]],
        state: State,
        batches: Iterable[Any],
    ) -> None:
        self._step, self._stream = step, endless(batches)
        self.state: State = jax.tree.map(_copy, state)

    def update(self, lr: float) -> Mapping[str, Any]:
        """Make an update, and give its loss."""
        result: Any = self._step(self.state, next(self._stream), lr)
        if not isinstance(result, tuple) or len(result) != 2:
            constraint, remedy = "a pair (state, loss)", "return both, in this order"
            raise InputError(complaint("what step gives", constraint, type(result), remedy))
        self.state, loss = result
        return {"loss": as_number("loss", loss)}


def _copy(leaf: Any) -> Any:
    """Copy an array, which a step might donate or write into; anything else is kept."""
    return leaf.copy() if isinstance(leaf, jax.Array | np.ndarray) else leaf
