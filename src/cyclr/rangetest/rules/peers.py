"""What other tools conclude, by their own definitions: for comparison, not for advice.

Each rule smooths, trims and picks as the tool named does, quirks included, so that its rate is the
one that tool would suggest on the same losses. Where a tool gives one rate, it is max_lr here, and
base_lr is a quarter of it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

import numpy as np

from cyclr.errors import RecordError
from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.bounds import BASE_SHARE, Bounds, Floats, finite_part

_SKIP_END = 5
_SLIDE_WIDTH, _SLIDE_THRESHOLD = 15, 0.005


def steepest(record: RangeRecord) -> Bounds:
    """Read the rate where the smoothed loss falls fastest from step to step.

    ::

        L_0 = l_0;  L_k = .05 l_k + .95 L_{k-1};  cut after the first L_k > 5 min L
        max_lr = lr[argmin np.gradient(L)], without the first ten and the last five steps

    Raises:
        RecordError: Fewer than 17 finite losses.

    Reference: torch-lr-finder 0.2.2, ``LRFinder.plot``; it lags, see the page about rules.
    """
    lr, loss = _before_non_finite(record, least=17)
    smooth = np.empty_like(loss)
    smooth[0] = loss[0]
    for k in range(1, loss.size):
        smooth[k] = 0.05 * loss[k] + 0.95 * smooth[k - 1]
    size = _until_diverged(smooth, 5.0)
    rates, losses = _trimmed(lr[:size], smooth[:size], 10)
    return _bounds(float(rates[np.argmin(np.gradient(losses))]))


def steep(record: RangeRecord) -> Bounds:
    """Read the rate where the smoothed loss falls fastest over the rate's logarithm.

    ``max_lr = lr[argmin ΔL / Δln lr]``.

    Raises:
        RecordError: Too few finite losses.

    Reference: fastai 2.8, ``steep``.
    """
    lr, loss = _fastai(record)
    return _bounds(float(lr[np.argmin(np.diff(loss) / np.diff(np.log(lr)))]))


def minimum(record: RangeRecord) -> Bounds:
    """Read a tenth of the rate at the lowest smoothed loss: ``max_lr = lr[argmin L] / 10``.

    Raises:
        RecordError: Too few finite losses.

    Reference: fastai 2.8, ``minimum``.
    """
    lr, loss = _fastai(record)
    return _bounds(float(lr[np.argmin(loss)]) / 10)


def valley(record: RangeRecord) -> Bounds:
    """Read the middle third of the longest falling subsequence of the smoothed losses.

    With the longest strictly falling subsequence of length n ending at e (the first of its
    length)::

        s = e − n;  w = n / 3;  max_lr = lr[s + ⌊w⌋ + ⌊w / 2⌋]

    Raises:
        RecordError: Too few finite losses.

    Reference: fastai 2.8, ``valley``, its default.
    """
    lr, loss = _fastai(record)
    longest, end = _longest_fall(loss)
    start = end - longest if longest > 1 else 0
    third = (end - start) / 3
    return _bounds(float(lr[start + int(third) + int(third / 2)]))


def slide(record: RangeRecord) -> Bounds:
    """Slide a window of fifteen steps from the right while the gradients at its ends differ.

    ``max_lr`` is the rate at the window's left end when ``|∇L_right − ∇L_left| ≤ .005`` first
    holds, one step before it.

    Raises:
        RecordError: Too few finite losses.

    Reference: fastai 2.8, ``slide``.
    """
    lr, loss = _fastai(record)
    gradient = np.gradient(loss)
    right, left = loss.size - 1, loss.size - 1 - _SLIDE_WIDTH
    if left < 0:
        raise RecordError(
            f"the slide rule needs {_SLIDE_WIDTH + 1} losses after trimming and has {loss.size}; "
            "sweep with more steps"
        )
    found = left
    while left >= 0 and abs(gradient[right] - gradient[left]) > _SLIDE_THRESHOLD:
        found, right, left = left, right - 1, left - 1
    return _bounds(float(lr[found]))


def _bounds(max_lr: float) -> Bounds:
    return Bounds(max_lr / BASE_SHARE, max_lr)


def _fastai(record: RangeRecord) -> tuple[Floats, Floats]:
    """Smooth with a debiased average of .98, stop above four times the best, trim both ends."""
    lr, loss = _before_non_finite(record, least=9)
    smooth, value = np.empty_like(loss), 0.0
    for k in range(loss.size):
        value = 0.02 * loss[k] + 0.98 * value
        smooth[k] = value / (1 - 0.98 ** (k + 1))
    size = _until_diverged(smooth, 4.0)
    return _trimmed(lr[:size], smooth[:size], (record.sweep.total_steps or len(record)) // 10)


def _before_non_finite(record: RangeRecord, *, least: int) -> tuple[Floats, Floats]:
    """Cut at the first NaN or infinity, from which a running average does not recover."""
    lr, loss = finite_part(record, least=least)
    broken = np.flatnonzero(~np.isfinite(np.asarray(record.loss, dtype=float)))
    end = int(broken[0]) if broken.size else loss.size
    return lr[:end], loss[:end]


def _until_diverged(smooth: Floats, times: float) -> int:
    """Count the losses up to the first that exceeds so many times the best before, included."""
    over = np.flatnonzero(smooth > times * np.minimum.accumulate(smooth))
    return int(over[0]) + 1 if over.size else smooth.size


def _trimmed(lr: Floats, loss: Floats, skip: int) -> tuple[Floats, Floats]:
    rates, losses = lr[skip:-_SKIP_END], loss[skip:-_SKIP_END]
    if losses.size < 2:
        raise RecordError(
            f"the record holds {loss.size} losses before divergence, and {skip} are dropped at "
            f"the start and {_SKIP_END} at the end: too few are left; start the sweep lower"
        )
    return rates, losses


def _longest_fall(loss: Floats) -> tuple[int, int]:
    """Give the length of the longest strictly falling subsequence, and where it first ends."""
    tails: list[float] = []  # tails[n]: negated last loss of the best fall of length n + 1
    longest, end = 1, 0
    for k, value in enumerate(-loss):
        n = bisect.bisect_left(tails, value)
        tails[n : n + 1] = [value]
        if n + 1 > longest:
            longest, end = n + 1, k
    return longest, end


PEER_RULES: dict[str, Callable[[RangeRecord], Bounds]] = {
    "minimum": minimum,
    "slide": slide,
    "steep": steep,
    "steepest": steepest,
    "valley": valley,
}
