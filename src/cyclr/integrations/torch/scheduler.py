"""A real torch ``LRScheduler`` that follows schedules and recipes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from cyclr.errors import SpecError, StateError, complaint
from cyclr.integrations.driver import as_recipe, essence
from cyclr.integrations.torch.groups import is_tensor, original, ratios, remember, set_value
from cyclr.recipe import Recipe
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule

_BLOCK = 1 << 12  # steps evaluated at once
_COUNT = Constraint(kind="integer", ge=0, lt=2**63 - _BLOCK)

Plan = Schedule | Recipe


class Scheduler(LRScheduler):
    """Sets rate, momentum (or Adam's beta1) and weight decay by a schedule or a recipe.

    Call :meth:`step` after ``optimizer.step()``, as with any torch scheduler. Update ``k`` of the
    optimizer, counted from 0, uses ``schedule(k)``.

    The scheduler moves on by the updates that the optimizer has made since the last call; by none
    if there were none, and if there were several, by so many and with a warning. An update that a
    ``GradScaler`` skipped, the micro-batches of gradient accumulation, and Accelerate's
    repeated calls in several processes therefore do not advance it.

    With one schedule for several parameter groups, the schedule is the rate of the group whose
    rate is largest, and the ratios between the groups' rates (and between their weight decays) stay
    as the optimizer was made: a group at a tenth of the rate stays there, one without decay stays
    without. To give groups schedules of their own, pass a sequence, one entry per group.

    Rates that are tensors are filled in place, so captured and compiled optimizers see them.

    What the optimizer was made with is kept in its groups under torch's prefix, as ``initial_lr``,
    ``initial_momentum`` (or ``initial_betas``) and ``initial_weight_decay``. As a later part of a
    ``SequentialLR``, the scheduler leaves all settings as they were until its own turn comes.

    Attributes:
        recipes: The recipe of each parameter group.

    Args:
        optimizer: Any torch optimizer.
        plan: A schedule (of the rate), a :class:`~cyclr.recipe.Recipe`, or a sequence of them.
        allow_change: Let :meth:`load_state_dict` take the step from a state that was saved under
            another plan, and go on under this one. Without it that is an error.

    Raises:
        TypeError: ``optimizer`` is not a torch optimizer.
        SpecError: The plan is not one, has the wrong number of entries, or schedules something
            that the optimizer does not have.
    """

    def __init__(
        self, optimizer: Optimizer, plan: Plan | Sequence[Plan], *, allow_change: bool = False
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch Optimizer, got {type(optimizer).__name__}")
        self.recipes = _recipes(optimizer, plan)
        self._allow_change = allow_change
        shared = not isinstance(plan, list | tuple)
        self._lr_factors = ratios(optimizer, "lr") if shared else [1.0] * len(self.recipes)
        self._decay_factors = (
            ratios(optimizer, "weight_decay") if shared else [1.0] * len(self.recipes)
        )
        for i, (group, recipe) in enumerate(zip(optimizer.param_groups, self.recipes, strict=True)):
            for key, _, _ in self._settings(i, recipe, group):
                remember(group, key)
        # What groups are to have over the current block of steps, and where in the block we are.
        self._columns: list[list[tuple[str, list[float]]]] = []
        self._start, self._row = -_BLOCK, _BLOCK - 1
        # What step() may set in its short way: up to which row, numbers by key, and beta1.
        self._plain_rows = 0
        self._plain: list[tuple[str, list[float]]] = []
        self._beta1: list[float] = []
        self._updates = [0]  # made since the last step()
        self._warned = False
        wrapped = not hasattr(optimizer.step, "__func__")
        super().__init__(optimizer)
        if not wrapped and not hasattr(optimizer.step, "__func__"):
            # The base class wraps the optimizer's step to see that it was called. The hook below
            # knows that an update was made, so the wrapper, paid in every update, goes again.
            # (Looking into the optimizer's __dict__ instead would slow down all its attributes.)
            del optimizer.step
        self._listen()

    def _listen(self) -> None:
        """Have the optimizer tell of its updates, without keeping this scheduler alive."""
        updates = self._updates

        def note(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            updates[0] += 1

        def note_unless_skipped(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            # A GradScaler calls these even for an update to be skipped, and says so in a tensor.
            found_inf = getattr(optimizer, "found_inf", None)
            if found_inf is None or not bool(found_inf):
                updates[0] += 1

        scales = getattr(self.optimizer, "_step_supports_amp_scaling", False)  # fused ones do
        self.optimizer.register_step_post_hook(note_unless_skipped if scales else note)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Listen again: copied and unpickled optimizers have lost their hooks."""
        self.__dict__.update(state)
        self._listen()

    @property
    def last_epoch(self) -> int:
        """The count of updates made, which is the step whose values are set; torch has the name."""
        return self._start + self._row

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        self._row = value - self._start
        self._plain_rows = 0
        if value < 0:
            # A SequentialLR undoes the first step of its parts like this; it resets rates itself.
            for group, columns in zip(self.optimizer.param_groups, self._columns, strict=False):
                for key, _ in columns:
                    if key != "lr":
                        set_value(group, key, original(group, key))

    def _initial_step(self) -> None:
        """Set update 0's values: the base class calls this, and a SequentialLR does once more."""
        self._step_count = 1  # Accelerate adds to it
        self._go(0)

    def _update_lr(self, epoch: int | None = None) -> None:
        """Answer a SequentialLR, which calls this when the scheduler's turn comes."""
        self.step(epoch)

    def step(self, epoch: int | None = None) -> None:
        """Set the values for the next update, if any has happened since the last call.

        More than one since then count as so many, with a warning: they all had the same values.

        Args:
            epoch: Go to this step instead, whatever has happened; an int, counted from 0.

        Raises:
            SpecError: ``epoch`` is not a step.
        """
        if epoch is not None:
            self._go(_COUNT.check("epoch", epoch))
            return
        updates = self._updates
        made = updates[0]
        if made != 1:
            if made == 0:
                return
            self._warn_of(made)
        updates[0] = 0
        self._row = row = self._row + made
        groups = self.optimizer.param_groups
        if row >= self._plain_rows or len(groups) != 1:
            self._apply()
            return
        # Training comes here millions of times: the usual case, one group of numbers.
        group = groups[0]
        for key, values in self._plain:
            group[key] = values[row]
        if self._beta1:
            group["betas"] = (self._beta1[row], *group["betas"][1:])

    def _go(self, position: int) -> None:
        """Set the values of any step, as if no update had been made since."""
        self._row = position - self._start
        self._updates[0] = 0
        self._apply()

    def _warn_of(self, made: int) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the optimizer has made {made} updates since scheduler.step() was last called, "
                "all at the same values; call it after every update, not once an epoch",
                stacklevel=3,
            )

    def get_lr(self) -> list[float | torch.Tensor]:
        """Give the rates for the next update, one per parameter group."""
        self._fill()
        return [dict(columns)["lr"][self._row] for columns in self._columns]

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """Give the rates that the optimizer has now, one per parameter group, as copies."""
        rates = (group["lr"] for group in self.optimizer.param_groups)
        return [rate.clone() if isinstance(rate, torch.Tensor) else rate for rate in rates]

    def state_dict(self) -> dict[str, Any]:
        """Give the step and the plan as plain data, safe for ``torch.load(weights_only=True)``."""
        return {
            "cyclr_scheduler": 1,
            "last_epoch": self.last_epoch,
            "recipes": [recipe.to_dict() for recipe in self.recipes],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go to the step of a saved state and set its values.

        Raises:
            StateError: The state is of another scheduler, or of another plan and ``allow_change``
                was not given.
        """
        if "cyclr_scheduler" not in state_dict:
            raise StateError(
                "the state must be a cyclr Scheduler's, got one with the keys "
                f"{sorted(state_dict)}; load it into the scheduler that wrote it"
            )
        saved = [essence(data) for data in state_dict["recipes"]]
        mine = [essence(recipe.to_dict()) for recipe in self.recipes]
        if saved != mine and not self._allow_change:
            raise StateError(
                f"the state was saved under another plan: {saved} instead of {mine}; make the "
                "Scheduler with that plan, or with allow_change=True to go on under the new one"
            )
        position = int(state_dict["last_epoch"])
        if position < 0:
            self.last_epoch = position  # saved by a SequentialLR before this scheduler's turn
        else:
            self._go(position)

    def _apply(self) -> None:
        """Write the values due into the optimizer's groups, whatever their form."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.recipes):
            raise StateError(
                f"the optimizer has {len(groups)} parameter groups and had {len(self.recipes)} "
                "when the Scheduler was made; make a new Scheduler after add_param_group"
            )
        self._fill()
        for group, columns in zip(groups, self._columns, strict=True):
            for key, values in columns:
                set_value(group, key, values[self._row])
        # Tensors are filled in place, which the short way through step() cannot do.
        tensors = any(is_tensor(groups[0], key) for key, _ in self._columns[0])
        self._plain_rows = 0 if tensors or len(groups) > 1 else _BLOCK
        self._plain = [column for column in self._columns[0] if column[0] != "betas"]
        self._beta1 = dict(self._columns[0]).get("betas", [])

    def _fill(self) -> None:
        """Evaluate a block of steps at once: an array costs little more than a number does."""
        if 0 <= self._row < _BLOCK and self._start >= 0:
            return
        position = self._start + self._row
        self._row = position % _BLOCK
        self._start = position - self._row
        steps = np.arange(self._start, self._start + _BLOCK)
        known: dict[tuple[Schedule, float], list[float]] = {}  # groups share what they can
        self._columns = [
            [
                (key, _values(schedule, factor, steps, known))
                for key, schedule, factor in self._settings(index, recipe, group)
            ]
            for index, (recipe, group) in enumerate(
                zip(self.recipes, self.optimizer.param_groups, strict=True)
            )
        ]

    def _settings(
        self, index: int, recipe: Recipe, group: dict[str, Any]
    ) -> Iterator[tuple[str, Schedule, float]]:
        """List what one group follows, by the group's own keys, and by what factor."""
        yield "lr", recipe.lr, self._lr_factors[index]
        if recipe.weight_decay is not None:
            yield "weight_decay", recipe.weight_decay, self._decay_factors[index]
        if recipe.momentum is not None:
            yield "betas" if "betas" in group else "momentum", recipe.momentum, 1.0


def _values(
    schedule: Schedule,
    factor: float,
    steps: npt.NDArray[np.int64],
    known: dict[tuple[Schedule, float], list[float]],
) -> list[float]:
    if (schedule, factor) not in known:
        values = np.asarray(schedule(steps), dtype=np.float64) * factor
        known[schedule, factor] = values.tolist()
    return known[schedule, factor]


def _recipes(optimizer: Optimizer, plan: Any) -> list[Recipe]:
    """Turn what the user passed into one recipe per group, and check it against the optimizer."""
    groups = optimizer.param_groups
    plans = list(plan) if isinstance(plan, list | tuple) else [plan] * len(groups)
    if len(plans) != len(groups):
        constraint = f"one schedule or recipe, or {len(groups)}: one per parameter group"
        raise SpecError(complaint("plan", constraint, plan, "match the optimizer's groups"))
    recipes = [as_recipe(entry) for entry in plans]
    for i, (group, recipe) in enumerate(zip(groups, recipes, strict=True)):
        name = type(optimizer).__name__
        if recipe.momentum is not None and not {"momentum", "betas"} & set(group):
            raise SpecError(
                f"the recipe schedules a momentum, and group {i} of {name} has neither momentum "
                "nor betas; drop it with recipe.replace(momentum=None), or delete "
                "it from recipe.json"
            )
        if recipe.weight_decay is not None and "weight_decay" not in group:
            raise SpecError(
                f"the recipe schedules a weight decay, and group {i} of {name} has none; drop it "
                "with recipe.replace(weight_decay=None)"
            )
    return recipes
