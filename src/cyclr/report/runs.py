"""What a run's log holds, as curves over steps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cyclr.report.terminal import chart
from cyclr.training.run import read_metrics
from cyclr.tuning.words import fit_words

_POINTS = 400  # as many as a terminal can show
_FAR = 10


@dataclass(frozen=True, kw_only=True)
class Curves:
    """The curves of a run.

    Attributes:
        trained: The lines of its updates.
        evaluations: The lines of its evaluations, at stopping points and between.
        probes: The lines of its probes, a part of ``trained``.
        ends: Counts of updates at the stopping points reached.
    """

    trained: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]
    probes: Sequence[Mapping[str, Any]]
    ends: Sequence[int]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Curves:
        """Read a run's log.

        Raises:
            RecordError: The folder is not a run's, or the log is damaged.
        """
        lines = read_metrics(folder)
        trained = [line for line in lines if "loss" in line]
        return cls(
            trained=trained,
            evaluations=[line for line in lines if "val_loss" in line],
            probes=[line for line in trained if "optimal_lr" in line],
            ends=[line["step"] for line in lines if line.get("stopping_point")],
        )

    def series(self, name: str) -> tuple[Any, Any]:
        """Give the steps at which something was logged, and its values."""
        for lines in (self.trained, self.evaluations):
            having = [line for line in lines if name in line]
            if having:
                steps = np.array([line["step"] for line in having])
                return steps, np.array([line[name] for line in having], dtype=float)
        return np.array([], dtype=int), np.array([])

    def smoothed(self, name: str) -> tuple[Any, Any]:
        """Give a centred running mean over a fiftieth of the values; empty for short runs."""
        steps, values = self.series(name)
        width = max(1, len(values) // 50)
        if len(values) <= 2 * width:
            return steps[:0], values[:0]
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        return steps[width // 2 :][: len(smooth)], smooth


_TOLERANCE = 0.05  # share of a validation loss by which it has clearly risen or fallen


def evaluation_at(folder: str | os.PathLike[str], step: int | None) -> dict[str, float]:
    """Give the metrics of the evaluation made after so many updates; empty if there was none."""
    for line in Curves.read(folder).evaluations:
        if line["step"] == step:
            return {k: v for k, v in line.items() if k.startswith("val_")}
    return {}


def signs_of_fit(folder: str | os.PathLike[str]) -> str:
    """Say what a run's losses show of under- or overfitting; empty where too little was measured.

    Args:
        folder: The run's folder.

    Reference: arXiv 1803.09820, section 3.
    """
    curves = Curves.read(folder)
    steps, losses = _finite(*curves.series("val_loss"))
    at, trained = _finite(*_smooth_or_raw(curves))
    if not at.size:
        return ""
    return fit_words(
        [
            {"step": step, "val_loss": loss, "loss": float(np.interp(step, at, trained))}
            for step, loss in zip(steps.tolist(), losses.tolist(), strict=True)
        ],
        _TOLERANCE,
    )


def run_chart(folder: str | os.PathLike[str], *, width: int = 64) -> str:
    """Draw loss, accuracy and rate of a run in the terminal, with pointers at the cycle ends.

    Args:
        folder: The run's folder, of a finished or an unfinished run.
        width: Characters across, ≥ 16.

    Raises:
        RecordError: The folder is not a run's, or nothing has been logged in it yet.
    """
    from cyclr.errors import RecordError

    curves = Curves.read(folder)
    if not curves.trained:
        raise RecordError(f"{Path(folder)} holds no training yet: its log has no update in it")
    last = curves.trained[-1]["step"]
    at = np.linspace(0, last, min(last + 1, _POINTS))
    name, loss = _scaled(_sampled(*_finite(*_smooth_or_raw(curves)), at))
    drawn = {name: {"": loss}}
    steps, accuracy = _finite(*curves.series("val_accuracy"))
    if accuracy.size:
        drawn["val_accuracy"] = {"": _sampled(steps, accuracy, at)}
    drawn["lr"] = {"": _sampled(*curves.series("lr"), at)}
    return chart(drawn, x_max=last, width=width, marks=[min(end, last) for end in curves.ends])


def _smooth_or_raw(curves: Curves) -> tuple[Any, Any]:
    steps, smooth = curves.smoothed("loss")
    return (steps, smooth) if smooth.size else curves.series("loss")


def _scaled(loss: Any) -> tuple[str, Any]:
    """Take the logarithm of a loss that falls far, which would be a flat line otherwise."""
    if loss.min() > 0 and loss.max() > _FAR * loss.min():
        return "log10 of the loss", np.log10(loss)
    return "loss", loss


def _finite(steps: Any, values: Any) -> tuple[Any, Any]:
    kept = np.isfinite(values)
    return steps[kept], values[kept]


def _sampled(steps: Any, values: Any, at: Any) -> Any:
    return np.interp(at, steps, values) if values.size else np.zeros(at.shape)
