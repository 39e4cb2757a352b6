"""``fit``: run a recipe to its end, on Accelerate, and keep what matters in a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import InputError, complaint
from cyclr.integrations.torch import Scheduler
from cyclr.recipe import Recipe
from cyclr.schedules.fields import Constraint
from cyclr.training.checkpoints import save_checkpoint
from cyclr.training.loop import Loop, default_metrics, evaluate
from cyclr.training.run import Run, RunFolder

Step = Mapping[str, Any]


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    recipe: Recipe,
    *,
    validation: Any = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    accumulate: int = 1,
    max_grad_norm: float | None = None,
    mixed_precision: str = "no",
    folder: RunFolder | str | os.PathLike[str] | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_stopping_point: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Run:
    """Train a model for exactly the steps of a recipe, which end where a cycle ends.

    At every stopping point (each cycle's end, and the end) the model is evaluated and, with a
    folder, a checkpoint is written. Training is in place: afterwards ``model`` is trained.

    Args:
        model: A module with parameters.
        optimizer: Its optimizer; rate, momentum and weight decay are set by the recipe.
        batches: A re-iterable of ``(inputs, targets)`` pairs of tensors, one pass an epoch.
        loss_fn: ``loss_fn(model(inputs), targets)`` gives a scalar tensor.
        recipe: What to run; see :func:`~cyclr.recipe.plan`.
        validation: A re-iterable like batches, evaluated at the stopping points; None for none.
        metrics: ``metric(outputs, targets)`` by name; ``{"accuracy": …}`` when targets are whole
            numbers and this is None.
        accumulate: Micro-batches per update, ≥ 1.
        max_grad_norm: Clip the gradient's norm to this, > 0; None for no clipping.
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``.
        folder: Where to keep the run, a folder that does not exist yet; None to keep nothing.
        on_step: Called with ``{"step": k, "loss": …, "lr": …}`` for every update, a few steps late.
        on_stopping_point: Called with the count of updates and the metrics.

    Raises:
        InputError: An argument breaks its constraint; nothing has been trained.
        DataError: There is no batch.
        TrainingError: The loss became NaN or infinite, or a checkpoint could not be written.
    """
    _check(model, recipe, accumulate, max_grad_norm, mixed_precision)
    home = folder if isinstance(folder, RunFolder) or folder is None else RunFolder(folder)
    accelerator = _accelerator(accumulate, mixed_precision)
    # On the optimizer itself, not on Accelerate's wrapper: it counts the updates really made.
    scheduler = Scheduler(optimizer, recipe)
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    keeper = _Keeper(home, model, optimizer, scheduler, on_step, on_stopping_point)
    loop = Loop(
        accelerator=accelerator,
        model=prepared,
        optimizer=prepared_optimizer,
        scheduler=scheduler,
        batches=batches,
        loss_fn=loss_fn,
        recipe=recipe,
        max_grad_norm=max_grad_norm,
        evaluate=_evaluator(prepared, validation, loss_fn, metrics),
        on_step=keeper.step,
        on_stopping_point=keeper.stopping_point,
    )
    with keeper:
        keeper.run = Run(
            recipe=recipe,
            metrics=loop.run(),
            steps=recipe.total_steps,
            outcome="completed: the recipe's last cycle has ended",
            folder=None if home is None else home.path,
        )
    return keeper.run


class _Keeper:
    """Passes what happens on to the run folder and to the caller."""

    def __init__(
        self,
        home: RunFolder | None,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: Scheduler,
        on_step: Callable[[Step], None] | None,
        on_stopping_point: Callable[[int, Mapping[str, float]], None] | None,
    ) -> None:
        self._home, self._model, self._optimizer = home, model, optimizer
        self._scheduler = scheduler
        self._on_step, self._on_stopping_point = on_step, on_stopping_point
        self.run: Run | None = None

    def step(self, line: Step) -> None:
        if self._home is not None:
            self._home.log(line)
        if self._on_step is not None:
            self._on_step(line)

    def stopping_point(self, step: int, metrics: dict[str, float]) -> None:
        if self._home is not None:
            self._home.log({"step": step, "stopping_point": True, **metrics})
            self._home.flush()
            save_checkpoint(
                self._home.path / "checkpoints",
                step=step,
                model=self._model,
                state={
                    "optimizer": self._optimizer.state_dict(),
                    "scheduler": self._scheduler.state_dict(),
                },
                metrics=metrics,
            )
        if self._on_stopping_point is not None:
            self._on_stopping_point(step, metrics)

    def __enter__(self) -> None:
        if self._home is not None:
            self._home.open(self._scheduler.recipes[0])

    def __exit__(self, *_: object) -> None:
        if self._home is not None:
            self._home.close(self.run)


def _accelerator(accumulate: int, mixed_precision: str) -> Accelerator:
    shared = AcceleratorState._shared_state
    if shared and shared.get("_mixed_precision") != mixed_precision:
        # Accelerate fixes the precision for the life of a process; a second fit may want another.
        AcceleratorState._reset_state()
    return Accelerator(gradient_accumulation_steps=accumulate, mixed_precision=mixed_precision)


def _check(
    model: nn.Module,
    recipe: object,
    accumulate: int,
    max_grad_norm: float | None,
    mixed_precision: str,
) -> None:
    if not isinstance(recipe, Recipe):
        remedy = "make one with cyclr.plan(reading, …) or Recipe(lr=schedule, total_steps=…)"
        raise InputError(complaint("recipe", "a cyclr Recipe", recipe, remedy))
    if next(model.parameters(), None) is None:
        raise InputError("the model has no parameters, so there is nothing to train; pass another")
    Constraint(kind="integer", ge=1).check("accumulate", accumulate)
    Constraint(kind="real", gt=0, optional=True).check("max_grad_norm", max_grad_norm)
    check_precision(mixed_precision)


def check_precision(mixed_precision: str) -> None:
    """Refuse a precision that does not exist, or not on this machine.

    Raises:
        InputError: It is not one of the three, or fp16 without a GPU.
    """
    options = ("no", "fp16", "bf16")
    Constraint(kind="choice", options=options).check("mixed_precision", mixed_precision)
    if mixed_precision == "fp16" and not torch.accelerator.is_available():
        raise InputError("mixed_precision fp16 needs a GPU, and there is none; use bf16 or no")


def _evaluator(
    model: nn.Module,
    validation: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None,
) -> Callable[[], dict[str, float]] | None:
    if validation is None:
        return None
    chosen = default_metrics(validation) if metrics is None else metrics
    return lambda: evaluate(model, validation, loss_fn, chosen)
