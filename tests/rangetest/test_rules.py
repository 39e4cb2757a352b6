"""The rules, on curves whose right answer is known, and on curves that have none."""

import dataclasses
import math

import numpy as np
import pytest

from cyclr import ExponentialSweep, LinearSweep, Outcome, RangeRecord
from cyclr.errors import RecordError
from cyclr.rangetest import Series
from cyclr.rangetest.rules import RULES
from cyclr.rangetest.rules.basin import find_basin

STEPS = 100
SWEEP = ExponentialSweep(start_lr=1e-5, end_lr=10.0, steps=STEPS)
RATES = SWEEP(np.arange(STEPS))


def _record(loss, outcome=Outcome.COMPLETED, **fields) -> RangeRecord:
    lr = tuple(float(x) for x in RATES[: len(loss)])
    return RangeRecord(sweep=SWEEP, lr=lr, loss=tuple(map(float, loss)), outcome=outcome, **fields)


def _valley(turn: float, noise: float = 0.0, seed: int = 0, scale: float = 1.0, shift: float = 0.0):
    """Make a loss that falls by half over two decades and explodes above ``turn``."""
    logs = np.log10(RATES)
    fall = 1.0 / (1.0 + np.exp(-3.0 * (logs - (math.log10(turn) - 1.5))))
    rise = np.exp(np.clip(6.0 * (logs - math.log10(turn)), -50, 8)) * 0.02
    loss = 2.3 - 1.5 * fall + rise + np.random.default_rng(seed).normal(0, noise, STEPS)
    return scale * (loss + shift)


def test_decade_is_a_tenth_of_the_rate_at_the_lowest_loss() -> None:
    loss = np.full(STEPS, 2.0)
    loss[60] = 0.5
    reading = _record(loss).read("decade")
    assert reading.max_lr == pytest.approx(RATES[60] / 10)
    assert reading.base_lr == pytest.approx(RATES[60] / 40)
    assert reading.rule == "decade"


@pytest.mark.parametrize("rule", ["basin", "knee"])
@pytest.mark.parametrize("turn", [1e-3, 1e-2, 1e-1, 1.0])
def test_a_reading_follows_the_turn_over_decades(rule: str, turn: float) -> None:
    reading = _record(_valley(turn, noise=0.02)).read(rule)
    assert turn / 12 < reading.max_lr < turn
    assert reading.max_lr / 10.001 <= reading.base_lr <= reading.max_lr / 2.999
    assert reading.caveats == ()


@pytest.mark.parametrize("rule", ["basin", "knee"])
@pytest.mark.parametrize("seed", range(10))
def test_a_reading_stays_within_a_factor_under_noise(rule: str, seed: int) -> None:
    one = _record(_valley(0.1, noise=0.1, seed=100)).read(rule).max_lr
    noisy = _record(_valley(0.1, noise=0.1, seed=seed)).read(rule).max_lr
    assert one / 4 < noisy < one * 4


def test_basin_is_the_default_for_losses() -> None:
    assert _record(_valley(0.1)).read().rule == "basin"


def test_basin_is_the_arithmetic_of_its_docstring() -> None:
    # Falls from 2 to 1 between steps 40 and 50, is low, rises from 70 on. The noise is a tenth.
    loss = np.concatenate(
        [np.full(40, 2.0), np.linspace(2, 1, 11)[1:], np.full(20, 1.0), np.linspace(1, 3, 30)]
    )
    loss += 0.1 * np.tile([1, -1], STEPS // 2)
    found, top = find_basin(RATES, loss)
    assert RATES[47] <= found.begins <= RATES[51]
    assert RATES[72] <= found.ends == RATES[top] <= RATES[79]
    assert found.clearness == pytest.approx(1.0 / (0.2 * 1.4826 / np.sqrt(2)), rel=0.1)
    expected = math.sqrt(found.begins * found.ends) / found.clearness**0.3
    assert _record(loss).read("basin").max_lr == pytest.approx(expected)


def test_basin_reads_the_last_harmless_rate_off_a_loss_that_only_rises() -> None:
    loss = np.random.default_rng(3).normal(2.0, 0.1, STEPS)
    loss[70:] += np.linspace(0, 5, STEPS - 70)
    reading = _record(loss).read("basin")
    assert RATES[60] < reading.max_lr < RATES[80]
    assert any("flat or too noisy" in caveat for caveat in reading.caveats)


def test_basin_s_margin_is_bounded_where_there_is_no_noise() -> None:
    reading = _record(np.concatenate([np.full(50, 2.0), np.full(30, 1.0), np.full(20, 5.0)])).read()
    assert reading.max_lr >= RATES[50] / 200**0.3


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0), (1e6, 0), (1, -5), (1e3, 100)])
def test_bounds_do_not_depend_on_the_loss_s_scale_or_sign(rule, scale, shift) -> None:
    plain = _record(_valley(0.1, noise=0.02)).read(rule)
    moved = _record(_valley(0.1, noise=0.02, scale=scale, shift=shift)).read(rule)
    assert moved.max_lr == pytest.approx(plain.max_lr)
    assert moved.base_lr == pytest.approx(plain.base_lr)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_nan_and_infinity_are_left_out(rule) -> None:
    loss = _valley(0.1)
    clean = _record(loss).read(rule).max_lr
    loss[10], loss[30] = math.nan, math.inf
    assert _record(loss).read(rule).max_lr == pytest.approx(clean, rel=0.25)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_a_flat_record_gets_a_caveat(rule) -> None:
    loss = np.random.default_rng(1).normal(2.3, 0.1, STEPS)
    caveats = _record(loss).read(rule).caveats
    assert any("flat or too noisy" in caveat for caveat in caveats)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_a_loss_still_low_at_the_end_gets_a_caveat(rule) -> None:
    caveats = _record(np.linspace(2.3, 0.3, STEPS)).read(rule).caveats
    assert any("higher end_lr" in caveat for caveat in caveats)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_a_sweep_that_soon_diverged_gets_a_caveat(rule) -> None:
    loss = [2.3, 2.2, 2.0, 1.9, 2.5, 6.0, 20.0, 50.0, 90.0]
    caveats = _record(loss, Outcome.DIVERGED).read(rule).caveats
    assert any("Lower start_lr" in caveat for caveat in caveats)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
