"""Accelerate's trackers: TensorBoard, Weights & Biases, MLflow, and what else it knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from cyclr.errors import InputError, MissingExtraError, complaint

Track = Callable[[Mapping[str, Any], int], None]


def check_trackers(names: Sequence[str], place: object) -> None:
    """Refuse trackers that do not exist, are not installed, or have no place for their files.

    Raises:
        InputError: A name is unknown, or there is no folder.
        MissingExtraError: TensorBoard is not installed.
    """
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    installed = [str(name) for name in get_available_trackers()]
    for name in names:
        if name not in known:
            constraint = "one of " + ", ".join(known)
            raise InputError(complaint("tracker", constraint, name, "pick one"))
        if name not in installed:
            if name == "tensorboard":
                raise MissingExtraError("the tracker tensorboard", "tensorboard", "tracking")
            raise InputError(f"the tracker {name} needs its package, which is not installed")
    if names and place is None:
        raise InputError("trackers need a place for their files; pass folder=… as well")


@contextmanager
def tracking(
    accelerator: Accelerator, names: Sequence[str], place: str | os.PathLike[str] | None
) -> Iterator[Callable[[int, Mapping[str, float]], Track | None]]:
    """Start trackers when training begins, and finish them however it ends.

    Yields:
        ``start(step, metrics)``, which begins at a step, with the evaluation that was made there,
        and gives ``track(values, step)``; None without trackers. What an earlier life of the run
        wrote from that step on is discarded.
    """
    started = False

    def start(step: int, metrics: Mapping[str, float]) -> Track | None:
        nonlocal started
        if not names or place is None:
            return None
        accelerator.log_with = list(names)
        accelerator.project_configuration.set_directories(str(Path(place) / "trackers"))
        options = {"tensorboard": {"purge_step": step}} if step else {}
        accelerator.init_trackers(Path(place).name, init_kwargs=options)
        started = True
        if metrics:  # of the evaluation at that step, which was discarded with the rest
            accelerator.log(dict(metrics), step=step)
        return lambda values, at: accelerator.log(dict(values), step=at)

    try:
        yield start
    finally:
        if started:
            for tracker in accelerator.trackers:
                tracker.finish()
