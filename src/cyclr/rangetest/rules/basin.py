"""The default: the middle of the loss's basin, the less far below it the noisier the record."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.bounds import Bounds, Floats, doubts, finite_part, noise, running_mean

_WIDTH = 0.05  # share of the losses that the zero-lag average spans
_FALLEN = 0.9  # share of the whole fall at which the basin begins
_RISEN = 0.5  # share of the fall that is lost again where the basin ends
_CLEAR = 5.0  # standard errors that make a fall a fall
_EXPONENT = 0.3  # how the margin grows with the clearness of the fall
_CLEAREST = 200.0  # … up to here: a loss without noise does not ask for an endless margin
_STARTED = 0.1  # share of the fall by which the loss has begun to move
_NEAREST, _FARTHEST = 3.0, 10.0  # max_lr / base_lr stays between these


class Basin(NamedTuple):
    """Where the averaged loss is low.

    Attributes:
        begins: Rate at which the average has fallen by 90 % of its whole fall.
        ends: Last rate before it has lost half of that fall again.
        moves: Rate at which it has fallen by 10 %.
        clearness: The whole fall in standard deviations of a batch's loss.
    """

    begins: float
    ends: float
    moves: float
    clearness: float


def basin(record: RangeRecord) -> Bounds:
    """Read max_lr off the basin between the loss's fall and its rise, base_lr where it falls.

    With the losses averaged over a centred window (no lag), cut off as far above the start as they
    fell below it (one explosion weighs no more than a fall), and their noise σ estimated from
    successive differences::

        begins    = first rate at which the average has fallen by 90 % of its whole fall
        ends      = last rate before the average has lost half of its fall again
        clearness = whole fall / σ, at most 200
        max_lr    = √(begins · ends) / clearness^0.3
        base_lr   = the first rate at which it has fallen by 10 %, kept between max_lr / 10
                    and max_lr / 3

    Both ends of the basin are crossings at a slope, which noise moves less than it moves a minimum
    or the edge of a flat stretch; their errors are independent and partly cancel in the mean. The
    margin follows from what a sweep cannot see. A loss that falls by many deviations within a
    hundred steps shows rates that serve a short run; a longer one, under noise that soon matters
    more than the fall, does better below them. Where the fall hardly rises above the noise, the
    sweep has only seen where rates do harm. The exponent is the one constant that was fitted, on
    each half of the tasks in turn; see the page about the rules.

    A fall of less than five standard errors of the average is none. Then both ends are the last
    rate before the loss rises for good, and a caveat says so.

    Raises:
        RecordError: Fewer than five losses are finite.

    Reference: arXiv 1506.01186, section 3.3, for what to look for; the arithmetic is ours.
    """
    lr, loss = finite_part(record)
    found, top = find_basin(lr, loss)
    max_lr = float(np.sqrt(found.begins * found.ends)) / found.clearness**_EXPONENT
    base_lr = float(np.clip(found.moves, max_lr / _FARTHEST, max_lr / _NEAREST))
    return Bounds(base_lr, max_lr, doubts(record, loss, top))


def find_basin(lr: Floats, loss: Floats) -> tuple[Basin, int]:
    """Find the basin, and the index of its last rate."""
    width = max(3, round(_WIDTH * loss.size)) | 1
    start, spread = noise(loss)
    error = spread / np.sqrt(width)
    fall = start - float(running_mean(np.minimum(loss, start), width).min())
    smooth = running_mean(np.minimum(loss, start + max(fall, 6 * spread)), width)
    lowest = int(np.argmin(smooth))
    fall = max(start - float(smooth[lowest]), 0.0)
    clearness = float(np.clip(fall / spread, width**-0.5, _CLEAREST)) if spread else _CLEAREST
    if fall <= _CLEAR * error:
        top = _last(smooth <= start + 2 * error)
        return Basin(float(lr[top]), float(lr[top]), float(lr[top]), clearness), top
    high = smooth[lowest:] > start - _RISEN * fall
    top = lowest + (int(np.argmax(high)) - 1 if high.any() else high.size - 1)
    begins = int(np.argmax(smooth <= start - _FALLEN * fall))
    moves = int(np.argmax(smooth <= start - _STARTED * fall))
    return Basin(float(lr[begins]), float(lr[top]), float(lr[moves]), clearness), top


def _last(good: np.ndarray) -> int:
    """Give the last index that is good; 0 if none is."""
    return good.size - 1 - int(np.argmax(good[::-1])) if good.any() else 0
