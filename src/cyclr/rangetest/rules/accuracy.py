"""Smith's own way of reading a range test: off the accuracy."""

from __future__ import annotations

import math

import numpy as np

from cyclr.errors import RecordError
from cyclr.rangetest.record import RangeRecord, Series
from cyclr.rangetest.rules.bounds import Bounds, Floats, running_mean

LEAST = 6  # measurements that the rule needs
_STARTED = 0.1  # share of the whole rise by which accuracy has begun to move
_SLOWED = 0.95  # share of the whole rise by which it has slowed down


def accuracy(record: RangeRecord) -> Bounds:
    """Read base_lr where accuracy starts to rise and max_lr where it slows, turns ragged or falls.

    With the accuracy averaged over three neighbours, its rise is from the first point to the top::

        base_lr = rate at the last point before the accuracy passes 10 % of the rise
        max_lr  = the lower of: the rate where it first passes 95 % of the rise (slows or falls
                  after), and the rate after which it drops by more than a quarter of the
                  rise and four times the scatter seen so far (turns ragged)

    Raises:
        RecordError: The record holds no accuracy, or fewer than six measurements of it.

    Reference: arXiv 1506.01186, section 3.3 and figure 3.
    """
    series = _series(record)
    lr, raw = np.asarray(record.lr)[list(series.steps)], np.asarray(series.values, dtype=float)
    measured = np.isfinite(raw)
    lr, raw = lr[measured], raw[measured]
    smooth = running_mean(raw, 3)
    rise = float(smooth.max() - smooth[0])
    caveats = []
    if missing := int((~measured).sum()):
        caveats.append(
            f"{missing} of {measured.size} measurements of the accuracy were not finite and are "
            "left out."
        )
    scatter = _scatter(raw)
    if rise <= max(4 * scatter, 1e-12):
        caveats.append(
            "The accuracy never rose clearly above where it began: the record is flat or too noisy "
            "to support a conclusion. Sweep for more epochs or to a higher rate."
        )
    height = (smooth - smooth[0]) / (rise or 1.0)
    started = int(np.argmax(height > _STARTED))
    slowed = int(np.argmax(height >= _SLOWED))
    ragged = _ragged(raw, started, slowed, rise)
    if slowed >= raw.size - 2 and ragged >= slowed:
        caveats.append(
            "The accuracy was still rising at the end of the sweep: a higher rate may be better. "
            "Raise end_lr."
        )
    top = min(slowed, ragged)
    max_lr, base_lr = float(lr[top]), float(lr[max(0, started - 1)])
    if base_lr >= max_lr or base_lr == 0:
        caveats.append(
            "The accuracy rose within one measurement; base_lr is a quarter of max_lr instead. "
            "Measure it more often (validate_every), or end the sweep lower."
        )
        max_lr = max_lr or float(lr[1])
        base_lr = max_lr / 4
    return Bounds(base_lr, max_lr, tuple(caveats))


def _ragged(raw: Floats, started: int, slowed: int, rise: float) -> int:
    """Find the last point before the first large drop on the way up; ``slowed`` if none."""
    for i in range(started + 1, slowed + 1):
        drop = raw[i - 1] - raw[i]
        # Only what came before: raggedness must not widen the limit it is measured against.
        if drop > 0.25 * rise and drop > 4 * _scatter(raw[:i]):
            return i - 1
    return slowed


def _scatter(raw: Floats) -> float:
    """Estimate the measurements' standard deviation from second differences: trends cancel."""
    if raw.size < 4:
        return 0.0
    return 1.4826 * float(np.median(np.abs(np.diff(raw, n=2)))) / math.sqrt(6)


def _series(record: RangeRecord) -> Series:
    names = [name for name in record.metrics if name.endswith("accuracy")]
    if not names:
        raise RecordError(
            "the accuracy rule needs a metric named accuracy in the record, and it holds "
            f"{sorted(record.metrics) or 'none'}; run the range test with validate=…, or use "
            "rule='basin'"
        )
    # Validation accuracy is what the paper plots; prefer it over one measured on the batch.
    series = record.metrics[min(names, key=lambda name: (not name.startswith("val"), name))]
    finite = int(np.isfinite(series.values).sum())
    if finite < LEAST:
        raise RecordError(
            f"the accuracy rule needs {LEAST} measurements and the record holds "
            f"{finite}; validate more often"
        )
    return series
