"""How rate and momentum go together, from one trial to the next.

With momentum m, a gradient moves the weights by lr / (1 − m) in the end. Trials that compare
momenta do so at equal lr / (1 − m), or they would compare rates. An average of gradients, as Adam's
beta1 makes one, leaves the size of steps as it is.
"""

from __future__ import annotations

from typing import Any

from cyclr.tuning.facts import Facts
from cyclr.tuning.running import during_sweep
from cyclr.tuning.trial import Momentum, TrialResult


def scaled(result: TrialResult, factor: float) -> dict[str, Any]:
    """Change the rate of a trial that has been run by a factor, > 0."""
    assert result.bounds is not None
    low, high = result.bounds
    return {"bounds": (low * factor, high * factor), "reference": None}


def with_momentum(present: TrialResult, value: Momentum, facts: Facts) -> dict[str, Any]:
    """Change the momentum, and the rate so that lr / (1 − m) at its peak stays.

    Settings that have no rate, because their range test gave none, leave that to the trial.
    """
    if present.bounds is None:
        return {"momentum": value}
    now = at_peak(present.trial.momentum, facts)
    ratio = share(at_peak(value, facts), facts) / share(now, facts)
    return {"momentum": value, **scaled(present, ratio)}


def stable_rate(swept: TrialResult | None, present: TrialResult, facts: Facts) -> float | None:
    """Say what a range test would read as max_lr at the present momentum.

    Args:
        swept: A trial with a range test; None if there was none yet.
        present: The present settings.
        facts: Of the task.

    Returns:
        None if nothing has been read.
    """
    if swept is None or swept.read is None:
        return None
    then, now = (in_sweep(result.trial.momentum, facts) for result in (swept, present))
    return swept.read[1] * share(now, facts) / share(then, facts)


def share(momentum: float | None, facts: Facts) -> float:
    """Give 1 − momentum, or 1 where that does not matter."""
    return 1.0 if momentum is None or facts.averages else 1.0 - momentum


def at_peak(momentum: Momentum, facts: Facts) -> float | None:
    """Give the momentum where the rate is highest: the low end of a cyclical one."""
    if isinstance(momentum, tuple):
        return momentum[0]
    return facts.momentum if momentum is None else momentum


def in_sweep(momentum: Momentum, facts: Facts) -> float | None:
    """Give the momentum that a range test runs with."""
    return facts.momentum if momentum is None else during_sweep(momentum, facts.momentum)