@pytest.mark.parametrize(
    "loss",
    [
        [2.3, 2.3, 6.0, 321.0, 2547.0, 9e3, 1e4, 8e3, 7e4],
        [2.3, 50.0, 1e3, 1e4, 1e5, 1e5, 1e5, 1e5, 1e5],
        [2.3, 2.3, 2.31, 2.29, 6.0, *np.geomspace(20, 1e6, 95)],
    ],
)
def test_a_sweep_that_began_beyond_divergence_is_not_read(rule, loss) -> None:
    with pytest.raises(RecordError, match=r"rose from the first steps.*Lower start_lr"):
        _record(loss, Outcome.DIVERGED).read(rule)
    assert _record(loss).read(rule).max_lr > 0  # a sweep that did not diverge, whatever it shows


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_a_loss_that_never_changes_says_that_the_rate_has_no_effect(rule) -> None:
    with pytest.raises(RecordError, match="the loss is 1 at every rate: the rate has no effect"):
        _record([1.0] * 100).read(rule)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_a_loss_that_rises_from_a_rate_of_zero_has_no_bounds(rule) -> None:
    sweep = LinearSweep(start_lr=0.0, end_lr=1.0, steps=100)
    record = RangeRecord(
        sweep=sweep,
        lr=tuple(float(sweep(k)) for k in range(100)),
        loss=tuple(1.0 + 0.1 * k for k in range(100)),
        outcome=Outcome.COMPLETED,
    )
    with pytest.raises(RecordError, match="lowest before the rate rose above 0"):
        record.read(rule)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_a_batch_that_is_not_finite_is_blamed_and_not_the_record(rule) -> None:
    rng = np.random.default_rng(0)
    loss = [*(2.3 + 0.05 * rng.standard_normal(40)), math.inf, math.inf]
    (caveat,) = _record(loss, Outcome.NON_FINITE).read(rule).caveats
    assert caveat.startswith("The loss became inf at step 40, at a rate of ")
    assert "rather the fault of that batch" in caveat


def test_a_huge_spike_spoils_only_its_neighbourhood() -> None:
    calm = _valley(0.1)
    spiked = [*calm[:10], 1e20, *calm[11:]]
    assert _record(spiked).read("basin").max_lr == pytest.approx(
        _record(calm).read("basin").max_lr, rel=0.3
    )


def test_accuracies_that_are_not_finite_are_left_out_and_said() -> None:
    record = _smith()
    (name, series), *_ = record.metrics.items()
    values = [math.nan if i in (3, 9) else v for i, v in enumerate(series.values)]
    holed = dataclasses.replace(record, metrics={name: Series(series.steps, tuple(values))})
    reading, whole = holed.read("accuracy"), record.read("accuracy")
    assert reading.max_lr == pytest.approx(whole.max_lr, rel=0.3)
    assert any(c.startswith("2 of ") and "not finite" in c for c in reading.caveats)


def test_an_interrupted_sweep_gets_a_caveat() -> None:
    caveats = _record(_valley(0.1)[:60], Outcome.INTERRUPTED).read().caveats
    assert any("interrupted" in caveat for caveat in caveats)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_nan_from_the_first_step_blames_the_model_not_the_rate(rule) -> None:
    with pytest.raises(RecordError, match=r"nan at the first step.*no rate can mend that"):
        _record([math.nan, math.nan], Outcome.NON_FINITE).read(rule)


@pytest.mark.parametrize("rule", ["basin", "decade", "knee"])
def test_too_short_a_record_says_how_much_is_missing(rule) -> None:
    with pytest.raises(RecordError, match="holds 3 finite losses and a rule needs 5"):
        _record([2.0, 1.9, 1.8]).read(rule)


def test_an_unknown_rule_lists_the_known_ones() -> None:
    with pytest.raises(RecordError, match=r"accuracy, basin, decade, .*got 'steeper'"):
        _record(_valley(0.1)).read("steeper")


