"""Several sweeps as one record, and the intervals of its reading."""

import dataclasses
import json
import math

import numpy as np
import pytest

from cyclr import Outcome, RangeRecord
from cyclr.errors import RecordError
from cyclr.rangetest import combine
from cyclr.rangetest.resample import middle, resampled
from cyclr.rangetest.rules import RULES
from rangetest.curves import curve, sweep_over


def _sweep(turn: float = 0.1, seed: int = 0, noise: float = 0.05, **options) -> RangeRecord:
    return sweep_over(curve(turn, noise=noise, seed=seed), **options)


class TestCombined:
    def test_every_sweep_is_kept_and_saved(self, tmp_path) -> None:
        sweeps = [_sweep(seed=seed) for seed in range(3)]
        record = combine(sweeps)
        record.save(tmp_path / "record.json")
        loaded = RangeRecord.load(tmp_path / "record.json")
        assert loaded == record
        assert list(loaded.sweeps) == sweeps
        assert json.loads((tmp_path / "record.json").read_text())["cyclr_record"] == 1

    def test_a_record_of_one_is_written_as_before(self) -> None:
        assert "repeats" not in _sweep().to_dict()
        assert "notes" not in _sweep().to_dict()
        assert combine([_sweep()]) == _sweep()

    def test_combining_what_was_combined_keeps_all(self) -> None:
        a, b, c = (_sweep(seed=seed) for seed in range(3))
        assert combine([combine([a, b]), c]).sweeps == (a, b, c)

    def test_sweeps_of_different_trainings_are_refused(self) -> None:
        sgd, adam = (_sweep(optimizer={"name": name}) for name in ("SGD", "Adam"))
        with pytest.raises(RecordError, match="sweeps of the same training, got one with"):
            combine([sgd, adam])

    def test_no_record_at_all_is_refused(self) -> None:
        with pytest.raises(RecordError, match="needs at least one record"):
            combine([])

    def test_a_damaged_repeat_is_named(self) -> None:
        data = combine([_sweep(), _sweep(seed=1)]).to_dict()
        del data["repeats"][0]["loss"]
        with pytest.raises(RecordError, match="lacks 'loss'"):
            RangeRecord.from_dict(data)


class TestReading:
    @pytest.mark.parametrize("rule", ["knee", "decade"])
    def test_bounds_are_geometric_medians_and_intervals_their_extent(self, rule) -> None:
        turns = [0.05, 0.1, 0.12]
        alone = [_sweep(turn, noise=0.0).read(rule) for turn in turns]
        together = combine(_sweep(turn, noise=0.0) for turn in turns).read(rule)
        for bound in ("base_lr", "max_lr"):
            values = [getattr(reading, bound) for reading in alone]
            assert getattr(together, bound) == pytest.approx(np.median(values))
            assert getattr(together, f"{bound}_interval") == (min(values), max(values))
        assert [bounds.max_lr for bounds in together.sweeps] == [r.max_lr for r in alone]

    def test_of_two_it_is_the_geometric_mean(self) -> None:
        one, two = _sweep(0.05, noise=0.0), _sweep(0.1, noise=0.0)
        expected = math.sqrt(one.read().max_lr * two.read().max_lr)
        assert combine([one, two]).read().max_lr == pytest.approx(expected)

    def test_a_disagreement_by_more_than_three_is_a_caveat(self) -> None:
        agree = combine([_sweep(0.1, noise=0.0), _sweep(0.2, noise=0.0)]).read()
        disagree = combine([_sweep(0.1, noise=0.0), _sweep(0.5, noise=0.0)]).read()
        assert not any("disagree" in caveat for caveat in agree.caveats)
        (caveat,) = disagree.caveats
        low, high = disagree.max_lr_interval
        assert f"max_lr is {low:.3g} by one and {high:.3g} by another" in caveat
        assert f"a factor of {high / low:.2g}" in caveat

    def test_a_caveat_of_some_says_of_how_many(self) -> None:
        rng = np.random.default_rng(0)
        flat = sweep_over(lambda lr: 1.0 + 0.05 * rng.standard_normal())
        caveats = combine([_sweep(), _sweep(seed=1), flat]).read().caveats
        assert any(c.startswith("In 1 of 3 sweeps: The loss never fell") for c in caveats)

    def test_a_sweep_that_cannot_be_read_is_a_caveat_unless_none_can(self) -> None:
        dead = sweep_over(lambda lr: math.nan)
        reading = combine([_sweep(), dead]).read()
        assert reading.max_lr == _sweep().read().max_lr
        assert any(
            "One of 2 sweeps could not be read: the loss is nan" in c for c in reading.caveats
        )
        with pytest.raises(RecordError, match="no rate can mend that"):
            combine([dead, dead]).read()

    def test_the_outcome_is_that_of_most(self) -> None:
        assert combine([_sweep(100.0), _sweep(), _sweep(seed=1)]).read().outcome is Outcome.DIVERGED

    def test_a_very_short_sweep_gets_a_caveat(self) -> None:
        caveats = _sweep(steps=25).read().caveats
        assert any("too few to be precise" in caveat for caveat in caveats)
        assert not any("too few" in caveat for caveat in _sweep(steps=60).read().caveats)


