"""Several sweeps of the same training, as one record, and what they conclude together."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence

from cyclr.errors import RecordError
from cyclr.rangetest.record import RangeRecord
from cyclr.rangetest.rules import Bounds

DISAGREE = 3.0  # max_lr of two sweeps of the same training, one divided by the other


def combine(records: Iterable[RangeRecord]) -> RangeRecord:
    """Make one record of several sweeps of the same training.

    Repeat a sweep with the data in another order, or with another seed, and the difference between
    the bounds says how far to trust them. ``combine(records).read()`` reads each and gives the
    median.

    >>> from cyclr import RangeTest
    >>> def sweep(offset):
    ...     test = RangeTest(steps=20)
    ...     for lr in test:
    ...         test.tell(loss=1.0 + offset)
    ...     return test.record
    >>> len(combine(sweep(0.1 * i) for i in range(3)).repeats)
    2

    Args:
        records: At least one; repeats that they hold already are kept.

    Raises:
        RecordError: There is none, or they are of different optimizers.
    """
    sweeps = [sweep for record in records for sweep in record.sweeps]
    if not sweeps:
        raise RecordError("combine needs at least one record, got none; run a sweep first")
    first, *others = sweeps
    for other in others:
        if dict(other.optimizer) != dict(first.optimizer):
            raise RecordError(
                "combine needs sweeps of the same training, got one with the optimizer "
                f"{dict(first.optimizer)} and one with {dict(other.optimizer)}; "
                "read records of different trainings one by one"
            )
    return dataclasses.replace(first, repeats=tuple(others))


def median(found: Sequence[Bounds]) -> Bounds:
    """Give the geometric medians of the bounds, and their caveats with how many sweeps had each."""
    counts = Counter(caveat for bounds in found for caveat in dict.fromkeys(bounds.caveats))
    caveats = [
        caveat if count == len(found) else f"In {count} of {len(found)} sweeps: {caveat}"
        for caveat, count in counts.items()
    ]
    low, high = extent([bounds.max_lr for bounds in found])
    if high > DISAGREE * low:
        caveats.append(
            f"The sweeps disagree: max_lr is {low:.3g} by one and {high:.3g} by another, a factor "
            f"of {high / low:.2g}. Repeat more often, take more steps or larger batches."
        )
    return Bounds(
        _geometric_median([bounds.base_lr for bounds in found]),
        _geometric_median([bounds.max_lr for bounds in found]),
        tuple(caveats),
    )


def extent(values: Sequence[float]) -> tuple[float, float]:
    """Give the lowest and the highest."""
    return min(values), max(values)


def _geometric_median(rates: Sequence[float]) -> float:
    """Give the median of the logarithms; of two in the middle the geometric mean."""
    if len(rates) % 2:
        return statistics.median(rates)
    return math.exp(statistics.median(map(math.log, rates)))
