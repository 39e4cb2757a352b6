"""What claims read off results."""

import copy
import math

import pytest

from cyclr.errors import RecordError
from cyclr.experiments.quantities import QUANTITIES
from experiments.paper_runs import sweep_result


def test_bounds_are_those_of_the_reading() -> None:
    low, high = (QUANTITIES[name].read(sweep_result()) for name in ("base_lr", "max_lr"))
    assert 0.0005 < low < 0.002 < 0.004 < high < 0.008


def test_a_sweep_that_diverged_at_once_has_no_bounds() -> None:
    lost = copy.deepcopy(sweep_result())
    lost["curve"] |= {"loss": ["nan"], "evaluations": lost["curve"]["evaluations"][:1]}
    with pytest.raises(RecordError):
        QUANTITIES["max_lr"].read(lost)
    lost["outcome"] = "diverged"
    assert math.isnan(QUANTITIES["max_lr"].read(lost))
    assert math.isnan(QUANTITIES["base_lr"].read(lost))


@pytest.mark.parametrize(
    ("last", "gain"), [([0.5, 0.51, 0.54], 4.0), ([0.5, 0.52], 2.0), ([0.5], 0.0)]
)
def test_the_gain_of_an_ensemble_is_over_the_last_snapshot(last: list[float], gain: float) -> None:
    result = {"measures": {"snapshots": {"last": last}}}
    assert QUANTITIES["ensemble_gain"].read(result) == pytest.approx(gain)


def test_a_run_that_diverged_before_its_first_snapshot_has_no_gain() -> None:
    assert math.isnan(QUANTITIES["ensemble_gain"].read({"measures": {"snapshots": {"last": []}}}))


def test_an_estimate_is_the_median_of_the_finite_ones() -> None:
    rows = [[step, 0.1, estimate, 0.1] for step, estimate in enumerate([1.0, math.nan, 3.0, 2.0])]
    result = {"measures": {"hessian_free_each_step": {"rows": rows}}}
    assert QUANTITIES["early_estimate"].read(result) == 2.0
    empty = {"measures": {"hessian_free": {"rows": []}}}
    assert math.isnan(QUANTITIES["late_estimate"].read(empty))
