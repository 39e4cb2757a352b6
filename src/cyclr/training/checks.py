"""What ``fit`` demands of what it is given: looked at before anything is trained or written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from cyclr.errors import DataError, InputError, complaint
from cyclr.integrations.torch.checks import check_training
from cyclr.integrations.torch.groups import wrapped
from cyclr.integrations.torch.steps import needs_closure
from cyclr.recipe import Recipe
from cyclr.training.assembly import Work
from cyclr.training.decisions import check_direction, monitored
from cyclr.training.evaluation import Evaluator
from cyclr.training.settings import Settings


def check_work(work: Work) -> None:
    """Refuse what cannot be trained, or would not be.

    Raises:
        InputError: Model, optimizer, loss, metrics or recipe are not what they must be, or the
            optimizer is another model's.
        DataError: The data is none, or can be gone through only once.
    """
    _check_recipe(work.recipe)
    check_training([work.model], [work.optimizer])
    check_optimizer(work.optimizer)
    _check_data("batches", work.batches)
    if work.validation is not None:
        _check_data("validation", work.validation)
    _check_loss_fn(work.loss_fn)
    _check_metrics(work.metrics)


def check_extra_state(model: nn.Module) -> None:
    """Refuse extra state that checkpoints, which are of tensors, cannot hold.

    Raises:
        InputError: A part's extra state is something else.
    """
    for name, part in model.named_modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            state = part.get_extra_state()
            if not isinstance(state, torch.Tensor):
                raise InputError(
                    f"{type(part).__name__} ({name or 'the model itself'}) gives "
                    f"{type(state).__name__} as its extra state, and checkpoints hold tensors; "
                    "make it a tensor, or a buffer"
                )


def check_optimizer(optimizer: Optimizer) -> None:
    """Refuse an optimizer that evaluates the loss itself: the loop evaluates it once an update.

    Raises:
        InputError: Its step cannot be made without a closure.
    """
    inner = wrapped(optimizer)
    if needs_closure(inner):
        raise InputError(
            f"{type(inner).__name__} evaluates the loss itself, several times an update, and fit "
            "does so once; train with another optimizer, such as SGD or AdamW, or in a loop of "
            "your own with cyclr.integrations.torch.Scheduler"
        )


def check_monitor(work: Work, settings: Settings) -> None:
    """Refuse to monitor what nothing measures.

    Raises:
        InputError: A metric is to be monitored, and there is no validation data, or which way it is
            better is not known.
    """
    if settings.monitor is not None and work.validation is None:
        raise InputError(
            f"monitor {settings.monitor!r} is measured on validation data, and there is none; "
            "pass validation=…, or leave out monitor"
        )
    if settings.monitor is not None:
        check_direction(settings.monitor)


def try_evaluation(evaluate: Evaluator | None, settings: Settings) -> None:
    """Evaluate one batch before training, which may take days until the first evaluation.

    Raises:
        InputError: The loss is not one number, a metric gives no numbers, or the one that is to be
            monitored is not measured.
        DataError: There is no batch, or it is not a pair.
    """
    if evaluate is not None:
        monitored(settings.monitor, evaluate.rehearse())


def _check_recipe(recipe: object) -> None:
    if not isinstance(recipe, Recipe):
        remedy = "make one with cyclr.plan(reading, …) or Recipe(lr=schedule, total_steps=…)"
        raise InputError(complaint("recipe", "a cyclr Recipe", recipe, remedy))


def _check_data(name: str, data: Any) -> None:
    if hasattr(data, "__next__"):
        raise DataError(
            f"{name} is an iterator, which can be gone through only once; pass what it was made "
            "from, such as the data loader or a list"
        )
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise DataError(complaint(name, "re-iterable", data, "pass a data loader or a list"))


def _check_loss_fn(loss_fn: Any) -> None:
    if isinstance(loss_fn, type) and issubclass(loss_fn, nn.Module):
        raise InputError(f"loss_fn is a class; pass what it makes, {loss_fn.__name__}()")
    if not callable(loss_fn):
        remedy = "pass one, such as torch.nn.functional.cross_entropy"
        raise InputError(complaint("loss_fn", "a function (outputs, targets)", loss_fn, remedy))


def _check_metrics(metrics: Any) -> None:
    if metrics is None:
        return
    remedy = 'pass such as {"accuracy": function}'
    if not isinstance(metrics, Mapping):
        raise InputError(complaint("metrics", "a dict of functions by name", metrics, remedy))
    for name, metric in metrics.items():
        if not isinstance(name, str):
            raise InputError(complaint("a name in metrics", "a string", name, remedy))
        if name == "loss":
            raise InputError('a metric named "loss" would stand for the loss; name it otherwise')
        if not callable(metric):
            where = f"metrics[{name!r}]"
            raise InputError(complaint(where, "a function (outputs, targets)", metric, remedy))