class TestResampling:
    @pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
    @pytest.mark.parametrize("end", ["explodes", "2.3"])
    def test_the_interval_of_one_sweep_is_as_wide_as_sweeps_differ(self, noise, end) -> None:
        """The yardstick: forty sweeps of the same training with other noise."""
        records = [sweep_over(curve(0.1, end=end, noise=noise, seed=s)) for s in range(40)]
        low, high = middle([record.read().max_lr for record in records])
        widths = []
        for record in records[:10]:
            lowest, highest = record.read().max_lr_interval
            widths.append(math.log(highest / lowest))
        assert np.median(widths) == pytest.approx(math.log(high / low), abs=math.log(2))

    @pytest.mark.parametrize("seed", range(10))
    def test_it_contains_what_was_read(self, seed) -> None:
        reading = _sweep(seed=seed, noise=0.1).read()
        for bound in ("base_lr", "max_lr"):
            low, high = getattr(reading, f"{bound}_interval")
            assert low <= getattr(reading, bound) <= high

    def test_a_spike_does_not_widen_it(self) -> None:
        calm = _sweep(noise=0.05)
        loss = list(calm.loss)
        loss[20] = 300.0
        spiked = dataclasses.replace(calm, loss=tuple(loss)).read()
        low, high = calm.read().max_lr_interval
        assert spiked.max_lr_interval[0] > low / 2
        assert spiked.max_lr_interval[1] < high * 2

    def test_without_noise_it_has_no_width_worth_mentioning(self) -> None:
        low, high = _sweep(noise=0.0).read().max_lr_interval
        assert high / low < 1.5

    @pytest.mark.parametrize("rule", ["knee", "decade"])
    def test_it_is_a_pure_function_of_the_record(self, rule) -> None:
        record = _sweep()
        again = RangeRecord.from_dict(record.to_dict())
        assert resampled(record, RULES[rule]) == resampled(again, RULES[rule])
        assert record.read(rule).to_dict() == again.read(rule).to_dict()

    def test_any_rule_will_do_and_sees_every_metric_redrawn(self) -> None:
        seen = []

        def rule(record):
            seen.append((record.loss, record.metrics["accuracy"].values))
            raise RecordError("no conclusion")

        from cyclr import RangeTest

        test = RangeTest(steps=30)
        rng = np.random.default_rng(0)
        for _ in test:
            test.tell(loss=rng.normal(), accuracy=rng.normal())
        assert resampled(test.record, rule, count=5) == []
        assert len({loss for loss, _ in seen}) == len({values for _, values in seen}) == 5

    @pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0), (1e6, 0), (1.0, -5.0)])
    def test_it_does_not_depend_on_the_unit_of_the_loss(self, scale, shift) -> None:
        plain = _sweep(noise=0.1).read()
        loss = curve(0.1, noise=0.1)
        moved = sweep_over(lambda lr: scale * (loss(lr) + shift)).read()
        assert moved.max_lr_interval == pytest.approx(plain.max_lr_interval)

    def test_nan_stays_where_it_was(self) -> None:
        record = sweep_over(lambda lr: curve(0.1)(lr) if lr < 0.5 else math.nan)
        found = resampled(record, RULES["knee"], count=20)
        assert len(found) == 20
        assert all(bounds.max_lr < 0.5 for bounds in found)
