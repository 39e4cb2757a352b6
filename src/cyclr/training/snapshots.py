"""Snapshots: the models of a run's cycle ends, and what they give together."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn

from cyclr.errors import CheckpointError, InputError
from cyclr.integrations.torch import Snapshot
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.training.checkpoints import Checkpoint, list_steps, load_weights, read_checkpoint
from cyclr.training.evaluation import Metrics, evaluate

_FORM = "make the loader give pairs"


def cycle_ends(folder: str | os.PathLike[str], *, last: int | None = None) -> list[Checkpoint]:
    """List the checkpoints of a run's cycle ends, the earliest first.

    Args:
        folder: The run's folder.
        last: Only so many of the last ones, ≥ 1; None for all.

    Raises:
        CheckpointError: There is none, or one is damaged.
    """
    place = Path(folder) / "checkpoints"
    paths = [place / f"step-{step:08d}" for step in list_steps(place)]
    # Others may be damaged and have been left as they are.
    found = [read_checkpoint(path, if_cycle_end=True) for path in paths]
    ends = [checkpoint for checkpoint in found if checkpoint.cycle_end]
    if not ends:
        raise CheckpointError(
            f"{folder} holds no model of a cycle's end; train with snapshots to keep them"
        )
    return ends if last is None else ends[-last:]


class Ensemble(nn.Module):
    """Several models whose predictions are averaged.

    For whole-number targets (classes) and a logit for each, probabilities are averaged, and their
    logarithm is given: for cross entropy that is as good as logits. Otherwise outputs are averaged,
    a single logit too.

    Args:
        models: At least one, of the same form.
        probabilities: Whether outputs of two columns and more are logits along axis 1, of which the
            probabilities are averaged.
    """

    def __init__(self, models: list[nn.Module], *, probabilities: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(models)
        self._probabilities = probabilities

    def forward(self, inputs: Any) -> torch.Tensor:
        """Average the members' predictions."""
        outputs = [member(inputs) for member in self.members]
        if not all(isinstance(output, torch.Tensor) for output in outputs):
            raise InputError(
                f"the models' predictions must be tensors to be averaged, got "
                f"{type(outputs[0]).__name__}; use average() alone, or train without snapshots"
            )
        columns = all(output.dim() >= 2 and output.shape[1] >= 2 for output in outputs)
        if not (self._probabilities and columns):
            return torch.stack(outputs).mean(0)
        logs = torch.stack([output.log_softmax(1) for output in outputs])
        return torch.logsumexp(logs, 0) - torch.log(torch.tensor(float(len(outputs))))


def ensemble(
    folder: str | os.PathLike[str],
    model: nn.Module,
    batches: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    *,
    metrics: Metrics | None = None,
    last: int | None = None,
) -> dict[str, float]:
    """Measure the averaged prediction of the models of a run's cycle ends.

    Args:
        folder: The run's folder, trained with snapshots.
        model: A model of the same form; left as it is.
        batches: Iterable of ``(inputs, targets)`` to measure on.
        loss_fn: ``loss_fn(outputs, targets)``.
        metrics: As for :func:`~cyclr.training.fit`.
        last: Only so many of the last cycles; None for all.

    Returns:
        ``val_loss`` and ``val_<name>`` for each metric.

    Raises:
        CheckpointError: There are no such models, or they do not fit.

    Reference: arXiv 1608.03983, Table 2 (snapshot ensembles).
    """
    members = [_loaded(model, checkpoint) for checkpoint in cycle_ends(folder, last=last)]
    together = Ensemble(members, probabilities=_classes(batches))
    with Snapshot(batches):
        return evaluate(together, batches, loss_fn, metrics)


def average(
    folder: str | os.PathLike[str],
    model: nn.Module,
    batches: Any,
    *,
    last: int | None = None,
) -> nn.Module:
    """Average the weights of the models of a run's cycle ends, and recalibrate BatchNorm.

    Averaged weights have other activations than any of the models, so BatchNorm's statistics are
    taken anew in one pass over the training data.

    Args:
        folder: The run's folder, trained with snapshots.
        model: A model of the same form; left as it is.
        batches: Iterable of ``(inputs, targets)`` of training data.
        last: Only so many of the last cycles; None for all.

    Returns:
        A model of the same form, with the averaged weights.

    Raises:
        CheckpointError: There are no such models, or they do not fit.

    Reference: stochastic weight averaging, arXiv 1803.05407.
    """
    mean: AveragedModel | None = None
    for checkpoint in cycle_ends(folder, last=last):
        member = _loaded(model, checkpoint)
        mean = AveragedModel(member) if mean is None else mean
        mean.update_parameters(member)
    assert mean is not None
    device = next(model.parameters()).device
    with Snapshot(batches), torch.no_grad():
        # Moved here: torch's function knows tensors only.
        inputs = (to_device(pair(batch, remedy=_FORM)[0], device) for batch in batches)
        update_bn(inputs, mean)
    averaged: nn.Module = mean.module
    return averaged


def summarize(
    folder: Path,
    model: nn.Module,
    batches: Any,
    validation: Any,
    loss_fn: Callable[[Any, Any], torch.Tensor],
    metrics: Metrics | None,
) -> dict[str, Any]:
    """Measure the last model, the ensemble and the averaged weights; keep the latter.

    Returns:
        The steps of the models, and the metrics of ``last``, ``ensemble`` and ``averaged``; only
        the steps without validation data.
    """
    ends = cycle_ends(folder)
    averaged = average(folder, model, batches)
    target = folder / "averaged"
    target.mkdir(exist_ok=True)
    save_model(averaged, str(target / "model.safetensors"))
    found: dict[str, Any] = {"steps": [checkpoint.step for checkpoint in ends]}
    if validation is not None:
        with Snapshot(validation):
            last = evaluate(_loaded(model, ends[-1]), validation, loss_fn, metrics)
            mean = evaluate(averaged, validation, loss_fn, metrics)
        found |= {"last": last, "averaged": mean}
        try:
            found["ensemble"] = ensemble(folder, model, validation, loss_fn, metrics=metrics)
        except InputError as error:  # the training is done, and not to be lost for this
            warnings.warn(f"there is no ensemble: {error}", stacklevel=2)
    return found


def _loaded(model: nn.Module, checkpoint: Checkpoint) -> nn.Module:
    member = copy.deepcopy(model)
    load_weights(member, checkpoint.path / "model.safetensors")
    return member


def _classes(batches: Any) -> bool:
    """Whether the targets are whole numbers."""
    with Snapshot(batches):
        _, targets = pair(next(iter(batches)), remedy=_FORM)
    tensors = isinstance(targets, torch.Tensor)
    return tensors and not (targets.is_floating_point() or targets.is_complex())
