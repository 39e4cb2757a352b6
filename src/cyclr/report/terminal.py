"""Curves in a terminal, in Braille dots: two columns and four rows of dots to a character."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_EMPTY = 0x2800
_MARGIN = 11
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # by column, then row from the top


def chart(
    curves: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    x_max: int,
    width: int = 64,
    height: int = 10,
    marks: Sequence[float] = (),
    axis: tuple[str, str] | None = None,
) -> str:
    """Draw curves over the same steps: one chart below the other, several curves on each.

    Args:
        curves: For each chart, by its name, the curves on it, by label: values at evenly spaced
            steps from 0 to x_max. Labels are shown where there is more than one.
        x_max: The last step, for the axis.
        width: Characters across, ≥ 16, labels included.
        height: Rows of each chart, ≥ 2.
        marks: Steps to point at below the charts, such as cycle ends.
        axis: What to write at the two ends of the axis; by default the steps.
    """
    blocks = [_one(name, members, width, height) for name, members in curves.items()]
    first, last = ("0", f"{x_max:,} steps") if axis is None else axis
    line = " " * _MARGIN + first + last.rjust(width - _MARGIN - len(first))
    return "\n".join([*blocks, *_pointers(marks, x_max, width), line])


def _pointers(marks: Sequence[float], x_max: int, width: int) -> list[str]:
    """Draw a row of pointers at some steps."""
    if not marks:
        return []
    row = [" "] * width
    for mark in marks:
        row[_MARGIN + round(mark / max(x_max, 1) * (width - _MARGIN - 1))] = "▲"
    return ["".join(row).rstrip()]


def _one(name: str, members: Mapping[str, Sequence[float]], width: int, height: int) -> str:
    arrays = [np.asarray(values, float) for values in members.values()]
    low = min(float(values.min()) for values in arrays)
    high = max(float(values.max()) for values in arrays)
    cells = np.full((height, width - _MARGIN), _EMPTY)
    for values in arrays:
        _draw(cells, values, low, high)
    lines = ["".join(map(chr, row)) for row in cells]
    labels = [f"{high:10.4g}", *[" " * 10] * (height - 2), f"{low:10.4g}"]
    drawn = [f"{label} {line}".rstrip() for label, line in zip(labels, lines, strict=True)]
    legend = [f"  {label}" for label in members] if len(members) > 1 else []
    return "\n".join([name, *legend, *drawn])


def _draw(cells: Any, values: Any, low: float, high: float) -> None:
    """Set the dots of one curve, with vertical strokes where it is steep."""
    rows, columns = 4 * cells.shape[0], 2 * cells.shape[1]
    at = np.linspace(0, values.size - 1, columns)
    sampled = np.interp(at, np.arange(values.size), values)
    scale = (rows - 1) / (high - low) if high > low else 0.0
    level = np.rint((high - sampled) * scale).astype(int) if scale else np.full(columns, rows // 2)
    for column in range(columns):
        # A stroke from the column before keeps steep legs in one piece.
        now, before = int(level[column]), int(level[max(column - 1, 0)])
        first, last = (before + 1, now) if now > before else (now, max(now, before - 1))
        for row in range(first, last + 1):
            cells[row // 4, column // 2] |= _DOTS[column % 2][row % 4]
