"""What every rule returns, and what rules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cyclr.errors import RecordError
from cyclr.rangetest.record import VALIDATION_LOSSES, Outcome, RangeRecord

Floats = npt.NDArray[np.float64]

USUAL = 1e-2  # a rate above which even a single update may make a loss explode
_OFTEN = 4.0  # times that a sweep sees its data, from which on it may learn it by heart
_FAINT = 6.0  # deviations of a batch's loss that a fall may be for that to be all of it
STILL_LOW = "The loss was still low at the end"  # how a caveat about that begins
BASE_SHARE = 4.0  # of max_lr, where a rule reads nothing better: arXiv 1506.01186, section 3.3


class Bounds(NamedTuple):
    """A rule's conclusion."""

    base_lr: float
    max_lr: float
    caveats: tuple[str, ...] = ()


class Noise(NamedTuple):
    """How losses scatter around their trend."""

    level: float
    """Median loss of the sweep's first tenth, where the rate is too small to matter."""
    spread: float
    """Standard deviation of a batch's loss, estimated from successive differences."""


def finite_part(record: RangeRecord, *, least: int = 5) -> tuple[Floats, Floats]:
    """Give the rates and losses of the updates whose loss is finite.

    Raises:
        RecordError: There are fewer than ``least``; the message says since when.
    """
    lr, loss = np.asarray(record.lr, dtype=float), np.asarray(record.loss, dtype=float)
    keep = np.isfinite(loss)
    if int(keep.sum()) >= least:
        return lr[keep], loss[keep]
    if len(record) and not keep[0]:
        raise RecordError(
            f"the loss is {record.loss[0]} at the first step, at a rate of {record.lr[0]:g}: "
            "no rate can mend that; check the model, the inputs and the loss function"
        )
    raise RecordError(
        f"the record holds {int(keep.sum())} finite losses and a rule needs {least}; "
        "run the sweep with more steps, or start it lower"
    )


