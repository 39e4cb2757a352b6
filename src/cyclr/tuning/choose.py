"""Who wins a stage, and which weight decay to try next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cyclr.rangetest.repeats import DISAGREE
from cyclr.tuning.trial import TrialResult


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a stage came to.

    Attributes:
        stage: Its name.
        before: The settings it began with.
        after: Those it chose, which may be the same.
        tried: All that it compared, ``before`` among them.
    """

    stage: str
    before: TrialResult
    after: TrialResult
    tried: tuple[TrialResult, ...]


FIXED = 0.01  # relative tolerance when the noise was not measured
_MOST = 0.05  # a single repeat is a poor measure: more than this is never called noise
_TOP = 1.0  # the largest weight decay ever tried


def relative_noise(one: TrialResult, two: TrialResult) -> float | None:
    """Measure the noise: how far two losses that differ in the seed alone are apart, relatively.

    Returns:
        Their distance over the mean of their sizes; None if one of them has no loss.
    """
    a, b = one.val_loss, two.val_loss
    if not (math.isfinite(a) and math.isfinite(b)):
        return None
    middle = (abs(a) + abs(b)) / 2
    return abs(a - b) / middle if middle else 0.0


def tolerance(noise: float | None) -> float:
    """Say by how much losses must differ, relatively, for one to be called better.

    The noise, between 1 % and 5 %: a single repeat may come out equal by luck, and may come out far
    apart by bad luck. 1 % if it was not measured.
    """
    return FIXED if noise is None else min(max(noise, FIXED), _MOST)


def close(results: Sequence[TrialResult], within: float) -> list[TrialResult]:
    """List the results whose loss is within the tolerance of the best; empty if none has any."""
    finished = [result for result in results if math.isfinite(result.val_loss)]
    if not finished:
        return []
    best = min(result.val_loss for result in finished)
    return [result for result in finished if result.val_loss <= best + within * abs(best)]


def lowest(results: Sequence[TrialResult]) -> TrialResult:
    """Give the result with the lowest loss."""
    return min(results, key=lambda result: result.val_loss)


def with_largest_rate(
    present: TrialResult, results: Sequence[TrialResult], within: float, reference: float | None
) -> TrialResult | None:
    """Give the result with the largest stable rate among those with the lowest loss.

    The stable rate is the max_lr that a trial's own range test read. Rates less than a factor of
    three below the largest are as large: range tests of one training differ by as much. Of several
    such, the present settings stay if they are among them, and otherwise the lowest loss wins.

    Args:
        present: The settings before.
        results: What is compared, ``present`` among it.
        within: The relative tolerance of the loss.
        reference: The stable rate of results without a range test of their own; None for what they
            trained at.

    Returns:
        None if no result has a loss.

    Reference: arXiv 1803.09820, section 4.4: a suitable weight decay allows a large rate.
    """
    found = close(results, within)
    if not found:
        return None

    def stable(result: TrialResult) -> float:
        return result.read[1] if result.read else reference or result.max_lr

    largest = max(map(stable, found))
    fastest = [result for result in found if stable(result) >= largest / DISAGREE]
    return present if present in fastest else lowest(fastest)


def highest_rate(results: Sequence[TrialResult], within: float) -> TrialResult | None:
    """Give the result with the highest max_lr among those with the lowest loss.

    Of rates that do as well, the highest regularizes most.

    Reference: arXiv 1803.09820, section 4.
    """
    found = close(results, within)
    return max(found, key=lambda result: result.max_lr) if found else None


def largest_batch(results: Sequence[TrialResult], within: float) -> TrialResult | None:
    """Give the result with the largest batch among those with the lowest loss."""
    found = close(results, within)
    return max(found, key=lambda result: result.trial.batch_size) if found else None


def better_than(
    present: TrialResult, results: Sequence[TrialResult], within: float
) -> TrialResult | None:
    """Give the best of several results if it is better than the present one by the tolerance."""
    challenger = lowest(results) if results else present
    margin = within * abs(present.val_loss) if math.isfinite(present.val_loss) else 0.0
    return challenger if challenger.val_loss < present.val_loss - margin else None


def next_decay(losses: Mapping[float, float], within: float = 0.0) -> float | None:
    """Choose the next weight decay to try: one step outward, or a bisection of the exponent.

    When the best is the largest, ten times of it; when it is the smallest and that is not 0, a
    tenth. Otherwise half way, on the exponent, between the best and the better of its neighbours. A
    weight decay of 0 stands a decade below the smallest positive one. Where the neighbours are as
    good as the best, within the tolerance, there is nothing to find between them.

    >>> next_decay({1e-2: 0.5, 1e-3: 0.2, 1e-4: 0.3})
    0.00031622776601683794
    >>> next_decay({1e-2: 0.1, 1e-3: 0.2, 1e-4: 0.3})
    0.1

    Args:
        losses: Validation loss by weight decay; infinite where there is none.
        within: The relative tolerance, ≥ 0.

    Returns:
        A weight decay in (0, 1] that has not been tried; None if there is none worth it.

    Reference: arXiv 1803.09820, section 4.4.
    """
    tried = sorted(losses)
    positive = [value for value in tried if value > 0]
    best = min(losses.values(), default=math.inf)
    if not positive or len(tried) < 2 or not math.isfinite(best):
        return None
    exponents = [math.log10(v) if v > 0 else math.log10(positive[0]) - 1 for v in tried]
    at = min(range(len(tried)), key=lambda i: losses[tried[i]])
    beside = [i for i in (at - 1, at + 1) if 0 <= i < len(tried)]
    if all(losses[tried[i]] <= best + within * abs(best) for i in beside) and within > 0:
        return None
    if at == len(tried) - 1 and tried[at] < _TOP:
        return min(_TOP, 10 ** (exponents[at] + 1))
    if at == 0 and tried[0] > 0:
        return float(10 ** (exponents[0] - 1))
    neighbour = min(beside, key=lambda i: losses[tried[i]])
    value = float(10 ** ((exponents[at] + exponents[neighbour]) / 2))
    return None if value in losses else value


def scaling(results: Sequence[TrialResult], own: int) -> float | None:
    """Measure by which power of the batch size max_lr grows.

    The p in max_lr ∝ batch_size**p, by least squares through the task's own batch size on the
    logarithms: 1 is linear scaling, 0.5 the square root.

    Args:
        results: Of different batch sizes.
        own: The task's own batch size.

    Returns:
        None if there are no two sizes with a rate.
    """
    rates = {r.trial.batch_size: r.max_lr for r in results if r.bounds is not None}
    if own not in rates or len(rates) < 2:
        return None
    pairs = [(math.log(b / own), math.log(lr / rates[own])) for b, lr in rates.items() if b != own]
    return sum(x * y for x, y in pairs) / sum(x * x for x, _ in pairs)
