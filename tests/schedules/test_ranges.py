"""Consecutive steps, which are evaluated without masks, against scattered ones and numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from cyclr.schedules import (
    Chain,
    Constant,
    LinearSweep,
    MultiStep,
    OneCycle,
    Triangular2,
    WarmRestarts,
    ranges,
)


def scattered(schedule, steps):
    """The values of the same steps, in an order that gives no two neighbours."""
    order = np.argsort(np.arange(steps.size) % 7, kind="stable")
    values = np.empty(steps.size)
    values[order] = schedule(steps[order])
    return values


def agree(schedule, first, length):
    steps = np.arange(first, first + length)
    values = schedule(steps)
    size = strategies.size(schedule)
    np.testing.assert_allclose(values, scattered(schedule, steps), rtol=1e-13, atol=1e-13 * size)
    picked = np.unique(np.linspace(0, length - 1, 40).astype(int))
    numbers = [schedule(first + int(k)) for k in picked]
    np.testing.assert_allclose(values[picked], numbers, rtol=1e-13, atol=1e-13 * size)


FIRST = st.one_of(st.just(0), st.integers(0, 500), st.integers(0, 2**62))


@pytest.mark.parametrize("cls", strategies.CLASSES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_consecutive_steps_have_the_values_of_scattered_ones(cls, data):
    schedule = data.draw(strategies.STRATEGIES[cls])
    agree(schedule, data.draw(FIRST), data.draw(st.integers(1, 400)))


@settings(max_examples=60, deadline=None)
@given(schedule=strategies.schedules(), first=FIRST, length=st.integers(1, 400))
def test_nested_schedules_agree_too(schedule, first, length):
    agree(schedule, first, length)


LONG = {
    "long cycles": Triangular2(base_lr=0.001, max_lr=0.1, stepsize=2000),
    "short cycles": Triangular2(base_lr=0.001, max_lr=0.1, stepsize=3),
    "one-cycle": OneCycle(max_lr=0.1, total_steps=50_000, anneal="cosine", phases="two"),
    "growing restarts": WarmRestarts(max_lr=0.1, period=10, multiplier=1.5, peak_decay=0.9),
    "a thousand restarts": WarmRestarts(max_lr=0.1, period=10, multiplier=1.001),
    "a thousand drops": MultiStep(max_lr=1.0, factor=0.999, boundaries=tuple(range(5, 40_000, 40))),
    "a thousand pieces": Chain(
        schedules=tuple(
            LinearSweep(start_lr=k % 7, end_lr=k % 5, steps=k % 50 + 2) for k in range(1000)
        )
    ),
}


@pytest.mark.parametrize("schedule", LONG.values(), ids=LONG)
def test_long_arrays_are_taken_in_pieces(schedule):
    agree(schedule, 0, 60_000)
    agree(schedule, 12_345, ranges._CHUNK + 1)


def test_steps_that_only_begin_consecutively_are_noticed():
    schedule = LinearSweep(start_lr=0.0, end_lr=9.0, steps=10)
    for steps in ([0, 1, 2, 5, 4], [4, 3, 2, 1, 0], [0, 0, 1, 3, 4], [0, 2, 2, 2, 4], [7]):
        assert schedule(np.array(steps)).tolist() == pytest.approx(steps)


def test_the_shape_is_kept():
    schedule = LinearSweep(start_lr=0.0, end_lr=9.0, steps=10)
    steps = np.arange(10).reshape(2, 5)
    assert schedule(steps).tolist() == [pytest.approx(row) for row in steps.tolist()]
    assert schedule(steps.T).tolist() == [pytest.approx(row) for row in steps.T.tolist()]
    assert schedule(steps[:, ::2]).tolist() == [
        pytest.approx(row) for row in [[0, 2, 4], [5, 7, 9]]
    ]


def test_a_chain_asks_only_the_piece_in_force(monkeypatch):
    """Of many pieces, the others cost nothing."""
    asked = []
    original = Constant._value

    def noting(self, ops, step):
        asked.append(self.value)
        return original(self, ops, step)

    monkeypatch.setattr(Constant, "_value", noting)
    chain = Chain(schedules=tuple(Constant(value=k, steps=10) for k in range(50)))
    assert chain(255) == 25.0
    assert asked == [25.0]
    assert chain(np.arange(255, 265)).tolist() == [25.0] * 5 + [26.0] * 5
    assert asked == [25.0, 25.0, 26.0]
