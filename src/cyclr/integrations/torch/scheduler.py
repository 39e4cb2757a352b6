"""A real torch ``LRScheduler`` that follows schedules and recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from cyclr.errors import SpecError, StateError, complaint
from cyclr.integrations.driver import as_recipe
from cyclr.integrations.torch.groups import is_tensor, original, ratios, remember, set_value
from cyclr.recipe import Recipe
from cyclr.schedules.fields import Constraint
from cyclr.schedules.spec import Schedule

_BLOCK_BITS = 10
_BLOCK = 1 << _BLOCK_BITS
_MASK = _BLOCK - 1
_COUNT = Constraint(kind="integer", ge=0)

Plan = Schedule | Recipe


class Scheduler(LRScheduler):
    """Sets rate, momentum (or Adam's beta1) and weight decay by a schedule or a recipe.

    Call :meth:`step` after ``optimizer.step()``, as with any torch scheduler. Update ``k`` of the
    optimizer, counted from 0, uses ``schedule(k)``.

    The scheduler moves on only if the optimizer has made an update since the last call. An update
    that a ``GradScaler`` skipped, the micro-batches of gradient accumulation, and Accelerate's
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
        for group, recipe in zip(optimizer.param_groups, self.recipes, strict=True):
            for key in _keys(recipe, group):
                remember(group, key)
        self._cells: list[tuple[int, str, list[Any]]] = []  # group, key, values over a block
        self._block = -1
        self._plain_groups = -1
        self._updated = [False]
        wrapped = "step" in vars(optimizer)
        super().__init__(optimizer)
        if not wrapped:
            # The base class wraps the optimizer's step to see that it was called. The hook below
            # knows that an update was made, so the wrapper, paid in every update, goes again.
            vars(optimizer).pop("step", None)
        self._listen()

    def _listen(self) -> None:
        """Have the optimizer tell of its updates, without keeping this scheduler alive."""
        updated = self._updated

        def note(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            updated[0] = True

        def note_unless_skipped(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
            # A GradScaler calls these even for an update to be skipped, and says so in a tensor.
            found_inf = getattr(optimizer, "found_inf", None)
            if found_inf is None or not bool(found_inf):
                updated[0] = True

        scales = getattr(self.optimizer, "_step_supports_amp_scaling", False)  # fused ones do
        self.optimizer.register_step_post_hook(note_unless_skipped if scales else note)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Listen again: copied and unpickled optimizers have lost their hooks."""
        self.__dict__.update(state)
        self._listen()

    @property
    def last_epoch(self) -> int:
        """How many updates have been made: the step whose values are set. Torch's name for it."""
        return self._position

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        self._position = value
        if value < 0:
            # A SequentialLR undoes the first step of its parts like this; it resets rates itself.
            for index, key, _ in self._cells:
                group = self.optimizer.param_groups[index]
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
        """Set the values for the next update, if the last one has happened.

        Args:
            epoch: Go to this step instead, whatever has happened; an int, counted from 0.

        Raises:
            SpecError: ``epoch`` is not a step.
        """
        if epoch is not None:
            self._go(_COUNT.check("epoch", epoch))
            return
        updated = self._updated
        if not updated[0]:
            return
        updated[0] = False
        # Training calls this millions of times: the usual case is written out here.
        self._position = position = self._position + 1
        groups = self.optimizer.param_groups
        if position >> _BLOCK_BITS == self._block and len(groups) == self._plain_groups:
            row = position & _MASK
            for index, key, values in self._cells:
                groups[index][key] = values[row]
        else:
            self._apply()

    def _go(self, position: int) -> None:
        """Set the values of any step, as if no update had been made since."""
        self._position = position
        self._updated[0] = False
        self._apply()

    def get_lr(self) -> list[float | torch.Tensor]:
        """Give the rates for the next update, one per parameter group."""
        self._fill(self._position >> _BLOCK_BITS)
        row = self._position & _MASK
        return [values[row] for _, key, values in self._cells if key == "lr"]

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
        saved = [_essence(data) for data in state_dict["recipes"]]
        mine = [_essence(recipe.to_dict()) for recipe in self.recipes]
        if saved != mine and not self._allow_change:
            raise StateError(
                f"the state was saved under another plan: {saved} instead of {mine}; make the "
                "Scheduler with that plan, or with allow_change=True to go on under the new one"
            )
        self._block = -1  # loading the optimizer's state may have made its rates tensors
        self._go(int(state_dict["last_epoch"]))

    def _apply(self) -> None:
        """Write the values due into the optimizer's groups, whatever their form."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.recipes):
            raise StateError(
                f"the optimizer has {len(groups)} parameter groups and had {len(self.recipes)} "
                "when the Scheduler was made; make a new Scheduler after add_param_group"
            )
        self._fill(self._position >> _BLOCK_BITS)
        row = self._position & _MASK
        for group, key, values in self._cells:
            set_value(groups[group], key, values[row])

    def _fill(self, block: int) -> None:
        """Evaluate a block of steps at once: an array costs little more than a number does."""
        if block == self._block:
            return
        groups = self.optimizer.param_groups
        steps = np.arange(block << _BLOCK_BITS, (block + 1) << _BLOCK_BITS)
        self._cells = [
            (index, key, values)
            for index, recipe in enumerate(self.recipes)
            for key, values in self._settings(index, recipe, groups[index], steps)
        ]
        # Tensors are filled in place, which the short way through step() cannot do.
        tensors = any(is_tensor(groups[index], key) for index, key, _ in self._cells)
        self._plain_groups = -1 if tensors else len(groups)
        self._block = block

    def _settings(
        self, index: int, recipe: Recipe, group: dict[str, Any], steps: npt.NDArray[np.int64]
    ) -> Iterator[tuple[str, list[Any]]]:
        """List what one group is to have at each of the steps, by the group's own keys."""
        for key in _keys(recipe, group):
            if key == "lr":
                yield key, _values(recipe.lr, steps, self._lr_factors[index])
            elif key == "weight_decay":
                assert recipe.weight_decay is not None
                yield key, _values(recipe.weight_decay, steps, self._decay_factors[index])
            else:
                assert recipe.momentum is not None
                momentum = _values(recipe.momentum, steps)
                rest = tuple(group["betas"][1:]) if key == "betas" else ()
                yield key, [(beta1, *rest) for beta1 in momentum] if rest else momentum


def _keys(recipe: Recipe, group: dict[str, Any]) -> list[str]:
    """Name the settings of a group that a recipe schedules, by the group's own keys."""
    keys = ["lr"]
    if recipe.weight_decay is not None:
        keys.append("weight_decay")
    if recipe.momentum is not None:
        keys.append("betas" if "betas" in group else "momentum")
    return keys


def _values(schedule: Schedule, steps: npt.NDArray[np.int64], factor: float = 1.0) -> list[float]:
    values: list[float] = (np.asarray(schedule(steps), dtype=np.float64) * factor).tolist()
    return values


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


def _essence(data: dict[str, Any]) -> dict[str, Any]:
    """Drop from a recipe's data what does not change any value."""
    return {key: value for key, value in data.items() if key not in ("notes", "steps_per_epoch")}
