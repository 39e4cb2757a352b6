import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import strategies
from cyclr.schedules import Chain, Clamp, from_dict, from_json, from_toml

EACH = pytest.mark.parametrize("cls", strategies.CLASSES)
STEPS = st.lists(st.one_of(st.integers(0, 400), st.integers(0, 2**40)), max_size=8)
SLACK = 1e-12  # of the largest value: what float64 may round


def moderately(examples):
    return settings(max_examples=examples, deadline=None)


def scalars(schedule, steps):
    return np.array([schedule(step) for step in steps])


def agree(values, expected, schedule, tolerance):
    allowed = tolerance * strategies.size(schedule)
    np.testing.assert_allclose(np.asarray(values), expected, rtol=tolerance, atol=allowed)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def jax():
    return pytest.importorskip("jax")


@EACH
@moderately(20)
@given(data=st.data())
def test_values_stay_within_the_bounds_that_the_fields_promise(cls, data):
    schedule = data.draw(strategies.STRATEGIES[cls])
    low, high = strategies.limits(schedule)
    slack = SLACK * strategies.size(schedule)
    values = scalars(schedule, strategies.probes(schedule, data.draw(STEPS)))
    assert low - slack <= values.min()
    assert values.max() <= high + slack


@moderately(40)
@given(schedule=strategies.schedules(), drawn=STEPS)
def test_nested_values_stay_within_the_bounds_that_the_fields_promise(schedule, drawn):
    low, high = strategies.limits(schedule)
    slack = SLACK * strategies.size(schedule)
    values = scalars(schedule, strategies.probes(schedule, drawn))
    assert low - slack <= values.min()
    assert values.max() <= high + slack


@moderately(30)
@given(schedule=strategies.clamp(), drawn=STEPS)
def test_a_clamp_keeps_its_bounds_without_any_rounding(schedule, drawn):
    values = scalars(schedule, strategies.probes(schedule, drawn))
    assert schedule.low <= values.min()
    assert values.max() <= schedule.high


@moderately(30)
@given(schedule=strategies.exponential_sweep(), drawn=STEPS)
def test_an_exponential_sweep_keeps_its_bounds_without_any_rounding(schedule, drawn):
    values = scalars(schedule, strategies.probes(schedule, drawn))
    low, high = sorted((schedule.start_lr, schedule.end_lr))
    assert low <= values.min()
    assert values.max() <= high


@moderately(40)
@given(
    schedule=st.one_of(
        strategies.triangular(),
        strategies.triangular2(),
        strategies.exp_range(),
        strategies.cyclical(),
    )
)
def test_every_cycle_ends_at_base(schedule):
    ends = schedule.cycle_ends(1000)
    assert ends == tuple(schedule.cycle_steps * (i + 1) for i in range(len(ends)))
    shrinks = getattr(schedule, "decay", None) == "bounds" and schedule.gamma is not None
    for end in ends:
        base = schedule.base_lr * (schedule.gamma**end if shrinks else 1.0)
        assert schedule(end) == pytest.approx(base, rel=1e-9, abs=1e-300)


@moderately(40)
@given(schedule=strategies.warm_restarts())
def test_every_restart_but_the_last_begins_at_its_peak(schedule):
    amplitude = schedule.max_lr - schedule.min_lr
    for i, end in enumerate(schedule.cycle_ends(1000), start=1):
        peak = schedule.min_lr + amplitude * schedule.peak_decay**i
        expected = schedule.min_lr if i == schedule.cycles else peak
        assert schedule(end) == pytest.approx(expected, rel=1e-9)


@EACH
@moderately(20)
@given(data=st.data())
def test_json_reads_back_the_same_schedule(cls, data):
    schedule = data.draw(strategies.STRATEGIES[cls])
    read = from_json(schedule.to_json())
    assert type(read) is cls
    assert read == schedule
    assert hash(read) == hash(schedule)
    assert read.to_json() == schedule.to_json()


@moderately(40)
@given(schedule=strategies.schedules())
def test_json_reads_back_nested_schedules(schedule):
    for read in (from_json(schedule.to_json()), from_dict(schedule.to_dict())):
        assert read == schedule
        assert hash(read) == hash(schedule)


@EACH
@moderately(15)
@given(data=st.data())
def test_a_numpy_array_gives_the_values_of_its_steps(cls, data):
    schedule = data.draw(strategies.STRATEGIES[cls])
    steps = strategies.probes(schedule, data.draw(STEPS))
    values = schedule(np.array(steps, dtype=np.int64))
    assert values.dtype == np.float64
    agree(values, scalars(schedule, steps), schedule, 1e-12)


@moderately(30)
@given(schedule=strategies.schedules(), drawn=STEPS)
def test_a_numpy_array_gives_the_values_of_nested_schedules(schedule, drawn):
    steps = strategies.probes(schedule, drawn)
    agree(schedule(np.array(steps)), scalars(schedule, steps), schedule, 1e-12)


@EACH
@moderately(15)
@given(data=st.data())
def test_a_torch_tensor_gives_the_values_of_its_steps(cls, data, torch):
    schedule = data.draw(strategies.STRATEGIES[cls])
    steps = strategies.probes(schedule, data.draw(STEPS))
    values = schedule(torch.tensor(steps, dtype=torch.int64))
    assert values.dtype == torch.float64
    agree(values, scalars(schedule, steps), schedule, 1e-12)