def _smith(top: float = 0.006, start: float = 0.001, ragged: float | None = None) -> RangeRecord:
    """Make Smith's figure: accuracy rises from start to top on a linear sweep, then falls."""
    sweep = LinearSweep(start_lr=0.0, end_lr=0.02, steps=41)
    lr = sweep(np.arange(41))
    height = np.clip((lr - start) / (top - start), 0, 1)
    accuracy = 0.1 + 0.5 * height - 0.3 * np.clip((lr - 1.5 * top) / 0.02, 0, 1)
    if ragged is not None:
        accuracy[np.searchsorted(lr, ragged) :: 2] -= 0.3
    return RangeRecord(
        sweep=sweep,
        lr=tuple(map(float, lr)),
        loss=tuple(float(x) for x in 2.3 - accuracy),
        metrics={"val_accuracy": Series(tuple(range(41)), tuple(map(float, accuracy)))},
        outcome=Outcome.COMPLETED,
    )


def test_accuracy_reads_the_paper_s_bounds_off_the_paper_s_shape() -> None:
    reading = _smith().read()
    assert reading.rule == "accuracy"
    assert reading.base_lr == pytest.approx(0.001, abs=0.0006)
    assert reading.max_lr == pytest.approx(0.006, abs=0.0006)
    assert reading.caveats == ()


def test_accuracy_stops_where_the_curve_turns_ragged() -> None:
    assert _smith(top=0.012, ragged=0.005).read().max_lr == pytest.approx(0.0045, abs=0.0006)


def test_accuracy_still_rising_gets_a_caveat() -> None:
    caveats = _smith(top=0.02).read().caveats
    assert any("still rising" in caveat for caveat in caveats)


def test_accuracy_that_never_rises_gets_a_caveat() -> None:
    record = _smith()
    flat = {"val_accuracy": Series(tuple(range(41)), tuple([0.1] * 41))}
    flat_record = RangeRecord.from_dict({**record.to_dict(), "metrics": {}})
    flat_record = RangeRecord(
        sweep=record.sweep, lr=record.lr, loss=record.loss, outcome=record.outcome, metrics=flat
    )
    assert any("never rose" in caveat for caveat in flat_record.read("accuracy").caveats)


def test_accuracy_without_a_metric_says_what_to_do() -> None:
    with pytest.raises(RecordError, match="validate=…, or use rule='basin'"):
        _record(_valley(0.1)).read("accuracy")


def test_accuracy_needs_six_measurements() -> None:
    record = _record(_valley(0.1), metrics={"accuracy": Series((0, 50), (0.1, 0.2))})
    with pytest.raises(RecordError, match="needs 6 measurements and the record holds 2"):
        record.read("accuracy")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_is_a_pure_function_of_the_saved_record(rule, tmp_path) -> None:
    record = _smith()
    record.save(tmp_path / "r.json")
    assert RangeRecord.load(tmp_path / "r.json").read(rule) == record.read(rule)


@pytest.mark.parametrize("rule", ["basin", "knee"])
@pytest.mark.parametrize("seed", range(4))
def test_rounded_losses_that_only_flicker_support_no_conclusion(rule, seed) -> None:
    loss = 2.3125 + 0.0156 * (np.random.default_rng(seed).random(STEPS) < 0.2)
    reading = _record(loss).read(rule)
    assert any("flat or too noisy" in caveat for caveat in reading.caveats)


def test_a_single_example_more_is_no_rise_of_an_accuracy() -> None:
    accuracy = np.where(np.arange(20) > 11, 0.40, 0.38)  # of fifty examples
    series = Series(tuple(range(0, STEPS, 5)), tuple(map(float, accuracy)))
    record = _record(np.full(STEPS, 2.3), metrics={"val_accuracy": series})
    reading = record.read("basin", "val_accuracy")
    assert any("flat or too noisy" in caveat for caveat in reading.caveats)


@pytest.mark.parametrize(
    ("fall", "steps_per_epoch", "learnt"),
    [(0.4, 10, True), (0.4, 26, False), (0.4, None, False), (1.5, 10, False)],
)
def test_a_faint_fall_on_data_seen_again_and_again_may_be_learnt_by_heart(
    fall, steps_per_epoch, learnt
) -> None:
    lr = np.logspace(-7, 1, STEPS)
    loss = 1.0 - fall / (1 + (1e-2 / lr) ** 2) + 0.1 * np.random.default_rng(0).normal(size=STEPS)
    loss[-3:] += 5.0
    record = dataclasses.replace(_record(loss), steps_per_epoch=steps_per_epoch)
    words = [caveat for caveat in record.read().caveats if "learns by heart" in caveat]
    assert len(words) == learnt
    if learnt:
        assert words[0].startswith("The sweep went 10 times through its data, and the loss fell by")
        assert words[0].endswith("Measure a validation loss, and read that.")
        series = {"val_loss": Series((0, 50), (1.0, 0.9))}
        [told] = dataclasses.replace(record, metrics=series).read().caveats
        assert told.endswith("Read val_loss.")
