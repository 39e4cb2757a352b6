"""The default: a third of the largest rate at which the loss is still as low as it gets."""

from __future__ import annotations

import numpy as np

from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.bounds import Bounds, doubts, noise, readable_part, running_mean

_WIDTH = 0.05  # share of the sweep that the zero-lag average spans
_NOISES = 2.0  # how many standard errors count as equally low
_SHARE = 0.05  # … or which share of the whole fall
_MARGIN = 3.0  # from the edge of the low stretch to the peak a run can be trusted with
_STARTED = 0.1  # share of the whole fall by which the loss has begun to move
_NEAREST, _FARTHEST = 3.0, 10.0  # max_lr / base_lr stays between these


def knee(record: RangeRecord) -> Bounds:
    """Read max_lr off the right edge of the loss's low stretch, base_lr where it begins to fall.

    With the losses averaged over a centred window (which does not lag behind, as a running average
    does) and their noise σ estimated from successive differences::

        low stretch = the rates around the lowest average, up to the first whose average exceeds it
                      by 2 σ/√w and by 5 % of the whole fall      (w = losses in the window)
        max_lr      = its largest rate / 3
        base_lr     = the first rate whose average is below the start by 10 % of the fall,
                      kept between max_lr / 10 and max_lr / 3

    Raises:
        RecordError: Fewer than five losses are finite.

    Reference: arXiv 1506.01186, section 3.3, and 1803.09820, sections 3 and 4, for what to look
    for; the arithmetic is ours.
    """
    lr, loss = readable_part(record)
    width = max(3, round(_WIDTH * loss.size)) | 1
    smooth = running_mean(loss, width)
    level, spread = noise(loss)
    lowest = int(np.argmin(smooth))
    fall = max(level - float(smooth[lowest]), 0.0)
    tolerance = max(_NOISES * spread / np.sqrt(width), _SHARE * fall)
    above = np.flatnonzero(smooth[lowest:] > smooth[lowest] + tolerance)
    edge = lowest + int(above[0]) - 1 if above.size else loss.size - 1
    max_lr = float(lr[edge]) / _MARGIN
    moved = np.flatnonzero(smooth[: lowest + 1] < level - max(tolerance, _STARTED * fall))
    started = float(lr[moved[0]]) if moved.size else max_lr
    base_lr = float(np.clip(started, max_lr / _FARTHEST, max_lr / _NEAREST))
    return Bounds(base_lr, max_lr, doubts(record, loss, edge))
