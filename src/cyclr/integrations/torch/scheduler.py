"""A real torch ``LRScheduler`` that follows schedules and recipes."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import Optimizer

from cyclr.errors import SpecError, StateError, complaint
from cyclr.integrations.torch.groups import is_tensor, ratios, set_value
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule

_BLOCK_BITS = 10
_BLOCK = 1 << _BLOCK_BITS
_MASK = _BLOCK - 1

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
        self._cells: list[_Cell] = []
        self._block = -1
        self._plain_groups = -1
        self._updated = True  # the first call, from the base class, sets update 0's values
        optimizer.register_step_post_hook(_note_update(weakref.ref(self)))
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the values for the next update, if the last one has happened.

        Args:
            epoch: Go to this step instead, whatever has happened; counted from 0.
        """
        if epoch is not None:
            self.last_epoch = epoch
        elif self._updated:
            self.last_epoch += 1
        else:
            return
        self._updated = False
        # Training calls this millions of times: the usual case is written out here.
        step = self.last_epoch
        groups = self.optimizer.param_groups
        if step >> _BLOCK_BITS == self._block and len(groups) == self._plain_groups:
            row = step & _MASK
            for index, key, values in self._cells:
                groups[index][key] = values[row]
        else:
            self._apply()

    def get_lr(self) -> list[float | torch.Tensor]:
        """Give the rates for the next update, one per parameter group."""
        self._fill(self.last_epoch >> _BLOCK_BITS)
        row = self.last_epoch & _MASK
        return [cell.values[row] for cell in self._cells if cell.key == "lr"]

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
        self.last_epoch = int(state_dict["last_epoch"])
        self._updated = False
        self._block = -1  # loading the optimizer's state may have made its rates tensors
        self._apply()

    def _apply(self) -> None:
        """Write the values due into the optimizer's groups, whatever their form."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.recipes):
            raise StateError(
                f"the optimizer has {len(groups)} parameter groups and had {len(self.recipes)} "
                "when the Scheduler was made; make a new Scheduler after add_param_group"
            )
        self._fill(self.last_epoch >> _BLOCK_BITS)
        row = self.last_epoch & _MASK
        for group, key, values in self._cells:
            set_value(groups[group], key, values[row])

    def _fill(self, block: int) -> None:
        """Evaluate a block of steps at once: an array costs little more than a number does."""
        if block == self._block:
            return
        groups = self.optimizer.param_groups
        steps = np.arange(block << _BLOCK_BITS, (block + 1) << _BLOCK_BITS)
        self._cells = [
            _Cell(index, key, values)
            for index, recipe in enumerate(self.recipes)
            for key, values in self._settings(index, recipe, groups[index], steps)
        ]
        # Tensors are filled in place, which the short way through step() cannot do.
        tensors = any(is_tensor(groups[cell.group], cell.key) for cell in self._cells)
        self._plain_groups = -1 if tensors else len(groups)
        self._block = block

    def _settings(
        self, index: int, recipe: Recipe, group: dict[str, Any], steps: npt.NDArray[np.int64]
    ) -> Iterator[tuple[str, list[Any]]]:
        """List what one group is to have at each of the steps, by the group's own keys."""
        yield "lr", _values(recipe.lr, steps, self._lr_factors[index])
        if recipe.weight_decay is not None:
            decay = _values(recipe.weight_decay, steps, self._decay_factors[index])
            yield "weight_decay", decay
        if recipe.momentum is not None:
            momentum = _values(recipe.momentum, steps)
            if "betas" in group:
                rest = group["betas"][1:]
                yield "betas", [(beta1, *rest) for beta1 in momentum]
            else:
                yield "momentum", momentum


class _Cell(NamedTuple):
    """One setting of one group over the current block of steps."""

    group: int
    key: str
    values: list[Any]


def _values(schedule: Schedule, steps: npt.NDArray[np.int64], factor: float = 1.0) -> list[float]:
    values: list[float] = (np.asarray(schedule(steps), dtype=np.float64) * factor).tolist()
    return values


def _note_update(scheduler: weakref.ref[Scheduler]) -> Callable[..., None]:
    """Make the hook that tells a scheduler of an update, without keeping the scheduler alive."""

    def note(optimizer: Optimizer, *_: Any) -> None:
        target = scheduler()
        # Fused optimizers are called even for an update to be skipped, and told so in a tensor.
        found_inf = getattr(optimizer, "found_inf", None)
        if target is not None and (found_inf is None or not bool(found_inf)):
            target._updated = True

    return note


def _recipes(optimizer: Optimizer, plan: Any) -> list[Recipe]:
    """Turn what the user passed into one recipe per group, and check it against the optimizer."""
    groups = optimizer.param_groups
    plans = list(plan) if isinstance(plan, list | tuple) else [plan] * len(groups)
    if len(plans) != len(groups):
        constraint = f"one schedule or recipe, or {len(groups)}: one per parameter group"
        raise SpecError(complaint("plan", constraint, plan, "match the optimizer's groups"))
    recipes = [_recipe(entry) for entry in plans]
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


def _recipe(entry: Any) -> Recipe:
    if isinstance(entry, Recipe):
        return entry
    if isinstance(entry, Schedule):
        # The length is only needed where training must end; the scheduler itself never ends.
        return Recipe(lr=entry, total_steps=entry.total_steps or 1)
    raise SpecError(
        complaint("plan", "a cyclr schedule or Recipe", entry, "try Triangular(...) or plan(...)")
    )


def _essence(data: dict[str, Any]) -> dict[str, Any]:
    """Drop from a recipe's data what does not change any value."""
    return {key: value for key, value in data.items() if key not in ("notes", "steps_per_epoch")}
