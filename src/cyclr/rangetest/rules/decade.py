"""A decade below the rate at which the loss was lowest."""

from __future__ import annotations

import numpy as np

from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules.bounds import BASE_SHARE, Bounds, doubts, readable_part

_DECADE = 10.0


def decade(record: RangeRecord) -> Bounds:
    """Read max_lr as a tenth of the rate at the lowest raw loss, and base_lr as a quarter of that.

    ::

        max_lr  = lr[argmin loss] / 10
        base_lr = max_lr / 4

    The loss at step k is measured before update k, so the rate at the minimum is that of the
    first update after it. No smoothing, hence no lag.

    Raises:
        RecordError: Fewer than five losses are finite.

    Reference: the rule of thumb of practitioners' range tests; the quarter is from arXiv
    1506.01186, section 3.3.
    """
    lr, loss = readable_part(record)
    lowest = int(np.argmin(loss))
    max_lr = float(lr[lowest]) / _DECADE
    return Bounds(max_lr / BASE_SHARE, max_lr, doubts(record, loss, lowest))
