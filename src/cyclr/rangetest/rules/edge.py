"""The default after a scout: below the rate at which the loss leaves its low stretch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from cyclr.rangetest import divergence
from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.bounds import (
    Bounds,
    Floats,
    doubts,
    least_step,
    noise,
    readable_part,
    running_mean,
    under_sgd,
)

_WIDTH = 0.07  # share of the losses that the zero-lag average spans
_WATCH = 3  # losses in the medians that show how far the loss fell
_SAME = 0.05  # share of the fall by which the average may lie above its lowest
_ERRORS = 2.5  # … or so many of its standard errors
_CAP = 2.0  # falls above the lowest beyond which a loss counts no more
_MARGIN = 2.75  # from the edge to the peak that a run can be trusted with, under SGD
_USUAL_MOMENTUM = 0.9  # … with this momentum, which is assumed where none is told
_WIDE_MARGIN = 5.0  # … and from the last edge, under optimizers that drift away
_FALLEN = 1.5  # deviations of a batch's loss that the lowest median lies below the start if it fell
_STARTED = 0.1  # share of the fall by which the loss has begun to move
_NEAREST, _FARTHEST = 3.0, 10.0  # max_lr / base_lr stays between these


class Edge(NamedTuple):
    """Where the averaged loss is low.

    Attributes:
        top: Last update before the average first leaves its low stretch.
        last: Last update at which it is as low again, later on.
        moves: First update at which it has fallen clearly; None if it never has.
        fell: Whether the loss fell at all.
    """

    top: int
    last: int
    moves: int | None
    fell: bool


def edge(record: RangeRecord) -> Bounds:
    """Read max_lr off where the loss stops being low, base_lr where it begins to fall.

    For a slow sweep, thirty updates to a decade, as SGD gets it after a scout: there the loss stays
    low up to a rate at which it explodes, or jumps about. Under optimizers that divide by the
    gradient's size, whose slow sweeps confirm a reading, it wavers before it drifts away, and where
    it is low for the last time says more. With the losses averaged over a centred
    window (no lag) of w (7 % of them, odd, at least 3), their noise σ estimated from the first
    half's successive differences, and cut off at twice their fall above the lowest::

        edge    = last rate before the average, after its lowest value, first exceeds that by
                  5 % of the fall and by 2.5 σ/√w; if lower, where the rise begins that goes on
                  without a break to the last loss
        last    = last rate of all at which it does not
        max_lr  = edge / margin under SGD, last / 5 otherwise; undivided if the loss never fell by
                  1.5 σ
        margin  = 2.75 · (1 + momentum) / 1.9: 2.75 with a momentum of .9, or if the record does
                  not say which; 1.45 without any
        base_lr = the first rate at which the average has fallen by 10 % of the fall and by
                  2.5 σ/√w, kept between max_lr / 10 and max_lr / 3

    where the fall is from the start (median of the first tenth) to the lowest median of three, and
    at least 2 σ. A loss that did not fall shows only where rates do harm: below that, a net that is
    trained already goes on best at the highest rate that does none. And a loss without noise may
    have fallen so low that it takes many updates to explode: it has been rising all the while.
    The margin was measured without momentum and at .9; in between it goes as the limit
    2 (1 + momentum) / λ that SGD has on a quadratic of curvature λ.

    Raises:
        RecordError: Fewer than five losses are finite.

    Reference: arXiv 1506.01186, section 3.3, for what to look for; the arithmetic is ours.
    """
    lr, loss = readable_part(record)
    found = find_edge(loss)
    sgd = under_sgd(record.optimizer)
    top, below = (found.top, margin(record.optimizer)) if sgd else (found.last, _WIDE_MARGIN)
    max_lr = float(lr[top]) / (below if found.fell else 1.0)
    started = float(lr[found.moves]) if found.moves is not None else max_lr
    base_lr = float(np.clip(started, max_lr / _FARTHEST, max_lr / _NEAREST))
    return Bounds(base_lr, max_lr, doubts(record, loss, top))


def margin(optimizer: Mapping[str, Any]) -> float:
    """Give the margin below the edge under SGD, from what the sweep ran with."""
    told = optimizer.get("momentum")
    momentum = _USUAL_MOMENTUM if told is None else float(told)
    return _MARGIN * (1 + momentum) / (1 + _USUAL_MOMENTUM)


@np.errstate(over="ignore")  # losses near the largest number
def find_edge(loss: Floats) -> Edge:
    """Find where a loss is low, by the indices of its updates."""
    width = max(3, round(_WIDTH * loss.size)) | 1
    level = noise(loss).level
    # Of the first half: near its end a slow sweep is ragged, and that is no noise of batches.
    spread = max(divergence.noise(loss[: max(8, loss.size // 2)]), least_step(loss))
    lowest = float(divergence.medians(loss, _WATCH).min())
    fall = max(level - lowest, 2 * spread)
    smooth = running_mean(np.minimum(loss, lowest + _CAP * fall), width)
    tolerance = max(_SAME * fall, _ERRORS * spread / np.sqrt(width))
    bottom = int(np.argmin(smooth))
    low = smooth <= smooth[bottom] + tolerance
    first = bottom + int(np.argmin(low[bottom:])) - 1 if not low[bottom:].all() else loss.size - 1
    moved = np.flatnonzero(smooth <= level - max(_STARTED * fall, tolerance))
    return Edge(
        top=min(first, _last_rise(loss)),
        last=int(np.flatnonzero(low)[-1]),
        moves=int(moved[0]) if moved.size else None,
        fell=level - lowest > _FALLEN * spread,
    )


def _last_rise(loss: Floats) -> int:
    """Find where the rise begins that goes on to the last loss; that itself if it is no rise."""
    rises = np.diff(loss) > 0
    return loss.size - 1 - (int(np.argmin(rises[::-1])) if not rises.all() else rises.size)
