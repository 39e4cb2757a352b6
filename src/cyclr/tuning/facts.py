"""What there is to know before anything is trained: of the task, and of weights to start from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclr.errors import CheckpointError, TaskError
from cyclr.experiments.pipeline import Parts, build
from cyclr.experiments.task import Task
from cyclr.training.checkpoints import list_steps, load_weights, read_checkpoint
from cyclr.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What there is to know of a task before anything is trained.

    Attributes:
        name: The task's name.
        source: How it is found, as ``{"task": …, "data_dir": …}``; None for one made in Python.
        examples: In the training data.
        batch_size: The task's own.
        parameters: Of the model.
        weight_layers: Parameters of two or more dimensions.
        optimizer: Its class.
        weight_decay: The optimizer's own, the largest of its groups'; None if it has none.
        momentum: The optimizer's own, or beta1; None if it has none.
        averages: Whether that is a beta1: an average, which leaves the size of steps as it is.
    """

    name: str
    source: Mapping[str, Any] | None
    examples: int
    batch_size: int
    parameters: int
    weight_layers: int
    optimizer: str
    weight_decay: float | None
    momentum: float | None
    averages: bool

    @classmethod
    def of(
        cls,
        task: Task,
        seed: int,
        source: Mapping[str, Any] | None,
        weights: Path | None = None,
    ) -> Facts:
        """Build a task once, and look.

        Args:
            task: The task.
            seed: To build it with.
            source: How it is found.
            weights: A file of weights that must fit it.

        Raises:
            CheckpointError: The weights do not fit.
            TaskError: It cannot be built, or has no validation data.
        """
        if task.validation is None:
            raise TaskError(
                f"task {task.name!r} has no validation data, and trials are judged by their "
                "validation loss; give Task.validation"
            )
        parts = build(task, seed=seed)
        if weights is not None:
            load_weights(parts.model, weights)
        return cls._look(task, parts, source)

    @classmethod
    def _look(cls, task: Task, parts: Parts, source: Mapping[str, Any] | None) -> Facts:
        groups = parts.optimizer.param_groups
        sizes = [p.numel() for p in parts.model.parameters()]
        decays = [float(g["weight_decay"]) for g in groups if "weight_decay" in g]
        data = task.train
        return cls(
            name=task.name,
            source=None if source is None else dict(source),
            examples=len(data[0]) if isinstance(data, tuple) else len(data),
            batch_size=task.batch_size,
            parameters=sum(sizes),
            weight_layers=sum(p.dim() >= 2 for p in parts.model.parameters()),
            optimizer=type(parts.optimizer).__name__,
            weight_decay=max(decays) if len(decays) == len(groups) else None,
            momentum=_own_momentum(groups),
            averages=all("betas" in group for group in groups),
        )

    def updates_per_epoch(self, batch_size: int) -> int:
        """Count the updates of an epoch; a last, smaller batch is left out."""
        return max(1, self.examples // batch_size)


def _own_momentum(groups: Sequence[Mapping[str, Any]]) -> float | None:
    if not all("betas" in group or "momentum" in group for group in groups):
        return None
    group = groups[0]
    return float(group["betas"][0] if "betas" in group else group["momentum"])


def find_weights(place: str | os.PathLike[str]) -> Path:
    """Find the weights to start from: a safetensors file, or a run's folder.

    Of a finished run its recommended model, of any other its last checkpoint's.

    Raises:
        CheckpointError: There are none.
    """
    path = Path(place).resolve()
    if path.is_file() and path.suffix == ".safetensors":
        return path
    if not path.is_dir():
        raise CheckpointError(
            f"cannot start from {place}: it is neither a .safetensors file nor a run's folder"
        )
    if (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    steps = list_steps(path / "checkpoints")
    if (path / "run.json").is_file():
        recommended = Run.load(path).recommended
        steps = steps if recommended is None else [recommended]
    if not steps:
        raise CheckpointError(f"cannot start from {place}: it holds no checkpoint; name another")
    return read_checkpoint(path / "checkpoints" / f"step-{steps[-1]:08d}").path / (
        "model.safetensors"
    )


def digest(path: Path) -> str:
    """Give a file's SHA-256.

    Raises:
        CheckpointError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check the path") from error
