import math

import numpy as np
import pytest

import strategies
from cyclr.schedules import (
    Chain,
    Constant,
    CosineSweep,
    Cyclical,
    LinearSweep,
    OneCycle,
    Rex,
    Triangular,
    WarmRestarts,
    WarmupStableDecay,
)
from cyclr.schedules.arrays import SCALAR, ArrayOperations, NumpyOperations


def numpy_steps(steps, dtype="int64"):
    return np.array(steps, dtype=dtype)


def torch_steps(steps, dtype="int64"):
    torch = pytest.importorskip("torch")
    return torch.tensor(steps, dtype=getattr(torch, dtype))


def jax_steps(steps, dtype="int32"):
    jnp = pytest.importorskip("jax.numpy")
    return jnp.array(steps, dtype=dtype)


MAKERS = pytest.mark.parametrize("make", [numpy_steps, torch_steps, jax_steps])
NARROW = pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (make, dtype)
        for make in (numpy_steps, torch_steps, jax_steps)
        for dtype in ("uint8", "int8")
    ],
)


def operations(make):
    return [SCALAR, ArrayOperations(make([0]))]


@MAKERS
def test_minimum_and_maximum_take_numbers_on_either_side(make):
    x = make([1, 2, 3])
    ops = ArrayOperations(x)
    assert ops.minimum(x, 2).tolist() == [1, 2, 2]
    assert ops.minimum(2, x).tolist() == [1, 2, 2]
    assert ops.maximum(x, 2).tolist() == [2, 2, 3]
    assert ops.maximum(2, x).tolist() == [2, 2, 3]
    assert (SCALAR.minimum(1, 2), SCALAR.maximum(1, 2)) == (1, 2)


@MAKERS
def test_where_takes_numbers_and_arrays(make):
    x = make([1, 2, 3])
    assert ArrayOperations(x).where(x > 1, x, 0).tolist() == [0, 2, 3]
    assert [SCALAR.where(step > 1, step, 0) for step in (1, 2, 3)] == [0, 2, 3]


@MAKERS
def test_passed_counts_the_boundaries_at_or_below_a_step(make):
    x = make([0, 9, 10, 11, 30, 99])
    counts = [0, 0, 1, 1, 2, 2]
    assert ArrayOperations(x).passed((10, 30), x).tolist() == counts
    assert [SCALAR.passed((10, 30), step) for step in x.tolist()] == counts


@MAKERS
def test_passed_ignores_boundaries_beyond_the_integer_type(make):
    x = make([0, 10])
    assert ArrayOperations(x).passed((10, 2**62, 2**70), x).tolist() == [0, 1]


@MAKERS
def test_pick_keeps_whole_tables_whole_and_answers_in_the_shape_of_the_index(make):
    index = make([[0, 1], [1, 2]])
    ops = ArrayOperations(index)
    whole = ops.pick((5, 6, 7), index)
    assert whole.tolist() == [[5, 6], [6, 7]]
    assert whole.dtype == index.dtype
    assert ops.pick((0.5, 1, 2), index).tolist() == [[0.5, 1.0], [1.0, 2.0]]
    assert SCALAR.pick((5, 6, 7), 2) == 7


@MAKERS
def test_exp_is_that_of_the_namespace(make):
    ops = ArrayOperations(make([0]))
    x = ops.as_float(make([0, 1, 3]))
    assert ops.exp(x).tolist() == pytest.approx([math.exp(k) for k in (0, 1, 3)], rel=1e-6)
    assert SCALAR.exp(1) == math.exp(1)


def half_cosine(make, u):
    ops = (NumpyOperations if make is numpy_steps else ArrayOperations)(make([1]))
    return float(ops.half_cosine(ops.as_float(make([1])) * u)[0])


@MAKERS
def test_the_half_cosine_is_exact_at_its_ends_and_precise_where_it_is_small(make):
    assert [half_cosine(make, u) for u in (0.0, 1.0)] == [0.0, 1.0]
    assert [SCALAR.half_cosine(u) for u in (0.0, 1.0)] == [0.0, 1.0]
    for u in (1e-4, 0.01, 0.25, 0.5, 0.9):
        expected = pytest.approx(0.5 - 0.5 * math.cos(math.pi * u), rel=5e-7)
        assert half_cosine(make, u) == expected
        assert SCALAR.half_cosine(u) == expected


