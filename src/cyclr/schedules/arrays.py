"""The operations a schedule's formula may use, for Python numbers and for arrays.

A formula is written once against the :class:`Operations` protocol. Python numbers go through
:data:`SCALAR`, which is ``math`` and costs no array; NumPy, torch and JAX arrays go through
:class:`ArrayOperations`. Both branches of :meth:`~Operations.where` are evaluated, so a formula
must stay finite on the branch that is not taken.

Positions within a cycle are computed on the integer step and only then converted to floating
point. That keeps every boundary exact for steps far beyond 2**24, where a float32 step is not.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

# Formulas are generic over the array type, which Python's type system cannot name.
Value = Any

_QUARTER = 0.5 * math.pi  # of a turn


class Operations(Protocol):
    """What a formula may call besides arithmetic and comparison operators."""

    def as_float(self, x: Value) -> Value:
        """Convert an integer step or position to floating point."""

    def where(self, condition: Value, then: Value, otherwise: Value) -> Value:
        """Choose elementwise; both choices are evaluated."""

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller of two values, elementwise."""

    def split(self, step: Value, length: int) -> tuple[Value, Value]:
        """Divide by a length: how many whole ones, and what remains."""

    def since(self, step: Value, start: int) -> Value:
        """Count the steps since a start; 0 before it."""

    def until(self, end: int, step: Value) -> Value:
        """Count the steps left to an end as floating point; negative after it."""

    def reached(self, step: Value, start: int) -> Value:
        """Say whether the step is at or past a start."""

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger of two values, elementwise."""

    def half_cosine(self, u: Value) -> Value:
        """Return ½ (1 − cos πu) for u in [0, 1]: 0 at 0, 1 at 1, level at both ends.

        Computed as sin²(πu/2), which keeps its relative precision where it is small, in 32 bits
        too. Formulas hand it what is left of a way down, rather than subtract it from 1.
        """

    def exp(self, x: Value) -> Value:
        """Return e to the power x."""

    def passed(self, boundaries: Sequence[int], step: Value) -> Value:
        """Count the boundaries (ascending) at or below the step."""

    def pick(self, table: Sequence[float], index: Value) -> Value:
        """Look an index up in a table."""

    def segment(self, starts: Sequence[int], step: Value) -> tuple[Value, Value]:
        """Find the last of the starts (ascending, from 0) at or below the step.

        Returns:
            Its index, and how many steps have passed since.
        """

    def within(self, starts: Sequence[int], step: Value) -> int | None:
        """Say at which of the starts (ascending, from 0) the segment of all steps begins.

        Returns:
            Its index; None when the steps may lie in several segments.
        """


class _ScalarOperations:
    """Python numbers, through ``math``."""

    as_float = float
    minimum = staticmethod(min)
    maximum = staticmethod(max)
    exp = staticmethod(math.exp)
    passed = staticmethod(bisect_right)
    split = staticmethod(divmod)

    @staticmethod
    def half_cosine(u: float) -> float:
        sine = math.sin(_QUARTER * u)
        return sine * sine

    @staticmethod
    def segment(starts: Sequence[int], step: int) -> tuple[int, int]:
        index = bisect_right(starts, step) - 1
        return index, step - starts[index]

    @staticmethod
    def within(starts: Sequence[int], step: int) -> int | None:
        return bisect_right(starts, step) - 1

    @staticmethod
    def since(step: int, start: int) -> int:
        return max(step - start, 0)

    @staticmethod
    def until(end: int, step: int) -> float:
        return float(end - step)

    @staticmethod
    def reached(step: int, start: int) -> bool:
        return step >= start

    @staticmethod
    def where(condition: bool, then: float, otherwise: float) -> float:
        return then if condition else otherwise

    @staticmethod
    def pick(table: Sequence[float], index: int) -> float:
        return table[index]


SCALAR: Operations = _ScalarOperations()


class ArrayOperations:
    """Arrays of one namespace, with the device and precision of the steps they were made for.

    JAX counts in 32 bits unless told otherwise, and a schedule may be longer than that; whole
    numbers that the steps' type cannot hold are therefore handled apart. No step can reach them.
    """

    def __init__(self, steps: Value) -> None:
        self._xp, self._float, self._device = _namespace(steps)
        whole = self._xp.isdtype(steps.dtype, "integral")
        self._top = int(self._xp.iinfo(steps.dtype).max) if whole else math.inf

    def half_cosine(self, u: Value) -> Value:
        """Return ½ (1 − cos πu), as a square."""
        sine = self._xp.sin(_QUARTER * u)
        return sine * sine

    def exp(self, x: Value) -> Value:
        """Return e to the power x."""
        return self._xp.exp(x)

    def segment(self, starts: Sequence[int], step: Value) -> tuple[Value, Value]:
        """Find each step's segment; the difference is taken in whole numbers."""
        index = self.passed(starts[1:], step)
        return index, step - self.pick(starts, index)

    def within(self, _starts: Sequence[int], _step: Value) -> int | None:
        """Leave it open: a traced array cannot be looked into."""
        return None

    def as_float(self, x: Value) -> Value:
        """Convert to the precision chosen for these steps."""
        return self._xp.astype(x, self._float)

    def where(self, condition: Value, then: Value, otherwise: Value) -> Value:
        """Choose elementwise; Python numbers take the other choice's type."""
        return self._xp.where(condition, then, otherwise)

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller, where either may be a Python number."""
        if isinstance(b, int) and b > self._top:
            return a
        return self._xp.where(a < b, a, b)

    def split(self, step: Value, length: int) -> tuple[Value, Value]:
        """Divide with a whole quotient; the remainder is exact."""
        if length > self._top:
            return 0 * step, step
        quotient = step // length
        return quotient, step - quotient * length

    def since(self, step: Value, start: int) -> Value:
        """Count from a start; a start that no step reaches gives 0."""
        return 0 * step if start > self._top else self.maximum(step - start, 0)

    def until(self, end: int, step: Value) -> Value:
        """Subtract in whole numbers, where they fit, before converting."""
        if end > self._top:
            return float(end) - self.as_float(step)
        return self.as_float(end - step)

    def reached(self, step: Value, start: int) -> Value:
        """Compare; a start that no step reaches is reached by none."""
        return step != step if start > self._top else step >= start

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger, where either may be a Python number."""
        return self._xp.where(a > b, a, b)

    def passed(self, boundaries: Sequence[int], step: Value) -> Value:
        """Count the boundaries at or below each step.

        Boundaries beyond the step's integer type are dropped: no such step can reach them.
        """
        boundaries = [b for b in boundaries if b <= self._top]
        table = self._xp.asarray(boundaries, dtype=step.dtype, device=self._device)
        return self._xp.searchsorted(table, step, side="right")

    def pick(self, table: Sequence[float], index: Value) -> Value:
        """Look indices up; a table of ints stays integral, anything else is floating point."""
        whole = all(isinstance(entry, int) for entry in table)
        if whole:
            top = int(self._xp.iinfo(index.dtype).max)
            # Whole entries past a 32-bit index type belong to steps that such a type cannot hold.
            table = [min(entry, top) for entry in table]
        values = self._xp.asarray(
            table, dtype=index.dtype if whole else self._float, device=self._device
        )
        flat = self._xp.reshape(index, (-1,))
        return self._xp.reshape(self._xp.take(values, flat, axis=0), index.shape)


