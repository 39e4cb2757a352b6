"""Whether a loss has turned: pure functions of the losses seen so far.

Every limit is a difference of losses measured in differences of losses, so adding a constant to the
loss or multiplying it by a positive one changes no verdict. Losses that are not finite count as
very high.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_WATCH = 3  # losses in the median that is compared with a limit: one spike decides nothing
_WARM = 5  # losses before a comparison means anything
_NOISES = 6.0  # standard deviations of successive differences that are a clear rise
_SPREADS = 4.0  # … or so many of the first losses, whose order may have a pattern
_SHARE = 0.5  # … or which share of the fall so far
_QUANTA = 4.0  # … or so many of the smallest steps that the loss can make
_CLEAR = 7.0  # standard errors of a median that are a clear fall
_USUAL = 10.0  # usual differences between losses that are no rise yet
_DOUBT = 12.0  # losses that double the limits: a scatter known from few losses is hardly known
_ROUNDING = 2.0**-8  # relative rounding that a loss without any scatter may have, as bfloat16 has

_HUGE = np.errstate(over="ignore", invalid="ignore")  # losses near the largest number


@_HUGE
def exploded(losses: list[float]) -> bool:
    """Say whether the last losses are clearly above where the losses began.

    ::

        median of the last 3 > start + max((1 + 12/n) · max(6 σ, 4 s), fall / 2, 4 q)

    with the start (the median of the first five losses), σ (the noise of successive losses), s (the
    scatter of the first third), n (the losses these are known from), the fall from the start to the
    lowest median of three, and q, the smallest difference between losses, which is what their
    rounding allows.
    """
    if len(losses) < _WARM + _WATCH:
        return False
    recent = sorted(x if math.isfinite(x) else math.inf for x in losses[-_WATCH:])[_WATCH // 2]
    start = _start(losses)
    if start is None or not recent > start:
        return False
    before = _finite(losses[:-_WATCH])
    fall = start - float(medians(before).min())
    scatter = max(_NOISES * noise(before), _SPREADS * _scatter(before))
    limit = max((1 + _DOUBT / before.size) * scatter, _SHARE * fall, _QUANTA * _quantum(before))
    return recent - start > limit


@_HUGE
def jumped(losses: list[float]) -> bool:
    """Say whether the very first update already threw the loss far up, for it to stay there.

    The start of :func:`exploded` is then too high to tell. All but the first loss must lie above it
    by six times their own noise and by their own extent.
    """
    if len(losses) < _WARM + _WATCH or not np.isfinite(losses[0]):
        return False
    rest = _finite(losses[1:])
    if rest.size < _WATCH:
        return True
    gap = float(rest.min()) - losses[0]
    extent = _quantile(rest, 0.9) - _quantile(rest, 0.1)
    return gap > max(_NOISES * noise(rest), extent) and gap > 1e-6 * abs(losses[0])


@_HUGE
def calm(losses: list[float]) -> bool:
    """Say whether the finite losses stay near the first: none above it by ten usual differences.

    For a few losses, before one that is not finite.
    """
    loss = _finite(losses)
    usual = _quantile(np.abs(np.diff(loss)), 0.5) if loss.size > 1 else 0.0
    return loss.size == 0 or float(loss.max()) - float(loss[0]) <= _USUAL * usual


@_HUGE
def turned(losses: list[float], *, share: float, window: int, width: int) -> bool:
    """Say whether the loss fell clearly, and has stayed above a share of that fall since.

    ::

        every median of three among the last ``window`` losses  >  lowest + share · fall
        fall = start − lowest  >  7 standard errors of a median of ``width`` losses

    where the start is the median of the first ``width`` losses and the lowest the smallest median
    of as many. A model that diverges to a plateau, or whose gradients are clipped, does this and
    never explodes.

    Args:
        losses: All losses so far.
        share: Of the fall that must be lost again, in (0, 1]; with 1 the loss is back at its start.
        window: Losses it must stay there for, ≥ 3.
        width: Losses in the medians that start and lowest are, ≥ 3.
    """
    before = _finite(losses[:-window])
    if before.size < 2 * width:
        return False
    levels = medians(before, width)
    lowest = float(levels.min())
    fall = float(levels[0]) - lowest
    spread = max(noise(before), _scatter(before))
    error = (1 + _DOUBT / before.size) * 1.2533 * spread / np.sqrt(width)
    if not fall > max(_CLEAR * error, _QUANTA * _quantum(before)):
        return False
    recent = medians(_pessimistic(losses[-window:]))
    return bool((recent > lowest + share * fall).all())


def noise(loss: Floats) -> float:
    """Estimate the standard deviation of a batch's loss, from successive differences.

    Differences cancel the trend and leave the noise √2 times over. The quantile, four in five, is
    high enough to see noise that is often zero, as rounded losses have it.
    """
    if loss.size < 2:
        return 0.0
    return _quantile(np.abs(np.diff(loss)), 0.8) / (1.2816 * 2**0.5)


def medians(loss: Floats, width: int = _WATCH) -> Floats:
    """Give the medians of all windows of a width, or of the whole if it is shorter."""
    width = min(width, loss.size)
    # By sorting: np.median takes ten times as long, and this is done after every update.
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(loss, width), axis=1)
    return np.asarray((windows[:, (width - 1) // 2] + windows[:, width // 2]) / 2)


def _start(losses: list[float]) -> float | None:
    head = list(itertools.islice(filter(math.isfinite, losses), _WARM))
    return sorted(head)[_WARM // 2] if len(head) == _WARM else None


def _scatter(loss: Floats) -> float:
    """Measure how the first third scatters: batches in a fixed order jump without alternating."""
    head = loss[: max(_WARM, loss.size // 3)]
    return 1.4826 * _quantile(np.abs(head - _quantile(head, 0.5)), 0.5)


def _quantile(values: Floats, share: float) -> float:
    """Give the value at a quantile or next above; like the medians, without NumPy's overhead."""
    return float(np.sort(values)[math.ceil(share * (values.size - 1))])


def _quantum(loss: Floats) -> float:
    """Find the smallest step between different losses: they may be rounded."""
    steps = np.diff(np.unique(loss))
    largest = float(np.abs(loss).max())
    # float32 is the finest that losses usually are; without any step there is no telling.
    return max(float(steps.min()), 1e-7 * largest) if steps.size else _ROUNDING * largest


def _finite(losses: list[float] | Floats) -> Floats:
    loss: Floats = np.asarray(losses, dtype=float)
    return loss[np.isfinite(loss)]


def _pessimistic(losses: list[float]) -> Floats:
    loss = np.asarray(losses, dtype=float)
    return np.asarray(np.nan_to_num(loss, nan=np.inf, posinf=np.inf, neginf=np.inf))