@pytest.mark.parametrize("cls", strategies.CLASSES)
@pytest.mark.parametrize(
    ("make", "dtype", "answer"),
    [
        (numpy_steps, "int64", "float64"),
        (numpy_steps, "int32", "float64"),
        (numpy_steps, "float32", "float32"),
        (numpy_steps, "float64", "float64"),
        (torch_steps, "int64", "torch.float64"),
        (torch_steps, "int32", "torch.float64"),
        (torch_steps, "float32", "torch.float32"),
        (jax_steps, "int32", "float32"),
        (jax_steps, "float32", "float32"),
    ],
)
def test_arrays_keep_their_kind_shape_and_precision(cls, make, dtype, answer):
    example = strategies.EXAMPLES[cls]
    steps = make([[0, 5, 10], [20, 47, 120]], dtype)
    values = example(steps)
    assert type(values) is type(steps)
    assert str(values.dtype) == answer
    assert values.shape == steps.shape
    expected = [[example(step) for step in row] for row in [[0, 5, 10], [20, 47, 120]]]
    np.testing.assert_allclose(np.asarray(values), expected, rtol=2e-6)


@pytest.mark.parametrize("cls", strategies.CLASSES)
@MAKERS
def test_an_array_without_dimensions_and_an_empty_one_are_answered(cls, make):
    example = strategies.EXAMPLES[cls]
    single = example(make(10))
    assert single.shape == ()
    assert float(single) == pytest.approx(example(10), rel=1e-6)
    assert example(make([])[:0].astype("int64") if make is numpy_steps else make([])).shape == (0,)


WIDE = {
    "cycle": Triangular(base_lr=0.1, max_lr=1.0, stepsize=150),
    "restarts": WarmRestarts(max_lr=1.0, period=7, multiplier=3, cycles=6),
    "equal restarts": WarmRestarts(max_lr=1.0, period=200),
    "one-cycle": OneCycle(max_lr=1.0, total_steps=1000),
    "sweep": LinearSweep(start_lr=0.0, end_lr=1.0, steps=1000),
    "chain": Chain(
        schedules=(LinearSweep(start_lr=0.0, end_lr=1.0, steps=100), Constant(value=2.0)),
        boundaries=(300,),
    ),
}


@pytest.mark.parametrize("schedule", WIDE.values(), ids=WIDE)
@NARROW
def test_narrow_integers_do_not_wrap_around(schedule, make, dtype):
    steps = [0, 1, 7, 28, 91, 100, 127]
    values = np.asarray(schedule(make(steps, dtype)))
    expected = [schedule(step) for step in steps]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


HUGE = {
    "stepsize": Triangular(base_lr=0.1, max_lr=1.0, stepsize=2**33),
    "cycles": Triangular(base_lr=0.1, max_lr=1.0, stepsize=8, cycles=2**40),
    "period": WarmRestarts(max_lr=1.0, period=2**33),
    "growing periods": WarmRestarts(max_lr=1.0, period=1000, multiplier=2),
    "growing periods with an end": WarmRestarts(max_lr=1.0, period=1000, multiplier=2, cycles=40),
    "a period that begins within the type and ends beyond it": WarmRestarts(
        max_lr=1.0, period=10, multiplier=3
    ),
    "one-cycle": OneCycle(max_lr=1.0, total_steps=2**33),
    "sweep": LinearSweep(start_lr=1.0, end_lr=0.0, steps=2**33),
    "chain": Chain(schedules=(Constant(value=1.0), Constant(value=2.0)), boundaries=(2**33,)),
}


@pytest.mark.parametrize("schedule", HUGE.values(), ids=HUGE)
@pytest.mark.parametrize(
    ("make", "dtype"), [(numpy_steps, "int32"), (torch_steps, "int32"), (jax_steps, "int32")]
)
def test_a_schedule_may_be_longer_than_the_integer_type_of_its_steps(schedule, make, dtype):
    steps = [0, 1, 8, 1000, 10**6, 2 * 10**9]
    values = np.asarray(schedule(make(steps, dtype)))
    expected = [schedule(step) for step in steps]
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


