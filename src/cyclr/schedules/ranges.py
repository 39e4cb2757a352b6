"""Fast evaluation over NumPy arrays: in pieces, and consecutive steps without masks.

Arrays of steps are nearly always consecutive. Over a run of consecutive steps most of a formula's
questions (is the warmup over? which period is this?) have one answer, or two with a boundary in
between. The formula is therefore tried on a ``range``, whose questions are answered with plain
numbers; a question with two answers cuts the range there, and both parts are tried again. What is
left for arrays is the arithmetic of the one leg that each part lies on.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from cyclr.schedules.arrays import SCALAR, ArrayOperations, NumpyOperations, Operations, Value

# Temporaries of this length stay in a processor's cache, and below the size from which the C
# library gives memory back to the system after each of them: both take several times longer.
_CHUNK = 1 << 13
_MOST_CUTS = 4  # with more boundaries than this in a range, arrays and masks are faster
_EXACT = 2**53  # whole numbers up to here are exact in float64


def evaluate(formula: Callable[[Operations, Value], Value], steps: Value) -> Value:
    """Evaluate a formula over an array of steps."""
    if not isinstance(steps, np.ndarray):
        return formula(ArrayOperations(steps), steps)
    values = np.empty(steps.shape, steps.dtype if steps.dtype.kind == "f" else np.float64)
    flat, answers, ops = steps.reshape(-1), values.reshape(-1), NumpyOperations(steps)
    for begin in range(0, flat.size, _CHUNK):
        chunk, answer = flat[begin : begin + _CHUNK], answers[begin : begin + _CHUNK]
        if _consecutive(chunk):
            first = int(chunk[0])
            _evaluate_range(formula, range(first, first + chunk.size), answer)
        else:
            answer[:] = formula(ops, chunk)
    return values


def _consecutive(steps: Value) -> bool:
    if steps.dtype.kind == "f" or int(steps[-1]) - int(steps[0]) != steps.size - 1:
        return False
    return bool((steps[1:] - steps[:-1] == 1).all())


def _evaluate_range(
    formula: Callable[[Operations, Value], Value], steps: range, answer: Value
) -> None:
    """Evaluate a formula over consecutive steps, cut where it asks for it."""
    parts = [(0, len(steps))]
    while parts:
        begin, end = parts.pop()
        try:
            answer[begin:end] = formula(_RANGES, steps[begin:end])
        except _Cut as cut:
            parts += [(begin + cut.offset, end), (begin, begin + cut.offset)]


class _Cut(Exception):
    """A question has one answer before an offset into the range, and another from there on."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class _RangeOperations(NumpyOperations):
    """Operations on a ``range`` of steps, and on the plain numbers and arrays it turns into."""

    def __init__(self) -> None:
        super().__init__(np.arange(1))

    def as_float(self, x: Value) -> Value:
        """Lay a range out as numbers."""
        if isinstance(x, range):
            if x.stop <= _EXACT:
                return np.arange(x.start, x.stop, dtype=np.float64)
            x = np.arange(x.start, x.stop)
        return float(x) if isinstance(x, int) else super().as_float(x)

    def where(self, condition: Value, then: Value, otherwise: Value) -> Value:
        """Choose."""
        if isinstance(condition, bool):
            return then if condition else otherwise
        return super().where(condition, then, otherwise)

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller; of a range and a number, whichever it is all along."""
        if isinstance(a, range):
            return b if self.reached(a, b) else a
        if isinstance(a, int | float) and isinstance(b, int | float):
            return min(a, b)
        return super().minimum(a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger; of a range and a number, whichever it is all along."""
        if isinstance(a, range):
            return a if self.reached(a, b) else b
        if isinstance(a, int | float) and isinstance(b, int | float):
            return max(a, b)
        return super().maximum(a, b)

    def reached(self, step: Value, start: int) -> Value:
        """Say whether all steps are at or past a start, or none."""
        if not isinstance(step, range):
            return step >= start
        if step.start < start < step.stop:
            raise _Cut(start - step.start)
        return step.start >= start

    def since(self, step: Value, start: int) -> Value:
        """Count from a start, as a range again; 0 before it."""
        if isinstance(step, range):
            return _shifted(step, start) if self.reached(step, start) else 0
        return SCALAR.since(step, start) if isinstance(step, int) else super().since(step, start)

    def until(self, end: int, step: Value) -> Value:
        """Count down to an end."""
        if isinstance(step, range):
            if max(abs(end), step.stop) <= _EXACT:
                return np.arange(end - step.start, end - step.stop, -1.0)
            step = np.arange(step.start, step.stop)
        return SCALAR.until(end, step) if isinstance(step, int) else super().until(end, step)

    def split(self, step: Value, length: int) -> tuple[Value, Value]:
        """Divide: by parts within one length each, or as arrays when they are many."""
        if isinstance(step, int):
            return divmod(step, length)
        if isinstance(step, range):
            first, last = step.start // length, (step.stop - 1) // length
            if first == last:
                return first, _shifted(step, first * length)
            if last - first <= _MOST_CUTS:
                raise _Cut((first + 1) * length - step.start)
            step = np.arange(step.start, step.stop)
        return super().split(step, length)

    def passed(self, boundaries: Sequence[int], step: Value) -> Value:
        """Count the boundaries at or below; as an array only when many lie within the range."""
        if isinstance(step, int):
            return bisect_right(boundaries, step)
        if not isinstance(step, range):
            return super().passed(boundaries, step)
        first, last = (bisect_right(boundaries, end) for end in (step.start, step.stop - 1))
        if first == last:
            return first
        if last - first <= _MOST_CUTS:
            raise _Cut(boundaries[first] - step.start)
        return super().passed(boundaries, np.arange(step.start, step.stop))

    def pick(self, table: Sequence[float], index: Value) -> Value:
        """Look up one entry, or each of an array of indices."""
        return table[index] if isinstance(index, int) else super().pick(table, index)

    def segment(self, starts: Sequence[int], step: Value) -> tuple[Value, Value]:
        """Find the segment that the range lies in."""
        index = self.passed(starts, step) - 1
        if isinstance(index, int):
            start = starts[index]
            return index, step - start if isinstance(step, int) else _shifted(step, start)
        return index, np.arange(step.start, step.stop) - self.pick(starts, index)

    def within(self, starts: Sequence[int], step: Value) -> int | None:
        """Find the segment of the range, which is cut until it lies in one."""
        if isinstance(step, int):
            return SCALAR.within(starts, step)
        if not isinstance(step, range):
            return super().within(starts, step)
        first, last = (bisect_right(starts, end) for end in (step.start, step.stop - 1))
        if first < last:
            raise _Cut(starts[(first + last) // 2] - step.start)
        return first - 1

    def half_cosine(self, u: Value) -> Value:
        """Return ½ (1 − cos πu)."""
        return SCALAR.half_cosine(u) if isinstance(u, float) else super().half_cosine(u)

    def exp(self, x: Value) -> Value:
        """Return e to the power x."""
        return math.exp(x) if isinstance(x, float) else np.exp(x)


def _shifted(steps: range, start: int) -> range:
    return range(steps.start - start, steps.stop - start)


_RANGES = _RangeOperations()
