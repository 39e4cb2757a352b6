"""The training loop, to be read from top to bottom: forward, backward, update, look."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from cyclr.errors import DataError, TrainingError
from cyclr.integrations.torch import Scheduler
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.integrations.torch.modes import evaluating
from cyclr.recipe import Recipe

_FORM = "make the loader give pairs"
_LOOK_EVERY = 20  # steps between reads of the loss: each read waits for the device


@dataclass(kw_only=True)
class Loop:
    """What the loop works with, already prepared by Accelerate.

    Attributes:
        accelerator: Devices, precision, accumulation.
        model: The prepared model.
        optimizer: The prepared optimizer.
        scheduler: On the optimizer itself.
        batches: Re-iterable training batches of ``(inputs, targets)``.
        loss_fn: ``loss_fn(outputs, targets)``.
        recipe: How many steps, and where the stopping points are.
        max_grad_norm: Clip the gradient's norm to this; None for no clipping.
        evaluate: Gives metrics of the model; None for no evaluation.
        on_step: Called with ``{"step", "loss", "lr", …}`` of every update, in order.
        on_stopping_point: Called with the count of updates and the metrics there.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    scheduler: Scheduler
    batches: Any
    loss_fn: Callable[[Any, Any], torch.Tensor]
    recipe: Recipe
    max_grad_norm: float | None = None
    evaluate: Callable[[], dict[str, float]] | None = None
    on_step: Callable[[Mapping[str, Any]], None]
    on_stopping_point: Callable[[int, dict[str, float]], None]
    _pending: list[tuple[int, torch.Tensor]] = field(default_factory=list)

    def run(self) -> dict[str, float]:
        """Train for the recipe's steps; give the metrics at the last stopping point.

        Raises:
            DataError: There is no batch.
            TrainingError: The loss became NaN or infinite.
        """
        stops = set(self.recipe.stopping_points)
        metrics: dict[str, float] = {}
        stream = self._stream()
        micro_batches = self.accelerator.gradient_accumulation_steps
        self.model.train()
        for step in range(self.recipe.total_steps):
            total = torch.zeros((), device=self.accelerator.device)
            for _ in range(micro_batches):
                inputs, targets = next(stream)
                with self.accelerator.accumulate(self.model):
                    with self.accelerator.autocast():
                        loss = self.loss_fn(self.model(inputs), targets)
                    self.accelerator.backward(loss)
                    if self.accelerator.sync_gradients and self.max_grad_norm is not None:
                        self.accelerator.clip_grad_norm_(
                            self.model.parameters(), self.max_grad_norm
                        )
                    self.optimizer.step()
                    self.optimizer.zero_grad()
                total += loss.detach() / micro_batches
            self.scheduler.step()
            self._pending.append((step, total))
            done = step + 1
            if len(self._pending) >= _LOOK_EVERY or done in stops:
                self._look()
            if done in stops:
                metrics = {} if self.evaluate is None else self.evaluate()
                self.on_stopping_point(done, metrics)
        return metrics

    def _look(self) -> None:
        """Read the pending losses off the device, report them, and stop if one is not finite."""
        for step, loss in self._pending:
            number = float(loss)
            values = self.recipe.values(step)
            self.on_step({"step": step, "loss": number, **values})
            if not math.isfinite(number):
                self._pending.clear()
                where = "from the first step" if step == 0 else f"at step {step}"
                remedy = (
                    "check the model, the inputs and the loss function"
                    if step == 0
                    else "lower max_lr, or clip the gradient with max_grad_norm"
                )
                raise TrainingError(
                    f"the loss is {number} {where}, at a rate of {values['lr']:g}; {remedy}"
                )
        self._pending.clear()

    def _stream(self) -> Iterator[tuple[Any, Any]]:
        """Go round and round the training data, on the right device."""
        device = self.accelerator.device
        while True:
            empty = True
            for batch in self.batches:
                empty = False
                yield to_device(pair(batch, remedy=_FORM), device)
            if empty:
                raise DataError("the training data is empty: there is not a single batch")


def evaluate(
    model: nn.Module,
    batches: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    metrics: Mapping[str, Callable[[Any, Any], Any]],
) -> dict[str, float]:
    """Average the loss and the metrics over a data set, in eval mode.

    Args:
        model: Left in the mode it was in.
        batches: Iterable of ``(inputs, targets)``.
        loss_fn: ``loss_fn(outputs, targets)``, a mean over the batch.
        metrics: By name, ``metric(outputs, targets)``: one number, or one per example.

    Returns:
        ``val_loss`` and ``val_<name>`` for each metric.

    Raises:
        DataError: There is no batch.
    """
    device = next(model.parameters()).device
    sums = dict.fromkeys(("loss", *metrics), 0.0)
    count = 0
    with evaluating(model):
        for batch in batches:
            inputs, moved = to_device(pair(batch, remedy=_FORM), device)
            outputs = model(inputs)
            n = len(moved)
            count += n
            sums["loss"] += float(loss_fn(outputs, moved)) * n
            for name, metric in metrics.items():
                sums[name] += float(torch.as_tensor(metric(outputs, moved)).float().mean()) * n
    if count == 0:
        raise DataError("the validation data is empty: there is not a single batch")
    return {f"val_{name}": total / count for name, total in sums.items()}


def accuracy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Say for each example whether the largest output is the target's."""
    return outputs.argmax(dim=1) == targets


def default_metrics(batches: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Choose accuracy when the targets are whole numbers, and nothing otherwise.

    Raises:
        DataError: There is no batch to look at.
    """
    first = next(iter(batches), None)
    if first is None:
        raise DataError("the validation data is empty: there is not a single batch")
    _, targets = pair(first, remedy=_FORM)
    whole = not (targets.is_floating_point() or targets.is_complex())
    return {"accuracy": accuracy} if whole else {}
