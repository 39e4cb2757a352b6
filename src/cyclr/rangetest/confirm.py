"""A second, slow sweep about what the first one read: two readings whose errors partly cancel.

The first sweep has to find its range and is quick. The second one knows where to look. It begins a
tenth of the rate that was read, so that the net has moved by the time the rate matters, and shows
every decade for up to 45 updates.
"""

from __future__ import annotations

import math
from dataclasses import replace

from cyclr.errors import InputError, RecordError
from cyclr.rangetest.reading import Reading
from cyclr.rangetest.record import Outcome, RangeRecord
from cyclr.rangetest.repeats import DISAGREE
from cyclr.rangetest.rules.basin import CHANCE
from cyclr.rangetest.rules.bounds import STILL_LOW
from cyclr.schedules import ExponentialSweep
from cyclr.schedules.fields import Constraint

CONFIRMED = " confirmed"  # what the rule's name of such a reading ends in
SHARE = 0.2  # of the budget that both sweeps may cost together
RULE = "edge"  # what the second sweep is read by
_BELOW, _ABOVE = 10.0, 30.0  # times below and above max_lr that it begins and ends at
_DECADES = math.log10(_BELOW * _ABOVE)
_FASTEST, _SLOWEST = 15, 45  # updates to a decade
LEAST = math.ceil(_FASTEST * _DECADES)  # updates below which it would say no more than the first

_SHARE = Constraint(kind="real", gt=0, lt=1)
_BUDGET = Constraint(kind="integer", ge=1)


def second_sweep(reading: Reading, total_steps: int, share: float = SHARE) -> ExponentialSweep:
    """Plan the sweep that confirms a reading, for any framework's range test.

    From max_lr / 10 to 30 max_lr, at 45 updates to a decade, or as slowly as the budget allows.
    If the reading is by a metric, measure that at every update (``validate_every=1``).

    Args:
        reading: What is to be confirmed.
        total_steps: The budget of the training to come, in updates, ≥ 1.
        share: What both sweeps may cost together, of that budget, in (0, 1).

    Raises:
        InputError: Less than fifteen updates to a decade would be left, or the reading has been
            confirmed before.
        SpecError: A number breaks its bound.
    """
    _check_once(reading)
    _BUDGET.check("total_steps", total_steps)
    steps = left(reading.updates, total_steps, _SHARE.check("share", share))
    low, high = reading.max_lr / _BELOW, reading.max_lr * _ABOVE
    return ExponentialSweep(start_lr=low, end_lr=high, steps=steps)


def left(swept: int, total_steps: int, share: float = SHARE) -> int:
    """Say how many updates the second sweep has.

    Args:
        swept: Updates that the first has cost, ≥ 0.
        total_steps: The budget in updates.
        share: Of the budget, in (0, 1).

    Raises:
        InputError: They are fewer than 38, which is fifteen to a decade.
    """
    steps = int(share * total_steps + 1e-9) - swept
    if steps < LEAST:
        least = math.ceil((LEAST + swept) / share - 1e-9)
        raise InputError(
            f"total_steps must be ≥ {least} for a second sweep of {LEAST} updates beside one of "
            f"{swept}, got {total_steps}; go without confirming, or raise its share ({share:g})"
        )
    return min(steps, math.ceil(_SLOWEST * _DECADES))


def settle(reading: Reading, record: RangeRecord) -> Reading:
    """Conclude from a reading and the second sweep.

    ::

        max_lr  = √(max_lr · second)    second: what the rule "edge" reads off the second sweep
        base_lr = moved along, by the same factor

    The second is read by the metric that the first was told to read, or by the loss.

    Args:
        reading: What was confirmed.
        record: What the sweep of :func:`second_sweep` saw, from the same weights.

    Returns:
        A reading whose rule's name ends in ``" confirmed"``, with the second record, and without
        the caveat that asks for it; with a caveat if the two differ by more than a factor of three;
        and with one, and both bounds divided by ten, if the second sweep diverged from its first
        steps.

    Raises:
        InputError: The reading has been confirmed before, or is by a metric that the record lacks.
    """
    _check_once(reading)
    _check_metric(reading, record)
    caveats = [caveat for caveat in reading.caveats if CHANCE not in caveat]
    caveats += _seldom(reading.metric, record)
    try:
        known = record if record.optimizer else replace(record, optimizer=reading.optimizer)
        second = known.read(RULE, reading.metric or "loss")
    except RecordError as error:
        ended = record.outcome in (Outcome.DIVERGED, Outcome.NON_FINITE)
        # The first sweep went through the same batches, so it is not theirs but the rate's fault.
        diverged = ended and math.isfinite(record.loss[0])
        factor = 1 / _BELOW if diverged else 1.0
        caveats.append(
            f"The second sweep diverged at a tenth of max_lr already, at {record.lr[0]:.3g}; both "
            "bounds were divided by ten. Run another range test."
            if diverged
            else f"The second sweep could not be read, and the bounds stay as they were: {error}"
        )
    else:
        factor = math.sqrt(second.max_lr / reading.max_lr)
        caveats += [caveat for caveat in map(_own_words, second.caveats) if caveat not in caveats]
        apart = max(factor, 1 / factor) ** 2
        if apart > DISAGREE:
            caveats.append(
                f"The sweeps disagree: max_lr is {reading.max_lr:.3g} by the first and "
                f"{second.max_lr:.3g} by the second, a factor of {apart:.2g}. The middle was taken."
            )
    return replace(
        reading,
        base_lr=reading.base_lr * factor,
        max_lr=reading.max_lr * factor,
        rule=f"{reading.rule}{CONFIRMED}",
        caveats=tuple(caveats),
        sweeps=(),
        record=None,
        stated=None,
        second=record,
        updates=reading.updates + record.updates,
    )


def _check_metric(reading: Reading, record: RangeRecord) -> None:
    """Refuse a second sweep that does not measure the metric that was read.

    Raises:
        InputError: The record lacks it.
    """
    if reading.metric is not None and reading.metric not in record.metrics:
        held = ", ".join(sorted(record.metrics)) or "none"
        raise InputError(
            f"record must hold the metric that was read, {reading.metric!r}, got {held}; measure "
            'it in the second sweep too, or confirm record.read(metric="loss")'
        )


def _own_words(caveat: str) -> str:
    """Word a caveat of the second sweep whose remedy is none where the range is given."""
    if STILL_LOW not in caveat:
        return caveat
    return (
        f"{STILL_LOW} of the second sweep, at {_ABOVE:g} times max_lr: the first reading is far "
        "too low, or the net learns these batches by heart. Run another range test."
    )


def _seldom(metric: str | None, record: RangeRecord) -> list[str]:
    count = len(record) if metric is None else len(record.metrics[metric].steps)
    if 2 * count >= len(record):
        return []
    return [
        f"{metric} was measured at {count} of the second sweep's {len(record)} updates only; "
        "measure it at every one (validate_every=1)."
    ]


def _check_once(reading: Reading) -> None:
    if reading.rule.endswith(CONFIRMED):
        raise InputError(
            f"reading must be one that was not confirmed yet, got {reading.rule!r}; confirm what "
            "record.read() gives"
        )
