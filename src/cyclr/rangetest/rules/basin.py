"""The default: the middle of the loss's basin, the less far below it the noisier the record.

Or higher, where the net trained again as soon as the rate came down.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.bounds import Bounds, Floats, doubts, noise, readable_part, running_mean
from cyclr.rangetest.way_back import Leg

_WIDTH = 0.05  # share of the losses that the zero-lag average spans
_FALLEN = 0.9  # share of the whole fall at which the basin begins
_RISEN = 0.5  # share of the fall that is lost again where the basin ends
_CLEAR = 5.0  # standard errors that make a fall a fall
_EXPONENT = 0.3  # how the margin grows with the clearness of the fall
_CLEAREST = 200.0  # … up to here: a loss without noise does not ask for an endless margin
_RECOVERED = 0.8  # share of the fall that is there again where the way back has recovered
_AGREEING = 5  # losses on the way back whose average says so
_FAR = 3.0  # how many times higher the way back must read to be remarked on
_STARTED = 0.1  # share of the fall by which the loss has begun to move
CHANCE = "which chance may decide"  # in the caveat that a second sweep settles
_NEAREST, _FARTHEST = 3.0, 10.0  # max_lr / base_lr stays between these


class Basin(NamedTuple):
    """Where the averaged loss is low.

    Attributes:
        begins: Rate at which the average has fallen by 90 % of its whole fall.
        ends: Last rate before it has lost half of that fall again.
        moves: Rate at which it has fallen by 10 %.
        clearness: The whole fall in standard deviations of a batch's loss.
        level: The loss where the sweep began.
        fall: The whole fall of the average below it.
        noise: Standard deviation of a batch's loss.
        clear: Whether the fall stands out from the noise.
    """

    begins: float
    ends: float
    moves: float
    clearness: float
    level: float
    fall: float
    noise: float
    clear: bool


def basin(record: RangeRecord) -> Bounds:
    """Read max_lr off the basin between the loss's fall and its rise, base_lr where it falls.

    With the losses averaged over a centred window (no lag), cut off as far above the start as they
    fell below it (one explosion weighs no more than a fall), and their noise σ estimated from
    successive differences::

        begins    = first rate at which the average has fallen by 90 % of its whole fall
        ends      = last rate before the average has lost half of its fall again
        clearness = whole fall / σ, at most 200
        recovers  = highest rate on the way back at which the average of five losses has
                    regained 80 % of the fall, at most where the basin ends; 0 if none has, or
                    there is no way back
        max_lr    = max(√(begins · ends) / clearness^0.3, recovers)
        base_lr   = the first rate at which it has fallen by 10 %, kept between max_lr / 10
                    and max_lr / 3

    Both ends of the basin are crossings at a slope, which noise moves less than it moves a minimum
    or the edge of a flat stretch; their errors are independent and partly cancel in the mean. The
    margin follows from what a sweep cannot see. A loss that falls by many deviations within a
    hundred steps shows rates that serve a short run; a longer one, under noise that soon matters
    more than the fall, does better below them. Where the fall hardly rises above the noise, the
    sweep has only seen where rates do harm. And a net that trains again on the way back does well
    at that rate, whatever the sweep did to it before: BatchNorm and steps of normalized size make
    such nets. The exponent is the one constant that was fitted, on
    each half of the tasks in turn; see the page about the rules.

    A fall of less than five standard errors of the average is none. Then both ends are the last
    rate before the loss rises for good, and a caveat says so.

    Raises:
        RecordError: Fewer than five losses are finite.

    Reference: arXiv 1506.01186, section 3.3, for what to look for; the arithmetic is ours.
    """
    lr, loss = readable_part(record)
    found, top = find_basin(lr, loss)
    max_lr = float(np.sqrt(found.begins * found.ends)) / found.clearness**_EXPONENT
    caveats = doubts(record, loss, top)
    again = recovers(record.way_back, found)
    if again > _FAR * max_lr:
        caveats += (
            f"The sweep alone gives {max_lr:.3g}; max_lr is higher because the net trained again "
            f"at {again:.3g} on the way back, {CHANCE}. Sweep with repeats, or confirm it.",
        )
    max_lr = max(max_lr, again)
    base_lr = float(np.clip(found.moves, max_lr / _FARTHEST, max_lr / _NEAREST))
    return Bounds(base_lr, max_lr, caveats)


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
        rate = float(lr[top])
        return Basin(rate, rate, rate, clearness, start, fall, spread, False), top
    high = smooth[lowest:] > start - _RISEN * fall
    top = lowest + (int(np.argmax(high)) - 1 if high.any() else high.size - 1)
    begins = int(np.argmax(smooth <= start - _FALLEN * fall))
    moves = int(np.argmax(smooth <= start - _STARTED * fall))
    rates = float(lr[begins]), float(lr[top]), float(lr[moves])
    return Basin(*rates, clearness, start, fall, spread, True), top


def recovers(way_back: Leg, found: Basin) -> float:
    """Find the highest rate on the way back at which the net trained again; 0 if there is none."""
    loss = np.asarray(way_back.loss)
    if loss.size < _AGREEING or not np.isfinite(loss).all():
        return 0.0
    # As on the way up, one explosion weighs no more than a fall.
    highest = found.level + max(found.fall, 6 * found.noise)
    average = np.convolve(np.minimum(loss, highest), np.full(_AGREEING, 1 / _AGREEING), "valid")
    clear = _CLEAR * found.noise / np.sqrt(_AGREEING)
    good = average <= found.level - max(_RECOVERED * found.fall, clear)
    if not good.any():
        return 0.0
    rate = way_back.lr[_AGREEING // 2 + int(np.argmax(good))]
    # Beyond its end the sweep has seen the loss rise; without a clear fall there is no end to tell.
    return min(rate, found.ends) if found.clear else rate


def _last(good: np.ndarray) -> int:
    """Give the last index that is good; 0 if none is."""
    return good.size - 1 - int(np.argmax(good[::-1])) if good.any() else 0
