import numpy as np
import pytest

from cyclr import Constant, OneCycle, Triangular
from cyclr.errors import SpecError


def test_a_schedule_is_drawn_over_its_length():
    schedule = OneCycle(max_lr=1.0, total_steps=50)
    (line,) = schedule.plot().lines
    assert line.get_xdata().tolist() == list(range(50))
    np.testing.assert_allclose(line.get_ydata(), schedule(np.arange(50)))
    assert line.get_label() == "one_cycle"


def test_several_are_drawn_on_one_axis():
    axes = OneCycle(max_lr=1.0, total_steps=50).plot(label="one")
    assert Constant(value=0.5).plot(steps=50, axes=axes, label="flat") is axes
    assert [line.get_label() for line in axes.lines] == ["one", "flat"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "flat"]


def test_the_drawing_can_be_saved(tmp_path):
    Triangular(base_lr=0.1, max_lr=1.0, stepsize=5).plot(steps=30).figure.savefig(
        tmp_path / "x.png"
    )
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_a_million_steps_are_sampled_with_both_ends():
    (line,) = OneCycle(max_lr=1.0, total_steps=1_000_000).plot().lines
    at = line.get_xdata()
    assert (at[0], at[-1]) == (0, 999_999)
    assert len(at) <= 2000


def test_an_endless_schedule_needs_a_length():
    with pytest.raises(SpecError, match=r"Triangular never ends; .* steps=<number>"):
        Triangular(base_lr=0.1, max_lr=1.0, stepsize=5).plot()
