"""Transformers: a recipe in the Trainer, and a range test on the Trainer's own loss and data.

A :class:`~cyclr.integrations.torch.Scheduler` can also be passed as it is:
``Trainer(…, optimizers=(optimizer, Scheduler(optimizer, recipe)))``.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from cyclr.errors import DataError, InputError, SpecError, StateError, complaint
from cyclr.extras import require
from cyclr.integrations import torch as driver
from cyclr.integrations.torch.attributes import Attributes
from cyclr.integrations.torch.range_test import Validate
from cyclr.integrations.torch.scheduler import Scheduler
from cyclr.integrations.torch.snapshot import Snapshot
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.recipe import Recipe
from cyclr.schedules.spec import Schedule

transformers: Any = require(
    "transformers", caller="cyclr.integrations.transformers", extra="transformers"
)

__all__ = ["CycleCallback", "range_test"]


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
        self._scheduler = Scheduler(_inner(optimizer), self.recipe)
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


def _inner(optimizer: Any) -> Any:
    """Take an optimizer out of Accelerate's wrapper, which has no hooks."""
    return getattr(optimizer, "optimizer", optimizer)


def _wish(given: bool | None, strategy: Any) -> bool:
    return strategy != "no" if given is None else given


def range_test(
    trainer: Any,
    *,
    sweep: Schedule | RangeTest | None = None,
    steps: int | None = None,
    validate: Validate | None = None,
    validate_every: int | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeRecord:
    """Run a learning rate range test in a Trainer, and leave no trace of it.

    Each update is the Trainer's: its batches (``get_train_dataloader``), ``compute_loss``,
    precision, accumulation, clipping and optimizer. Call it before training, after, or from a
    callback in the middle. Afterwards, and after an exception or Ctrl-C as well, everything is as
    it was: weights, optimizer, Trainer, the data's position, the random generators. Nothing is
    logged or saved.

    Args:
        trainer: Your Trainer, in one process on one device.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` whose progress
            you want to watch or whose record you want even after an interruption. By default an
            exponential sweep from 1e-7 to 10.
        steps: Length of the default sweep in updates, ≥ 2; 100 if None. Not with sweep.
        validate: ``validate(model)`` gives metrics by name, such as ``{"val_accuracy": 0.9}``.
        validate_every: Updates between validations, ≥ 1; a twentieth of the sweep if None.
        on_step: Called after every update with the running test, for progress.

    Raises:
        InputError: The Trainer uses several devices, or arguments do not go together.
        DataError: The training data is empty.

    Reference: arXiv 1506.01186, section 3.3.
    """
    if not hasattr(trainer, "get_train_dataloader"):
        remedy = "pass the one that you train with"
        raise InputError(complaint("trainer", "a Transformers Trainer", trainer, remedy))
    devices = max(trainer.accelerator.num_processes, trainer.args.n_gpu)
    if devices > 1 or trainer.is_deepspeed_enabled:
        remedy = "run the range test in a single process, before the launch"
        raise InputError(complaint("trainer", "on one device", devices, remedy))
    data = trainer.train_dataset
    if isinstance(data, Sized) and len(data) == 0:
        raise DataError("trainer.train_dataset is empty: there is not a single batch to train on")
    with _unseen(trainer):
        loader = trainer.get_train_dataloader()
        if trainer.optimizer is None:
            trainer.create_optimizer()
        model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        trainer.optimizer, inner = optimizer, _inner(optimizer)
        with Snapshot(loader), Attributes(optimizer, inner, tensors=False):
            # Schedulers listen here for updates; those of the sweep are none of their business.
            inner._optimizer_step_post_hooks.clear()
            return driver.range_test(
                model,
                inner,
                _updates(trainer, loader),
                sweep=sweep,
                steps=steps,
                train_step=lambda model, _, update: _train(trainer, model, update),
                validate=validate,
                validate_every=validate_every,
                scaler=trainer.accelerator.scaler,
                on_step=on_step,
            )


def _train(trainer: Any, model: torch.nn.Module, update: tuple[list[Any], Any]) -> torch.Tensor:
    """Make one update as the Trainer makes it."""
    batches, items = update
    trainer.current_gradient_accumulation_steps = len(batches)
    model.zero_grad()
    losses = [trainer.training_step(model, batch, items) for batch in batches]
    limit = trainer.args.max_grad_norm
    if limit is not None and limit > 0:
        trainer.accelerator.clip_grad_norm_(model.parameters(), limit)
    trainer.optimizer.step()
    return torch.stack(losses).sum()  # each is its share of the update's loss


class _Updates:
    """The batches of each update, with the count of items that the Trainer divides the loss by."""

    def __init__(self, trainer: Any, loader: DataLoader[Any]) -> None:
        self._trainer = trainer
        self._loader = loader
        self._size: int = trainer.args.gradient_accumulation_steps
        takes = inspect.signature(trainer.get_batch_samples).parameters
        self._more = (trainer.args.device,) if "device" in takes else ()  # since Transformers 4.50

    def __iter__(self) -> Iterator[tuple[list[Any], Any]]:
        batches = iter(self._loader)
        while True:
            update = self._trainer.get_batch_samples(batches, self._size, *self._more)
            if not update[0]:
                return
            yield update


class _CountedUpdates(_Updates):
    """The same for data that has a length."""

    def __len__(self) -> int:
        return math.ceil(
            len(self._loader) / self._size
        )  # the last update of an epoch may be smaller


def _updates(trainer: Any, loader: Any) -> _Updates:
    try:
        len(loader)
    except TypeError:  # an iterable data set, although a loader always has __len__
        return _Updates(trainer, loader)
    return _CountedUpdates(trainer, loader)


@contextmanager
def _unseen(trainer: Any) -> Iterator[None]:
    """Remember the Trainer, what it shares with Accelerate, and the model's attributes."""
    accelerator, gradients = trainer.accelerator, trainer.accelerator.gradient_state
    state = gradients.sync_gradients, list(gradients.dataloader_references)
    things = (trainer, trainer.state, trainer.control, accelerator, trainer.model)
    with Snapshot(), Attributes(*things), torch.enable_grad():
        trainer.log = lambda *_, **__: None  # a compute_loss of the user's may log
        gradients.sync_gradients = True
        try:
            yield
        finally:
            gradients.sync_gradients, gradients.dataloader_references = state