def widened(steps: Value) -> Value:
    """Give whole steps the widest type of their namespace; narrow ones overflow in formulas."""
    if isinstance(steps, np.ndarray):
        return steps.astype(np.int64, copy=False) if steps.dtype.kind in "iu" else steps
    from array_api_compat import array_namespace, is_jax_array

    xp = array_namespace(steps)
    if not xp.isdtype(steps.dtype, "integral"):
        return steps
    return xp.astype(steps, xp.asarray(0).dtype if is_jax_array(steps) else xp.int64)


def _namespace(steps: Value) -> tuple[Any, Any, Any]:
    """Find the array namespace, the floating-point type to answer in, and the device."""
    if isinstance(steps, np.ndarray):
        # NumPy is its own array-API namespace; asking for it would import the compat layer.
        floating = np.issubdtype(steps.dtype, np.floating)
        return _NUMPY, steps.dtype if floating else np.float64, None
    from array_api_compat import array_namespace, device, is_jax_array

    xp = array_namespace(steps)
    where = None if is_jax_array(steps) else device(steps)
    if xp.isdtype(steps.dtype, "real floating"):
        return xp, steps.dtype, where
    if is_jax_array(steps):
        # float32 unless the user enabled x64; asking for float64 would only warn.
        return xp, xp.asarray(0.0).dtype, where
    # Apple's GPUs have no float64.
    return xp, xp.float32 if "mps" in str(where) else xp.float64, where


class NumpyOperations(ArrayOperations):
    """NumPy's own minimum and maximum: one pass each, where the general form takes two."""

    def minimum(self, a: Value, b: Value) -> Value:
        """Return the smaller, elementwise."""
        return a if isinstance(b, int) and b > self._top else np.minimum(a, b)

    def maximum(self, a: Value, b: Value) -> Value:
        """Return the larger, elementwise."""
        return np.maximum(a, b)

    def half_cosine(self, u: Value) -> Value:
        """Return ½ (1 − cos πu) by sin² = tan² / (1 + tan²).

        NumPy computes the tangent of many numbers at once, and sines one after another.
        """
        square = np.square(np.tan(_QUARTER * u))
        return square / (1.0 + square)

    def passed(self, boundaries: Sequence[int], step: Value) -> Value:
        """Count boundaries, converting only those among the steps."""
        if step.size == 0:
            return super().passed((), step)
        low, high = (bisect_right(boundaries, end) for end in (step.min(), step.max()))
        return low + np.searchsorted(np.asarray(boundaries[low:high]), step, side="right")

    def pick(self, table: Sequence[float], index: Value) -> Value:
        """Look indices up, converting only the part of the table that they span."""
        if index.size == 0:
            return super().pick(table[:1], index)
        low, high = int(index.min()), int(index.max())
        return super().pick(table[low : high + 1], index - low)


class _NumpyNamespace:
    """NumPy's functions under their array-API names, for NumPy 1.26 as well as 2."""

    where = staticmethod(np.where)
    sin = staticmethod(np.sin)
    exp = staticmethod(np.exp)
    searchsorted = staticmethod(np.searchsorted)
    iinfo = staticmethod(np.iinfo)
    take = staticmethod(np.take)
    reshape = staticmethod(np.reshape)

    @staticmethod
    def astype(x: Value, dtype: Any) -> Value:
        return np.asarray(x).astype(dtype)

    @staticmethod
    def asarray(x: Value, *, dtype: Any, device: None) -> Value:
        assert device is None
        return np.asarray(x, dtype=dtype)

    @staticmethod
    def isdtype(dtype: Any, kind: str) -> bool:
        return np.issubdtype(dtype, np.integer if kind == "integral" else np.floating)


_NUMPY = _NumpyNamespace()
