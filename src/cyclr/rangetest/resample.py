"""How far a rule's bounds would move if the batches had been others: a bootstrap of one record."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cyclr.errors import RecordError
from cyclr.rangetest.record import RangeRecord, Series
from cyclr.rangetest.rules import Bounds
from cyclr.rangetest.rules.bounds import Floats, running_mean
from cyclr.rangetest.way_back import Leg

_WIDTH = 0.05  # share of the record over which its trend is averaged
_AROUND = 3  # losses on either side that one is compared with, to see whether it is a spike
_SPIKE = 10.0  # robust deviations of those that make it one
_LEAST = 9  # values below which there is no telling noise from trend
_LEAST_BACK = 5  # … on the way back, which is read by averages of five


def resampled(
    record: RangeRecord, rule: Callable[[RangeRecord], Bounds], *, count: int = 100
) -> list[Bounds]:
    """Apply a rule to copies of a record whose noise has been drawn anew.

    The trend is a centred average, which does not lag. What is left of each loss is added to it
    again with a random sign (a wild bootstrap, which leaves noise as large as it is where it is:
    small at the start, large where the loss explodes)::

        loss*[k] = trend[k] ± √(w / (w − 1)) (loss[k] − trend[k])      w losses in the average

    Metrics and the way back are treated in the same way. The signs come from a fixed seed: the same
    record gives the same bounds.

    Args:
        record: One sweep; its repeats are not looked at.
        rule: Any rule.
        count: How many copies, ≥ 1.

    Returns:
        The bounds from the copies on which the rule came to a conclusion; at most ``count``.

    Reference: C. F. J. Wu, Jackknife, bootstrap and other resampling methods in regression
    analysis, Annals of Statistics 14 (1986).
    """
    rng = np.random.default_rng(0)
    redraw = _redraw(record.loss)
    back = _redraw(record.way_back.loss, least=_LEAST_BACK)
    metrics = {name: _redraw(series.values) for name, series in record.metrics.items()}
    found = []
    for _ in range(count):
        copy = dataclasses.replace(
            record,
            loss=redraw(rng),
            metrics={
                name: Series(record.metrics[name].steps, draw(rng))
                for name, draw in metrics.items()
            },
            way_back=Leg(record.way_back.lr, back(rng)),
            repeats=(),
        )
        try:
            bounds = rule(copy)
        except RecordError:
            continue
        if (
            min(bounds.base_lr, bounds.max_lr) > 0
        ):  # a linear sweep may be read at its first rate, 0
            found.append(bounds)
    return found


def middle(values: Sequence[float], coverage: float = 0.8) -> tuple[float, float]:
    """Give the quantiles between which the middle share of positive values lies, in logarithms."""
    rest = (1 - coverage) / 2
    low, high = np.exp(np.quantile(np.log(values), [rest, 1 - rest]))
    return float(low), float(high)


def _redraw(
    values: Sequence[float], least: int = _LEAST
) -> Callable[[np.random.Generator], tuple[float, ...]]:
    """Split values into trend and noise once; the function puts them together anew."""
    raw = np.asarray(values, dtype=float)
    finite = np.isfinite(raw)
    if int(finite.sum()) < least:
        return lambda _: tuple(values)
    trend, rest = raw.copy(), np.zeros_like(raw)
    trend[finite], rest[finite] = _split(raw[finite])

    def draw(rng: np.random.Generator) -> tuple[float, ...]:
        return tuple((trend + rest * rng.choice((-1.0, 1.0), raw.size)).tolist())

    return draw


def _split(loss: Floats) -> tuple[Floats, Floats]:
    """Split losses into trend and noise; a spike is neither, and stays where it is."""
    calm, spikes = _without_spikes(loss)
    trend, rest = _parts(calm)
    return np.where(spikes, loss, trend), np.where(spikes, 0.0, rest)


def _without_spikes(loss: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Put the median of the seven around it in the place of what stands out from them."""
    padded = np.pad(loss, _AROUND, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1)
    typical = np.median(windows, axis=1)
    scatter = np.median(np.abs(windows - typical[:, None]), axis=1)
    spikes = np.abs(loss - typical) > _SPIKE * 1.4826 * scatter
    # Without any scatter around it everything would stand out, as in a record without noise.
    spikes &= scatter > 0
    return np.where(spikes, typical, loss), spikes


def _parts(loss: Floats) -> tuple[Floats, Floats]:
    width = max(3, round(_WIDTH * loss.size)) | 1
    index = np.arange(loss.size)
    # The average shrinks at the ends, down to the very first and last loss alone.
    reach = np.minimum(width // 2, np.minimum(index, loss.size - 1 - index))
    size = 2 * reach + 1
    trend = running_mean(loss, width)
    scale = np.sqrt(size / np.maximum(size - 1, 1))
    return trend, (loss - trend) * scale
