"""A range test on the Trainer's own loss and data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations import torch as driver
from cyclr.integrations.torch.attributes import Attributes
from cyclr.integrations.torch.range_test import Validate
from cyclr.integrations.torch.snapshot import Snapshot
from cyclr.integrations.transformers.package import inner, transformers
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.schedules.spec import Schedule


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
    precision, accumulation, NEFTune's noise, clipping and optimizer. Call it before training,
    after, or from a callback in the middle. Afterwards, and after an exception or Ctrl-C as well,
    everything is as it was: weights, optimizer, Trainer, the data's position, the random
    generators. Nothing is logged or saved. A loss that becomes NaN, or an exception because of one,
    ends the sweep and no more, and a sweep by default that began too high begins again lower.

    Args:
        trainer: Your Trainer, in one process on one device.
        sweep: Schedule of the rate, or a :class:`~cyclr.rangetest.sweep.RangeTest` whose progress
            you want to watch or whose record you want even after an interruption. By default the
            test finds its range by itself.
        steps: Density of a range that the test finds, ≥ 2; 100 if None. Not with sweep.
        validate: ``validate(model)`` gives metrics by name, such as ``{"val_accuracy": 0.9}``.
        validate_every: Updates between validations, ≥ 1. If None, a twentieth of the sweep; or 1
            where an epoch has twenty updates or fewer, since there the validation loss is what is
            read (:meth:`~cyclr.rangetest.RangeRecord.read`).
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
        _make_noise(trainer)
        model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        trainer.optimizer, bare = optimizer, inner(optimizer)
        with Snapshot(loader), Attributes(optimizer, bare, tensors=False):
            # Schedulers listen here for updates; those of the sweep are none of their business.
            bare._optimizer_step_post_hooks.clear()
            return driver.range_test(
                model,
                bare,
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


def _make_noise(trainer: Any) -> None:
    """Have the embeddings give NEFTune's noise, if the Trainer would; _unseen takes it back."""
    alpha = trainer.neftune_noise_alpha
    if alpha is None or any(
        hasattr(part, "neftune_noise_alpha") for part in trainer.model.modules()
    ):
        return  # the second in the middle of a training, which has seen to it
    if hasattr(trainer, "_activate_neftune"):  # until Transformers 5
        trainer._activate_neftune(trainer.model)
    else:
        transformers.integrations.activate_neftune(trainer.model, alpha, trainer.accelerator)


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
