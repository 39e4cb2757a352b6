"""The sweep itself: rates in, losses out, until the test has seen enough."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, _global_optimizer_post_hooks

from cyclr.errors import DataError, InputError
from cyclr.integrations.nonfinite import story
from cyclr.integrations.torch.groups import family, set_value
from cyclr.integrations.torch.modes import evaluating, to_training
from cyclr.integrations.torch.nonfinite import blames_values
from cyclr.integrations.torch.own_warmup import share_of_rate
from cyclr.integrations.torch.processes import Processes
from cyclr.integrations.validation import joined, measured
from cyclr.rangetest import RangeRecord, RangeTest
from cyclr.rangetest.numbers import as_number


class Rates:
    """Sets a sweep's rate on every parameter group, the ratios between them kept.

    Args:
        optimizers: One or several.
        group: Index of the one group to move, counted through all optimizers; the others then
            keep the rates they have. None moves them all.

    Raises:
        InputError: There is no such group.
    """

    def __init__(self, optimizers: Sequence[Optimizer], group: int | None = None) -> None:
        owned = [(optimizer, g) for optimizer in optimizers for g in optimizer.param_groups]
        if any(g.get("lr") is None for _, g in owned):
            raise InputError(
                "lr must be a number in every parameter group, got None or none at all: an "
                "optimizer that sets its own rate has none to sweep; make it with a rate (lr=1e-3)"
            )
        self._all = [g for _, g in owned]
        if group is not None:
            if type(group) is not int or not 0 <= group < len(owned):
                raise InputError(
                    f"group must be from 0 to {len(owned) - 1}, got {group!r}; the optimizer has "
                    f"{len(owned)} parameter groups"
                )
            owned = [owned[group]]
        rates = [float(g.get("initial_lr", g["lr"])) for _, g in owned]
        largest = max(rates)
        factors = [rate / largest for rate in rates] if largest > 0 else [1.0] * len(rates)
        self._groups = list(zip(owned, factors, strict=True))

    def separate(self) -> None:
        """Give a group that is swept alone a rate of its own, if it shares a tensor with others."""
        if len(self._groups) == len(self._all):
            return
        for (_, group), _ in self._groups:
            others = [g["lr"] for g in self._all if g is not group]
            if isinstance(group["lr"], torch.Tensor) and any(group["lr"] is lr for lr in others):
                group["lr"] = group["lr"].clone()

    def set(self, lr: float) -> None:
        """Have the next update move the largest of them at this rate."""
        for (optimizer, group), factor in self._groups:
            set_value(group, "lr", lr * factor / share_of_rate(optimizer, group))


@dataclass(kw_only=True)
class Sweeper:
    """Runs range tests over one training.

    Attributes:
        models: What is trained.
        rates: Where rates are set.
        update: Makes one update with what the stream gives, and returns its loss, or a mapping
            with ``"loss"`` and other numbers.
        stream: Endless.
        validate: Gives metrics by name; None for none.
        validate_every: Updates between validations; None for what the test thinks best.
        processes: Who else sweeps.
        on_step: Called after every update.
    """

    models: Sequence[nn.Module]
    rates: Rates
    update: Callable[[Any], Any]
    stream: Iterator[Any]
    validate: Callable[[], Mapping[str, float]] | None
    validate_every: int | None
    processes: Processes
    on_step: Callable[[RangeTest], None] | None

    def run(self, test: RangeTest, put_back: Callable[[], None]) -> RangeRecord:
        """Run a test, and put the training back as often as it asks to begin again."""
        self._agree(test)
        self.rates.separate()
        while True:
            self._run_once(test)
            if not test.restart():
                return test.record
            put_back()

    def _agree(self, test: RangeTest) -> None:
        """Make sure that all processes do the same: otherwise some would wait in vain."""
        own = {"some": float(self.validate is not None), "every": float(self.validate_every or 0)}
        own["steps"] = float(test.steps)
        if self.processes.mean(own) != own:
            raise InputError(
                "the sweep's length, validate or validate_every differ between the processes, "
                "which go through it together; give the same in each"
            )

    def _run_once(self, test: RangeTest) -> None:
        for model in self.models:
            to_training(model)
        for lr in test:
            self.rates.set(lr)
            batch = next(self.stream)
            loss, metrics, failure = self._guarded(test, batch)
            shared = self.processes.mean({"loss": loss, "failures": float(failure is not None)})
            if shared["failures"]:
                test.fail(failure or _OTHER)
            else:
                test.tell(loss=shared["loss"], **self.processes.mean(metrics))
            if self.on_step is not None:
                self.on_step(test)

    def _guarded(self, test: RangeTest, batch: Any) -> tuple[float, dict[str, float], str | None]:
        """Validate if it is time, and make the update; say so if NaN or infinity prevented it."""
        try:
            validate = None if self.validate is None else self._validated
            metrics = measured(test, validate, self.validate_every)
            told = self.update(batch)
        except Exception as error:
            if test.step == 0 or not blames_values(error, self.models):
                raise
            return math.nan, {}, story(test.step, error)
        loss = loss_of(told)
        if not isinstance(told, Mapping):
            return loss, metrics, None
        more = {str(n): as_number(str(n), v) for n, v in told.items() if v is not None}
        more = joined(metrics, more)
        del more["loss"]
        return loss, more, None

    def _validated(self) -> Mapping[str, float]:
        assert self.validate is not None
        with _all_evaluating(self.models):
            return self.validate()


def loss_of(told: Any) -> float:
    """Find the loss in what an update gave: a number, or a mapping with one named so."""
    if not isinstance(told, Mapping):
        return as_number("loss", told)
    if "loss" not in told:
        raise InputError(
            f"train_step gave numbers without a loss ({', '.join(map(str, told))}); "
            'give the loss under the name "loss"'
        )
    return as_number("loss", told["loss"])


_OTHER = "In another process the step raised an exception about values that are not finite."


@contextmanager
def _all_evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    if not models:
        yield
        return
    with evaluating(models[0]), _all_evaluating(models[1:]):
        yield


@contextmanager
def unheard(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Set aside the hooks that hear of an optimizer's updates after they were made.

    Schedulers, averages and loggers listen there, and the updates of a sweep are none of their
    business. Hooks before an update stay: they may shape the gradients.
    """
    aside = []
    everyone = (one for optimizer in optimizers for one in family(optimizer))
    inside = (vars(one).get("_optimizer_step_post_hooks") for one in everyone)
    for hooks in (_global_optimizer_post_hooks, *inside):
        if hooks is not None:
            aside.append((hooks, dict(hooks)))
            hooks.clear()
    try:
        yield
    finally:
        for hooks, before in aside:
            hooks.clear()
            hooks.update(before)


def endless(batches: Any, group: int | None) -> Generator[Any]:
    """Go round and round the data; with a group size, give lists of that many batches.

    To be closed before data and generators are put back: what cleans up after itself when it is
    left in the middle, such as a sampler that counts its rounds, changes them once more.

    Raises:
        DataError: There is not a single batch.
    """
    stream = _one_by_one(twin(batches))
    with contextlib.closing(stream):
        while True:
            yield next(stream) if group is None else [next(stream) for _ in range(group)]


def _one_by_one(source: Any) -> Generator[Any]:
    while True:
        count = 0
        for batch in source:
            count += 1
            yield batch
        if count == 0:
            raise DataError("batches is empty: there is not a single batch to train on")


def twin(batches: Any) -> Any:
    """Copy a data loader shallowly, so that its own live iterator is not reset."""
    if not isinstance(batches, torch.utils.data.DataLoader):
        return batches
    made = copy.copy(batches)
    for name in ("_iterator", "next_iter_state"):  # the second is torchdata's
        if name in made.__dict__:
            object.__setattr__(made, name, None)
    return made