@moderately(30)
@given(schedule=strategies.schedules(), drawn=STEPS)
def test_a_torch_tensor_gives_the_values_of_nested_schedules(schedule, drawn, torch):
    steps = strategies.probes(schedule, drawn)
    values = schedule(torch.tensor(steps, dtype=torch.int64))
    agree(values, scalars(schedule, steps), schedule, 1e-12)


def jax_probes(schedule):
    """As many steps for every schedule, so that JAX compiles each operation once."""
    return np.resize([step for step in strategies.probes(schedule) if step < 2**24], 64)


@EACH
@moderately(6)
@given(data=st.data())
def test_a_jax_array_gives_the_values_of_its_steps(cls, data, jax):
    schedule = data.draw(strategies.STRATEGIES[cls])
    steps = jax_probes(schedule)
    values = schedule(jax.numpy.array(steps, dtype="int32"))
    assert values.dtype == "float32"
    agree(values, scalars(schedule, steps.tolist()), schedule, 1e-5)


@EACH
@moderately(3)
@given(data=st.data())
def test_a_traced_jax_array_gives_the_values_of_its_steps(cls, data, jax):
    schedule = data.draw(strategies.STRATEGIES[cls])
    steps = jax_probes(schedule)
    values = jax.jit(schedule)(jax.numpy.array(steps, dtype="int32"))
    assert values.dtype == "float32"
    agree(values, scalars(schedule, steps.tolist()), schedule, 1e-5)


@moderately(40)
@given(schedule=strategies.chain(strategies.schedules()))
def test_every_piece_of_a_chain_begins_exactly_at_its_boundary(schedule):
    starts = (0, *schedule.starts)
    for i, (piece, start) in enumerate(zip(schedule.schedules, starts, strict=True)):
        length = starts[i + 1] - start if i + 1 < len(starts) else 50
        for offset in {0, length // 2, length - 1}:
            assert schedule(start + offset) == piece(offset)


@moderately(30)
@given(parts=st.lists(strategies.one_cycle(), min_size=2, max_size=4))
def test_a_chain_without_boundaries_is_as_long_as_its_pieces(parts):
    chain = Chain(schedules=parts)
    assert chain.total_steps == sum(part.total_steps for part in parts)
    assert chain.cycle_ends()[-1] == chain.total_steps


ENDLESS = {
    strategies.StepDecay,
    strategies.MultiStep,
    strategies.ExponentialDecay,
    strategies.InverseDecay,
    strategies.InverseSqrt,
    strategies.Noam,
}


@pytest.mark.parametrize("cls", [cls for cls in strategies.CLASSES if cls not in ENDLESS])
@moderately(20)
@given(data=st.data())
def test_the_value_is_constant_after_the_end(cls, data):
    schedule = data.draw(
        strategies.STRATEGIES[cls].filter(lambda drawn: drawn.total_steps is not None)
    )
    end = schedule.total_steps
    last = schedule(end)
    assert [schedule(end + extra) for extra in (1, 2, 17, 10**6, 10**15)] == [last] * 5


@moderately(40)
@given(schedule=strategies.schedules(), drawn=STEPS)
def test_values_do_not_depend_on_earlier_calls(schedule, drawn):
    steps = strategies.probes(schedule, drawn)
    twin = from_json(schedule.to_json())
    forwards = [schedule(step) for step in steps]
    backwards = [twin(step) for step in reversed(steps)]
    assert forwards == backwards[::-1]
    assert [schedule(step) for step in steps] == forwards
    assert schedule == twin
    assert hash(schedule) == hash(twin)


@EACH
@moderately(15)
@given(data=st.data())
def test_replace_makes_any_schedule_of_its_class_from_any_other(cls, data):
    schedule = data.draw(strategies.STRATEGIES[cls])
    other = data.draw(strategies.STRATEGIES[cls])
    before = schedule.to_json()
    schedule(3)
    made = schedule.replace(**strategies.fields_of(other))
    assert made == other
    assert made.total_steps == other.total_steps
    assert [made(step) for step in (0, 5, 50)] == [other(step) for step in (0, 5, 50)]
    assert schedule.to_json() == before


@moderately(40)
@given(schedule=strategies.schedules(), until=st.integers(0, 700))
def test_cycle_ends_ascend_up_to_the_limit_and_a_lower_limit_only_cuts(schedule, until):
    ends = schedule.cycle_ends(until)
    assert list(ends) == sorted(set(ends))
    assert all(1 <= end <= until for end in ends)
    assert ends == tuple(end for end in schedule.cycle_ends(700) if end <= until)


@moderately(30)
@given(inner=strategies.elementary(), drawn=STEPS)
def test_a_clamp_wider_than_its_schedule_changes_nothing(inner, drawn):
    clamped = Clamp(schedule=inner, low=0.0, high=100.0)
    steps = strategies.probes(inner, drawn)
    assert [clamped(step) for step in steps] == [inner(step) for step in steps]
    assert clamped.total_steps == inner.total_steps


@moderately(60)
@given(schedule=strategies.schedules())
def test_toml_gives_the_same_schedule_back(schedule):
    assert from_toml(schedule.to_toml()) == schedule