FAR = 2**24  # from here on float32 cannot hold every whole number
BEYOND = {
    "cycle": (
        Triangular(base_lr=0.1, max_lr=1.0, stepsize=5),
        {10 * FAR: 0.1, 10 * FAR + 1: 0.28, 10 * FAR + 5: 1.0, 10 * FAR + 9: 0.28},
    ),
    "restarts": (
        WarmRestarts(max_lr=1.0, min_lr=0.5, period=2),
        {2 * FAR: 1.0, 2 * FAR + 1: 0.75, 2 * FAR + 2: 1.0},
    ),
    "growing restarts": (
        WarmRestarts(max_lr=1.0, min_lr=0.5, period=10, multiplier=3),
        {5 * (3**15 - 1) - 1: 0.5, 5 * (3**15 - 1): 1.0},
    ),
    "chain": (
        Chain(
            schedules=(Constant(value=2.0), LinearSweep(start_lr=1.0, end_lr=0.5, steps=6)),
            boundaries=(FAR + 1,),
        ),
        {FAR: 2.0, FAR + 1: 1.0, FAR + 2: 0.9, FAR + 5: 0.6, FAR + 6: 0.5},
    ),
    "one-cycle": (
        OneCycle(max_lr=1.0, base_lr=0.6, final_lr=0.1, total_steps=2 * FAR + 11, stepsize=FAR),
        {2 * FAR - 1: 0.6, 2 * FAR: 0.6, 2 * FAR + 1: 0.55, 2 * FAR + 5: 0.35, 2 * FAR + 10: 0.1},
    ),
    "short legs in a long one-cycle": (
        OneCycle(
            max_lr=1.0,
            base_lr=0.5,
            final_lr=0.0,
            total_steps=FAR + 21,
            stepsize=FAR + 10,
            phases="two",
        ),
        {FAR + 10: 1.0, FAR + 11: 0.9, FAR + 15: 0.5, FAR + 20: 0.0},
    ),
}


@pytest.mark.parametrize(("schedule", "curve"), BEYOND.values(), ids=BEYOND)
@MAKERS
def test_boundaries_are_exact_where_float32_cannot_count(schedule, curve, make):
    steps, values = [*curve], [*curve.values()]
    assert [schedule(step) for step in steps] == pytest.approx(values, rel=1e-6)
    assert np.asarray(schedule(make(steps))).tolist() == pytest.approx(values, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_unsigned_numpy_steps_agree_with_signed_ones(dtype):
    for example in strategies.EXAMPLES.values():
        steps = np.arange(120)
        assert example(steps.astype(dtype)).tolist() == example(steps).tolist()


LONG = {
    "down a line": LinearSweep(start_lr=1.0, end_lr=0.0, steps=10_000),
    "up a line": LinearSweep(start_lr=0.0, end_lr=1.0, steps=10_000),
    "down a cosine": CosineSweep(start_lr=1.0, end_lr=0.0, steps=10_000),
    "up a cosine": CosineSweep(start_lr=0.0, end_lr=1.0, steps=10_000),
    "one-cycle": OneCycle(max_lr=1.0, total_steps=10_000),
    "one-cycle, two cosines": OneCycle(
        max_lr=1.0, base_lr=0.04, final_lr=4e-6, total_steps=10_000, anneal="cosine", phases="two"
    ),
    "restarts": WarmRestarts(max_lr=1.0, period=1000, multiplier=2),
    "equal restarts": WarmRestarts(max_lr=1.0, period=1000),
    "hann": Cyclical(base_lr=0.0, max_lr=1.0, stepsize=1000, window="hann"),
    "welch": Cyclical(base_lr=0.0, max_lr=1.0, stepsize=1000, window="welch"),
    "1-sqrt": WarmupStableDecay(max_lr=1.0, total_steps=10_000, decay_steps=5000, decay="1-sqrt"),
    "cosine cooldown": WarmupStableDecay(
        max_lr=1.0, total_steps=10_000, decay_steps=5000, decay="cosine"
    ),
    "rex": Rex(max_lr=1.0, total_steps=10_000),
}


@pytest.mark.parametrize("schedule", LONG.values(), ids=LONG)
def test_small_rates_are_precise_in_32_bits_too(schedule):
    """To a millionth of the value itself, not of the largest."""
    steps = np.arange(10_100)
    expected = np.array([schedule(int(step)) for step in steps])
    np.testing.assert_allclose(schedule(steps), expected, rtol=1e-14)
    np.testing.assert_allclose(schedule(torch_steps(range(10_100))), expected, rtol=1e-14)
    np.testing.assert_allclose(schedule(jax_steps(range(10_100))), expected, rtol=1e-6)
    jit = pytest.importorskip("jax").jit(schedule)
    np.testing.assert_allclose(jit(jax_steps(range(10_100))), expected, rtol=1e-6)


def test_fractional_steps_interpolate():
    assert Triangular(base_lr=0.0, max_lr=1.0, stepsize=10)(np.array([2.5])).tolist() == [0.25]
    assert LinearSweep(start_lr=0.0, end_lr=1.0, steps=11)(np.array([2.5])).tolist() == [0.25]