def readable_part(record: RangeRecord) -> tuple[Floats, Floats]:
    """Give the finite part of a record off which a rate can be read.

    Raises:
        RecordError: As :func:`finite_part`; or the losses are all the same; or the sweep diverged
            and its losses have been above the first few ever since.
    """
    lr, loss = finite_part(record)
    if loss.max() == loss.min():
        raise RecordError(
            f"the loss is {loss[0]:g} at every rate: the rate has no effect. See that the loss "
            "depends on the model, and that the optimizer has the model's parameters"
        )
    # Then the level that noise() takes for the start is one of an exploded loss.
    first = max(5, loss.size // 10) // 2
    highest, lowest = np.maximum.accumulate(loss)[:-1], np.minimum.accumulate(loss[::-1])[-2::-1]
    above = (highest < lowest)[:first]
    if record.outcome is Outcome.NON_FINITE and loss.size < len(record) and above.any():
        raise RecordError(_broke_off(record))
    if record.outcome in (Outcome.DIVERGED, Outcome.NON_FINITE) and above.any():
        raise RecordError(
            f"the loss rose from the first steps, at rates of {lr[0]:.3g} to {lr[first]:.3g}, and "
            "never came down: the sweep began beyond divergence. Lower start_lr, or end_lr where "
            "the rate rises linearly"
        )
    return lr, loss


def noise(loss: Floats) -> Noise:
    """Estimate where the losses start and how they scatter."""
    head = loss[: max(5, loss.size // 10)]
    scale = 1.4826 / np.sqrt(2)
    # Over the whole sweep: ten differences say little, and the median ignores an exploding end.
    spread = float(scale * np.median(np.abs(np.diff(loss))))
    # Rounded losses, and shares of few examples, often do not differ at all from one to the next.
    return Noise(float(np.median(head)), max(spread, least_step(loss)))


def least_step(loss: Floats) -> float:
    """Find the smallest difference between losses that differ; 0 if none do."""
    steps = np.diff(np.unique(loss))
    return float(steps.min()) if steps.size else 0.0


@np.errstate(over="ignore")  # losses near the largest number
def running_mean(values: Any, width: int) -> Floats:
    """Average over a centred window of odd width, shorter at the ends: no lag."""
    series = np.asarray(values, dtype=float)
    half = min(width // 2, (series.size - 1) // 2)
    # Window by window: in differences of cumulative sums one huge value would spoil all after it.
    windows = np.lib.stride_tricks.sliding_window_view(series, 2 * half + 1)
    mean = np.empty_like(series)
    mean[half : series.size - half] = windows.mean(axis=1)
    for reach in range(half):
        mean[reach] = series[: 2 * reach + 1].mean()
        mean[series.size - 1 - reach] = series[series.size - 1 - 2 * reach :].mean()
    return mean


def under_sgd(optimizer: Mapping[str, Any]) -> bool:
    """Say whether the optimizer is SGD, whose rates have a limit that the loss explodes at.

    Optimizers that divide by the gradient's size move as far at any loss: they do not explode but
    drift away, at rates that depend on how long they have been at it.
    """
    return str(optimizer.get("name", "")).lower() == "sgd"


def doubts(record: RangeRecord, loss: Floats, top: int) -> tuple[str, ...]:
    """Say in words what makes a conclusion from the losses doubtful.

    Args:
        record: What the sweep saw.
        loss: Its finite losses.
        top: Index of the largest rate that the rule considers good.
    """
    found = []
    level, spread = noise(loss)
    width = max(3, loss.size // 10) | 1
    # Away from the ends, where the average is of fewer losses and noisier.
    inside = running_mean(loss, width)[width // 2 : loss.size - width // 2]
    fall = level - float(inside.min())
    unclear = fall <= 5 * spread / np.sqrt(width)
    if unclear and record.outcome is Outcome.NON_FINITE:
        found.append(_broke_off(record))
    elif unclear:
        found.append(
            "The loss never fell clearly below where it began: the record is flat or too noisy to "
            "support a conclusion. Use more steps, a wider range or a larger batch."
        )
    elif record.outcome is Outcome.COMPLETED and top >= loss.size - max(2, loss.size // 20):
        found.append(_still_low(record))
    elif fall < _FAINT * spread and record.passes >= _OFTEN:
        measured = [name for name in VALIDATION_LOSSES if name in record.metrics]
        remedy = f"Read {measured[0]}" if measured else "Measure a validation loss, and read that"
        found.append(
            f"The sweep went {record.passes:.0f} times through its data, and the loss fell by "
            f"only {fall / spread:.1f} of its own deviations: it may show what the net learns by "
            f"heart, at rates that serve new data badly. {remedy}."
        )
    if record.outcome is not Outcome.COMPLETED and loss.size < 15:
        found.append(
            f"The sweep ended after {len(record)} steps: it began too close to divergence. "
            "Lower start_lr."
        )
    return tuple(found)


def _still_low(record: RangeRecord) -> str:
    """Say what it means that a loss stays low to the end of the sweep."""
    if not record.scout.lr:
        return f"{STILL_LOW} of the sweep: a higher rate may be better. Sweep to a higher end_lr."
    times = record.lr[-1] / record.scout.lr[-1]
    if times < 1:
        return (
            f"{STILL_LOW}, at {record.lr[-1]:.3g}, where the steps ran out: a higher rate may be "
            "better. Take more steps, or a sweep of your own."
        )
    return (
        f"{STILL_LOW}, at {times:.1f} times the rate at which a scout saw it diverge: the net may "
        "have learned these batches by heart, or may stand more. Sweep with more data, or compare "
        "rates by cyclr tune."
    )


def _broke_off(record: RangeRecord) -> str:
    """Say where a loss stopped being finite although the rate had not moved it yet."""
    step = next((i for i, loss in enumerate(record.loss) if not np.isfinite(loss)), None)
    if step is None:  # another metric's series, which ended with the loss
        return (
            "The loss became NaN or infinite before this metric had moved clearly. Read the loss, "
            "or sweep with more steps."
        )
    why = f" {record.notes[-1]}" if record.notes else ""
    what = (
        f"The loss became {record.loss[step]} at step {step}, at a rate of {record.lr[step]:.3g}, "
        "before it had moved: "
    )
    if record.lr[step] > USUAL:
        return f"{what}it may have exploded within an update. Sweep with more steps.{why}"
    return (
        f"{what}rather the fault of that batch, or of the model, than of the rate. "
        f"Look at it, or sweep with other batches.{why}"
    )
