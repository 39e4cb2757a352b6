"""Evaluation: the mean loss and metrics over a data set, leaving no trace on the training."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.torch import Snapshot
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.integrations.torch.modes import evaluating
from cyclr.integrations.torch.sweeping import twin
from cyclr.training.distributed import Processes
from cyclr.training.updates import check_loss

_FORM = "make the loader give pairs"

Metrics = Mapping[str, Callable[[Any, Any], Any]]


def evaluate(
    model: nn.Module,
    batches: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    metrics: Metrics | None = None,
    *,
    processes: Processes | None = None,
    prepare: Callable[[Any], Any] | None = None,
    most: int | None = None,
) -> dict[str, float]:
    """Average the loss and the metrics over a data set, in eval mode.

    Args:
        model: Left in the mode it was in.
        batches: Iterable of ``(inputs, targets)``.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over the batch.
        metrics: By name, ``metric(outputs, targets)``: one number, or one per example. None for
            those that suit the first batch, see :func:`suited_metrics`.
        processes: Share the batches among these, and give each of them the average over all.
        prepare: Applied to each batch's inputs on the device, such as a change of memory format.
        most: Look at so many batches at most, ≥ 1; None for all.

    Returns:
        ``val_loss`` and ``val_<name>`` for each metric.

    Raises:
        DataError: There is no batch.
    """
    device = next(model.parameters()).device
    together = Processes() if processes is None else processes
    sums: list[float] = []
    count = 0
    with evaluating(model):
        for batch in itertools.islice(batches, most):
            part, n = together.share_for_evaluation(pair(batch, remedy=_FORM))
            inputs, targets = to_device(part, device)
            outputs = model(inputs if prepare is None else prepare(inputs))
            metrics = suited_metrics(outputs, targets) if metrics is None else metrics
            found = [loss_fn(outputs, targets), *(m(outputs, targets) for m in metrics.values())]
            sums = sums or [0.0] * len(found)
            for i, value in enumerate(found):
                sums[i] += float(torch.as_tensor(value).float().mean()) * n if n else 0.0
            count += n
    *sums, examples = together.total([*(sums or [0.0]), count])
    if examples == 0:
        raise DataError("the validation data is empty: there is not a single batch")
    names = ("val_loss", *(f"val_{name}" for name in metrics or {}))
    return {name: total / examples for name, total in zip(names, sums, strict=True)}


def without_trace(batches: Any, work: Callable[[Any], dict[str, float]]) -> dict[str, float]:
    """Evaluate on a copy of a loader, and put random generators and samplers back.

    Training goes on as if nobody had looked: how often a model is evaluated does not change it.
    """
    with Snapshot(batches, frozen=False):
        return work(twin(batches))


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Measures what is trained, on the whole validation data.

    Attributes:
        models: What to measure, by what its metrics' names begin with.
        validation: Data to evaluate on.
        loss_fn: ``loss_fn(outputs, targets)``.
        metrics: By name; None for those that suit the data.
        processes: Who evaluates together.
        prepare: Applied to each batch's inputs on the device.
    """

    models: Mapping[str, nn.Module]
    validation: Any
    loss_fn: Callable[[Any, Any], torch.Tensor]
    metrics: Metrics | None
    processes: Processes
    prepare: Callable[[Any], Any] | None

    def __call__(self) -> dict[str, float]:
        """Give the loss and the metrics of every model."""
        for model in self.models.values():
            self.processes.align_buffers(model)
        return self._measure(self.loss_fn, self.metrics)

    def rehearse(self) -> dict[str, float]:
        """Evaluate one batch, so that what does not work is heard of before training.

        Leaves no trace, in objects that are called as metrics or loss neither.

        Raises:
            InputError: The loss is not one number, or a metric gives no numbers.
            DataError: There is no batch.
        """
        given = self.metrics
        tried = None if given is None else {n: _tried(n, metric) for n, metric in given.items()}

        def loss_fn(outputs: Any, targets: Any) -> Any:
            loss = self.loss_fn(outputs, targets)
            check_loss(loss, training=False)
            return loss

        with Snapshot(called=(self.loss_fn, *(given or {}).values())):
            return self._measure(loss_fn, tried, most=1)

    def _measure(
        self,
        loss_fn: Callable[[Any, Any], torch.Tensor],
        metrics: Metrics | None,
        most: int | None = None,
    ) -> dict[str, float]:
        found: dict[str, float] = {}
        for prefix, model in self.models.items():
            measure = functools.partial(
                evaluate,
                model,
                loss_fn=loss_fn,
                metrics=metrics,
                processes=self.processes,
                prepare=self.prepare,
                most=most,
            )
            values = without_trace(self.validation, measure)
            found |= {f"{prefix}{name}": value for name, value in values.items()}
        return found


def _tried(name: str, metric: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Have a metric's failure say which one it is of."""

    def call(outputs: Any, targets: Any) -> Any:
        try:
            value = metric(outputs, targets)
        except Exception as error:
            error.add_note(f"This is metrics[{name!r}], tried on one batch before training.")
            raise
        try:
            return torch.as_tensor(value).float()
        except (TypeError, ValueError, RuntimeError) as error:
            constraint = "a number, or one for each example"
            where = f"what metrics[{name!r}] gives"
            raise InputError(complaint(where, constraint, value, "have it return such")) from error

    return call


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Say for each example whether the largest output is the target's."""
    return outputs.argmax(dim=1) == targets


def suited_metrics(outputs: Any, targets: Any) -> Metrics:
    """Choose accuracy for targets that are classes and outputs with a column for each.

    ::

        outputs (n, classes, …), classes ≥ 2;   targets (n, …), whole numbers or booleans

    Anything else has the loss only: one logit, counts, targets that are not numbers.
    """
    if not (isinstance(outputs, torch.Tensor) and isinstance(targets, torch.Tensor)):
        return {}
    whole = not (targets.is_floating_point() or targets.is_complex())
    columns = outputs.dim() >= 2 and outputs.shape[1] >= 2
    fits = columns and targets.shape == (*outputs.shape[:1], *outputs.shape[2:])
    return {"accuracy": accuracy} if whole and fits else {}
