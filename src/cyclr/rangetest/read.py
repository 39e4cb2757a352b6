"""Reading a record: a rule is applied to every sweep, and what makes it doubtful is said."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from cyclr.errors import RecordError
from cyclr.rangetest.reading import Reading
from cyclr.rangetest.record import VALIDATION_LOSSES, Outcome, RangeRecord
from cyclr.rangetest.repeats import median
from cyclr.rangetest.rules import RULES, Bounds
from cyclr.rangetest.rules.accuracy import LEAST
from cyclr.rangetest.scouting import SCOUT_ALONE
from cyclr.schedules import LinearSweep

Rule = Callable[[RangeRecord], Bounds]

_DENSE = 4.0  # steps to a decade of rates below which a record is too coarse
_SLOW = 15.0  # … and above which, after a scout, it is slow
_LEAST = 20  # steps below which it is in any case
_FEWEST = 5  # values below which a metric cannot be read


def read(record: RangeRecord, rule: str | None = None, metric: str | None = None) -> Reading:
    """Apply a rule to a record.

    Args:
        record: What the sweep saw.
        rule: The rule's name; see :meth:`RangeRecord.read` for the default.
        metric: Name of a metric to read in place of the loss; see :meth:`RangeRecord.read` for the
            default.

    Raises:
        RecordError: The rule or the metric is unknown, or the record does not hold what the rule
            needs.
    """
    if metric is None and (own := _default_metric(record, rule)) is not None:
        return _read_or_else_the_loss(record, rule, own)
    if metric == "loss":  # of all that was measured, nothing else
        record, metric = record.alone(), None
    seen = record if metric is None else record.seen_by(metric)
    name = _default_rule(seen) if rule is None else rule
    if name not in RULES:
        known = ", ".join(sorted(RULES))
        raise RecordError(f"rule must be one of {known}, got {name!r}; pick one")
    found, failures = _read_each(seen, RULES[name], metric)
    if rule is None and name == "basin" and _is_for_accuracy(seen):
        failures.append(
            f"The accuracy was measured too seldom for its rule, which needs {LEAST} values; the "
            "loss was read instead. Measure it more often (validate_every)."
        )
    together = found[0] if len(found) == 1 else median(found)
    outcomes = Counter(sweep.outcome for sweep in record.sweeps)
    return Reading(
        base_lr=together.base_lr,
        max_lr=together.max_lr,
        rule=name,
        outcome=outcomes.most_common(1)[0][0],
        caveats=(*together.caveats, *failures),
        optimizer=record.optimizer,
        steps_per_epoch=record.steps_per_epoch,
        metric=metric,
        sweeps=tuple(found),
        record=seen,
        updates=record.updates,
    )


def _read_or_else_the_loss(record: RangeRecord, rule: str | None, metric: str) -> Reading:
    """Read a metric that nobody asked for; where that fails, the loss, with a caveat."""
    try:
        return read(record, rule, metric)
    except RecordError as error:
        reading = read(record, rule, "loss")
        caveat = f"{metric} could not be read, and the loss was read instead: {error}"
        return replace(reading, caveats=(*reading.caveats, caveat))


def _read_each(
    record: RangeRecord, rule: Rule, metric: str | None
) -> tuple[list[Bounds], list[str]]:
    """Read every sweep; those that cannot be read become caveats, unless none can."""
    found, failures = [], []
    errors: list[RecordError] = []
    for sweep in record.sweeps:
        try:
            bounds = _positive(rule(sweep))
        except RecordError as error:
            errors.append(error)
            failures.append(f"One of {len(record.sweeps)} sweeps could not be read: {error}")
        else:
            found.append(bounds._replace(caveats=(*bounds.caveats, *_doubts(sweep, metric))))
    if not found:
        raise errors[0]
    return found, failures


def _positive(bounds: Bounds) -> Bounds:
    """Refuse bounds that no training can use: a sweep from 0 may find nothing above it."""
    if bounds.max_lr > 0 and math.isfinite(bounds.max_lr):
        return bounds
    raise RecordError(
        "the loss was lowest before the rate rose above 0, so there is no rate to read; sweep more "
        "slowly: lower end_lr, or take more steps"
    )


def _doubts(record: RangeRecord, metric: str | None) -> list[str]:
    """Say what makes any rule's conclusion from a sweep doubtful."""
    found = []
    if SCOUT_ALONE in record.notes:
        found.append(f"{SCOUT_ALONE} Put the training back, and go on as test.restart() says.")
    elif record.outcome is Outcome.INTERRUPTED:
        found.append("The sweep was interrupted; higher rates were not tried.")
    low, high = record.lr[0], record.lr[-1]
    decades = math.log10(high / low) if low > 0 and not isinstance(record.sweep, LinearSweep) else 0
    if len(record) < _LEAST or len(record) < _DENSE * decades:
        seen = "The sweep has" if metric is None else f"{metric} was measured at"
        remedy = "Take more steps" if metric is None else "Measure it more often (validate_every)"
        found.append(
            f"{seen} only {len(record)} points from {low:.3g} to {high:.3g}: too few to be "
            f"precise. {remedy}."
        )
    return found


def _default_metric(record: RangeRecord, rule: str | None) -> str | None:
    """Name the validation loss to read where the net may learn its examples by heart."""
    if not record.has_little_data or (rule or _default_rule(record)) == "accuracy":
        return None
    names = (n for n in VALIDATION_LOSSES if n in record.metrics)
    return next((n for n in names if all(_is_dense(s, n) for s in record.sweeps)), None)


def _is_dense(record: RangeRecord, metric: str) -> bool:
    """Say whether a metric was measured at every other update at least, and is no constant."""
    values = record.metrics[metric].values if metric in record.metrics else ()
    finite = [value for value in values if math.isfinite(value)]
    return len(finite) >= max(_FEWEST, len(record) / 2) and len(set(finite)) > 1


def _default_rule(record: RangeRecord) -> str:
    enough = any(
        sum(map(math.isfinite, series.values)) >= LEAST
        for name, series in record.metrics.items()
        if name.endswith("accuracy")
    )
    if _is_for_accuracy(record) and enough:
        return "accuracy"
    return "edge" if _is_slow(record) else "basin"


def _is_slow(record: RangeRecord) -> bool:
    """Say whether a scout went ahead of a slow sweep, not of an even one over all of its range."""
    if not record.scout.lr or record.sweep(0) == record.scout.lr[0]:
        return False
    return float(record.sweep(1)) < float(record.sweep(0)) * 10 ** (1 / _SLOW)


def _is_for_accuracy(record: RangeRecord) -> bool:
    has_accuracy = any(name.endswith("accuracy") for name in record.metrics)
    return has_accuracy and isinstance(record.sweep, LinearSweep)
