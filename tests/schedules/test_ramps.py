import numpy as np
import pytest

from cyclr.errors import SpecError
from cyclr.schedules import Constant, CosineSweep, ExponentialSweep, LinearSweep


def test_a_constant_is_the_same_at_every_step():
    schedule = Constant(value=0.1)
    assert [schedule(step) for step in (0, 1, 10**12)] == [0.1] * 3
    assert schedule(np.arange(3)).tolist() == [0.1] * 3
    assert schedule.total_steps is None


def test_a_constant_may_have_a_length():
    schedule = Constant(value=0.0, steps=7)
    assert schedule.total_steps == 7
    assert schedule.cycle_ends() == (7,)
    assert schedule.cycle_ends(6) == ()
    assert [schedule(step) for step in (0, 6, 7, 100)] == [0.0] * 4


@pytest.mark.parametrize(
    ("cls", "bounds", "with_endpoint", "without_endpoint"),
    [
        (LinearSweep, (0.0, 1.0), [0.0, 0.25, 0.5, 0.75, 1.0], [0.0, 0.2, 0.4, 0.6, 0.8]),
        (LinearSweep, (1.0, 0.0), [1.0, 0.75, 0.5, 0.25, 0.0], [1.0, 0.8, 0.6, 0.4, 0.2]),
        (
            ExponentialSweep,
            (1e-4, 1.0),
            [1e-4, 1e-3, 1e-2, 1e-1, 1.0],
            [1e-4, 10**-3.2, 10**-2.4, 10**-1.6, 10**-0.8],
        ),
        (
            ExponentialSweep,
            (16.0, 1.0),
            [16.0, 8.0, 4.0, 2.0, 1.0],
            [16.0, 2**3.2, 2**2.4, 2**1.6, 2**0.8],
        ),
        (
            CosineSweep,
            (1.0, 0.0),
            [1.0, 0.853553390593274, 0.5, 0.146446609406726, 0.0],
            [1.0, 0.904508497187474, 0.654508497187474, 0.345491502812526, 0.095491502812526],
        ),
        (
            CosineSweep,
            (0.2, 0.4),
            [0.2, 0.229289321881345, 0.3, 0.370710678118655, 0.4],
            [0.2, 0.219098300562505, 0.269098300562505, 0.330901699437495, 0.380901699437495],
        ),
    ],
)
def test_a_sweep_runs_through_its_values_and_holds_the_last(
    cls, bounds, with_endpoint, without_endpoint
):
    start, end = bounds
    sweep = cls(start_lr=start, end_lr=end, steps=5)
    assert [sweep(step) for step in range(5)] == pytest.approx(with_endpoint, abs=1e-12)
    assert [sweep(step) for step in (5, 6, 10**9)] == pytest.approx([end] * 3, abs=1e-12)
    assert sweep.total_steps == 5
    open_ended = sweep.replace(endpoint=False)
    assert [open_ended(step) for step in range(5)] == pytest.approx(without_endpoint, abs=1e-12)
    assert [open_ended(step) for step in (5, 6, 10**9)] == pytest.approx([end] * 3, abs=1e-12)
    assert open_ended.total_steps == 5


@pytest.mark.parametrize("cls", [LinearSweep, CosineSweep])
@pytest.mark.parametrize(("start", "end"), [(0.1, 0.7), (0.7, 0.1), (1e-9, 3.3)])
def test_both_ends_are_met_without_rounding(cls, start, end):
    sweep = cls(start_lr=start, end_lr=end, steps=1000)
    assert (sweep(0), sweep(999), sweep(1000)) == (start, end, end)


def test_an_exponential_sweep_never_leaves_its_bounds():
    for end in np.geomspace(2e-6, 10.0, 200).tolist():
        sweep = ExponentialSweep(start_lr=1e-6, end_lr=end, steps=3)
        assert 1e-6 <= sweep(0) < sweep(1) < sweep(2) <= end
        assert sweep(2) == pytest.approx(end, rel=1e-13)


@pytest.mark.parametrize("cls", [LinearSweep, ExponentialSweep, CosineSweep])
def test_one_step_holds_one_value(cls):
    level = cls(start_lr=0.5, end_lr=0.5, steps=1)
    assert [level(step) for step in (0, 1, 5)] == pytest.approx([0.5] * 3, rel=1e-15)
    open_ended = cls(start_lr=0.5, end_lr=1.0, steps=1, endpoint=False)
    assert [open_ended(step) for step in (0, 1, 5)] == pytest.approx([0.5, 1.0, 1.0], rel=1e-15)
    with pytest.raises(SpecError) as caught:
        cls(start_lr=0.5, end_lr=1.0, steps=1)
    assert str(caught.value) == (
        f"{cls.__name__}.steps must be an int ≥ 2 with endpoint=True, got 1; "
        "one value cannot be both ends"
    )


@pytest.mark.parametrize("field", ["start_lr", "end_lr"])
def test_an_exponential_sweep_cannot_touch_zero(field):
    rates = {"start_lr": 0.1, "end_lr": 1.0, field: 0.0}
    with pytest.raises(SpecError, match=rf"^ExponentialSweep\.{field} must be .* > 0, got 0\.0;"):
        ExponentialSweep(**rates, steps=5)
