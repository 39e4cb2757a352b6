"""Curves in Braille dots, decoded again."""

import numpy as np
import pytest

from cyclr.report.terminal import chart

BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def _dots(lines: list[str]) -> dict[int, list[int]]:
    """Decode rows of Braille behind their labels: the dots' rows, from the top, by column."""
    found: dict[int, list[int]] = {}
    for y, line in enumerate(lines):
        for x, sign in enumerate(line[11:]):
            for column in range(2):
                for row in range(4):
                    if (ord(sign) - 0x2800) & BITS[column][row]:
                        found.setdefault(2 * x + column, []).append(4 * y + row)
    return found


@pytest.mark.parametrize("falling", [False, True])
def test_a_line_goes_from_corner_to_corner(falling: bool) -> None:
    values = [1.0, 0.0] if falling else [0.0, 1.0]
    lines = chart({"lr": {"": values}}, x_max=7, width=31, height=3).split("\n")
    dots = _dots(lines[1:4])
    assert sorted(dots) == list(range(40))  # 20 characters of two columns
    for column, rows in dots.items():
        height = values[0] + (values[1] - values[0]) * column / 39
        exact = (1 - height) * 11  # three characters of four rows, the first is the top
        assert len(rows) == 1
        assert abs(rows[0] - exact) <= 1.5
    assert dots[0] == ([0] if falling else [11])
    assert dots[39] == ([11] if falling else [0])


def test_a_jump_is_one_stroke() -> None:
    lines = chart({"lr": {"": [0.0] * 50 + [1.0] * 50}}, x_max=99, width=31, height=3).split("\n")
    rows = list(_dots(lines[1:4]).values())
    assert sum(len(found) > 2 for found in rows) == 1
    (stroke,) = [found for found in rows if len(found) > 2]
    assert max(stroke) - min(stroke) == len(stroke) - 1 >= 10
    assert all(found in ([0], [11], stroke) for found in rows)


def test_labels_name_the_extremes_and_the_axis() -> None:
    lines = chart({"lr": {"": [0.001, 0.25, 0.1]}}, x_max=1234, width=40, height=4).split("\n")
    assert lines[0] == "lr"
    assert [line[:10].strip() for line in lines[1:5]] == ["0.25", "", "", "0.001"]
    assert lines[5].split() == ["0", "1,234", "steps"]
    assert len(lines) == 6
    assert {len(line) for line in lines[1:]} == {40}


def test_several_curves_are_below_each_other_with_one_axis() -> None:
    drawn = chart({"lr": {"": [0, 1]}, "momentum": {"": [1, 0]}}, x_max=5, width=30, height=2)
    lines = drawn.split("\n")
    assert [lines[0], lines[3]] == ["lr", "momentum"]
    assert len(lines) == 7
    assert drawn.count("steps") == 1


def test_a_constant_curve_is_a_level_line() -> None:
    lines = chart({"lr": {"": np.full(3, 0.5)}}, x_max=2, width=31, height=3).split("\n")
    dots = _dots(lines[1:4])
    assert sorted(dots) == list(range(40))
    assert {tuple(rows) for rows in dots.values()} == {(6,)}


def test_curves_on_one_chart_share_its_scale_and_are_named() -> None:
    both = chart({"lr": {"low": [0.0, 0.0], "high": [1.0, 1.0]}}, x_max=1, width=31, height=3)
    name, low, high, top, middle, bottom, _ = both.split("\n")
    assert [name, low, high] == ["lr", "  low", "  high"]
    assert set(top[11:]) == {"⠉"}
    assert middle.strip("⠀ ") == ""
    assert set(bottom[11:]) == {"⣀"}
