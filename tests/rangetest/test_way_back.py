"""The way back: twelve updates at falling rates, and what the default rule makes of them."""

import dataclasses
import math

import numpy as np
import pytest

from cyclr import ExponentialSweep, RangeRecord, RangeTest
from cyclr.errors import RecordError
from cyclr.rangetest import Outcome, combine
from cyclr.rangetest.resample import resampled
from cyclr.rangetest.rules import Bounds
from cyclr.rangetest.rules.basin import find_basin, recovers
from cyclr.rangetest.rules.bounds import finite_part
from cyclr.rangetest.way_back import Leg
from rangetest.curves import curve, sweep_over


def _hardy(turn: float, noise: float = 0.02, seed: int = 0):
    """Diverge to a plateau, and train again as soon as the rate has come down by a fifth."""
    down, highest = curve(turn, end="2.3", noise=noise, seed=seed), 0.0

    def loss(lr: float) -> float:
        nonlocal highest
        highest = max(highest, lr)
        return down(lr) if lr > 0.8 * highest else down(turn / 10)

    return loss


def _ruined(turn: float, noise: float = 0.02):
    return curve(turn, end="explodes", noise=noise)


class TestTheSweep:
    def test_it_makes_twelve_updates_down_half_a_decade_once_the_loss_has_turned(self) -> None:
        record = sweep_over(_ruined(0.1))
        assert record.outcome is Outcome.DIVERGED
        back = record.way_back
        assert len(back.lr) == len(back.loss) == 12
        half = 1e8 ** (0.5 / 99)  # of eight decades in 99 ratios
        assert back.lr[0] == pytest.approx(record.lr[-1] / half, rel=1e-9)
        assert back.lr[-1] == pytest.approx(record.lr[-1] / half**12, rel=1e-9)
        assert math.log10(record.lr[-1] / back.lr[-1]) == pytest.approx(0.485, abs=0.001)

    def test_it_counts_apart_from_the_sweep(self) -> None:
        record = sweep_over(_ruined(0.1))
        assert len(record) == len(record.lr) == len(record.loss)
        assert record.updates == len(record) + 12
        assert combine([record, record]).updates == 2 * record.updates

    def test_progress_knows_how_far_it_is(self) -> None:
        test, loss, seen = RangeTest(), _ruined(0.1), []
        for lr in test:
            test.tell(loss=loss(lr), accuracy=0.5)
            seen.append((test.on_way_back, test.step, test.steps))
        assert [s for _, s, _ in seen] == list(range(1, len(seen) + 1))
        assert [b for b, _, _ in seen] == [False] * (len(seen) - 13) + [True] * 13
        assert seen[-1][1:] == (test.record.updates, test.record.updates)
        assert len(test.record.metrics["accuracy"].steps) == len(test.record)

    @pytest.mark.parametrize(
        "test",
        [
            RangeTest(ExponentialSweep(start_lr=1e-7, end_lr=10, steps=100)),
            RangeTest(steps=19),
            RangeTest(stop_on_divergence=False),
        ],
        ids=["given", "coarse", "endless"],
    )
    def test_there_is_none(self, test) -> None:
        loss = _ruined(0.1)
        for lr in test:
            test.tell(loss=loss(lr))
        assert test.record.way_back == Leg()
        assert test.record.updates == len(test.record)

    def test_it_stays_within_the_most_steps(self) -> None:
        late = sweep_over(_ruined(3e7))
        assert late.outcome is Outcome.DIVERGED
        assert 138 < len(late) < 150
        assert late.updates == 150

    def test_there_is_none_where_the_sweep_began_too_high(self) -> None:
        test = RangeTest(start_lr=1.0)
        loss = _ruined(1e-3)
        for lr in test:
            test.tell(loss=loss(lr))
        assert test.began_too_high
        assert test.record.way_back == Leg()

    def test_there_is_none_behind_nan(self) -> None:
        record = sweep_over(lambda lr: 1.0 - lr if lr < 0.1 else math.nan)
        assert (record.outcome, record.way_back) == (Outcome.NON_FINITE, Leg())

    @pytest.mark.parametrize("how", ["told", "failed"])
    def test_nan_ends_it_and_the_outcome_stays(self, how) -> None:
        test, loss = RangeTest(), _ruined(0.1)
        for lr in test:
            if len(test.record.way_back.lr) < 3:
                test.tell(loss=loss(lr))
            elif how == "told":
                test.tell(loss=math.nan)
            else:
                test.fail("It raised.")
        assert test.record.outcome is Outcome.DIVERGED
        assert len(test.record.way_back.lr) == 4
        assert math.isnan(test.record.way_back.loss[-1])
        assert test.record.notes == ()

    def test_leaving_it_early_keeps_what_was_seen(self) -> None:
        test, loss = RangeTest(), _ruined(0.1)
        for lr in test:
            test.tell(loss=loss(lr))
            if len(test.record.way_back.lr) == 5:
                break
        assert (test.record.outcome, len(test.record.way_back.lr)) == (Outcome.DIVERGED, 5)

    def test_a_repeat_has_its_own(self) -> None:
        first, loss = RangeTest(), _ruined(0.1)
        for lr in first:
            first.tell(loss=loss(lr))
        second, loss = first.again(), _ruined(0.1)
        assert (second.step, second.on_way_back) == (0, False)
        for lr in second:
            second.tell(loss=loss(lr))
        assert second.record == first.record


class TestTheRecord:
    def test_it_is_saved_and_read(self, tmp_path) -> None:
        record = sweep_over(_ruined(0.1))
        broken = dataclasses.replace(record, way_back=Leg((1.0, 0.9), (3.0, math.inf)))
        for one in (record, broken):
            one.save(tmp_path / "record.json")
            assert RangeRecord.load(tmp_path / "record.json") == one

    def test_a_record_without_one_is_written_as_before(self) -> None:
        record = dataclasses.replace(sweep_over(_ruined(0.1)), way_back=Leg())
        assert "way_back" not in record.to_dict()
        assert RangeRecord.from_dict(record.to_dict()) == record

    def test_a_damaged_one_is_refused(self) -> None:
        data = sweep_over(_ruined(0.1)).to_dict()
        data["way_back"]["loss"].pop()
        with pytest.raises(RecordError, match="not one loss per update"):
            RangeRecord.from_dict(data)

    def test_a_metric_s_view_has_none(self) -> None:
        test, loss = RangeTest(), _ruined(0.1)
        for lr in test:
            test.tell(loss=loss(lr), val_loss=loss(lr))
        assert test.record.seen_by("val_loss").way_back == Leg()


class TestTheReading:
    @pytest.mark.parametrize("turn", [1e-4, 1e-2, 1.0])
    def test_a_net_that_trains_again_gets_a_higher_rate(self, turn) -> None:
        record = sweep_over(_hardy(turn))
        without = dataclasses.replace(record, way_back=Leg()).read()
        assert record.read().max_lr > 1.5 * without.max_lr
        found, _ = find_basin(*finite_part(record))
        assert record.read().max_lr == min(recovers(record.way_back, found), found.ends)

    @pytest.mark.parametrize("turn", [1e-4, 1e-2, 1.0])
    def test_a_ruined_one_does_not(self, turn) -> None:
        record = sweep_over(_ruined(turn))
        assert len(record.way_back.lr) == 12
        assert record.read() == dataclasses.replace(record.read(), record=record)
        without = dataclasses.replace(record, way_back=Leg())
        assert record.read().max_lr == without.read().max_lr

    def test_it_is_the_arithmetic_of_the_docstring(self) -> None:
        record = sweep_over(_hardy(0.1, noise=0.0))
        found, _ = find_basin(*finite_part(record))
        regained = found.level - 0.8 * found.fall
        loss = np.array(record.way_back.loss)
        first = next(k for k in range(2, 10) if loss[k - 2 : k + 3].mean() <= regained)
        assert found.ends < record.way_back.lr[first]
        assert recovers(record.way_back, found) == record.read().max_lr == found.ends
        low = Leg(tuple(r / 10 for r in record.way_back.lr), record.way_back.loss)
        assert recovers(low, found) == low.lr[first] < found.ends

    def test_the_interval_counts_its_noise(self) -> None:
        record = sweep_over(_hardy(0.1, noise=0.15, seed=3), steps=60)
        assert len(record.way_back.lr) == 7
        copies = resampled(record, lambda copy: Bounds(1.0, 1.0, (str(copy.way_back.loss),)))
        assert 16 < len({copy.caveats for copy in copies}) <= 2**5  # the two ends stay

    def test_it_never_lowers_a_reading(self) -> None:
        record = sweep_over(_hardy(0.1))
        low = Leg(tuple(1e-6 * r for r in record.way_back.lr), (0.8,) * 12)
        without = dataclasses.replace(record, way_back=Leg())
        lowered = dataclasses.replace(record, way_back=low)
        assert lowered.read().max_lr == without.read().max_lr

    @pytest.mark.parametrize(
        "loss", [(0.8,) * 4, (0.8,) * 11 + (math.nan,), (0.8, 1e30, 2.3) * 4, ()]
    )
    def test_too_little_nan_or_one_lucky_batch_say_nothing(self, loss) -> None:
        record = sweep_over(_hardy(0.1))
        found, _ = find_basin(*finite_part(record))
        assert recovers(Leg(record.way_back.lr[: len(loss)], loss), found) == 0.0

    def test_a_fall_within_the_noise_is_no_recovery(self) -> None:
        record = sweep_over(curve(0.1, low=2.25, noise=0.3, end="2.3"))
        found, _ = find_basin(*finite_part(record))
        rates = tuple(np.geomspace(1, 0.3, 12))
        assert recovers(Leg(rates, (found.level - 0.3 * found.noise,) * 12), found) == 0.0
        assert recovers(Leg(rates, (found.level - 9 * found.noise,) * 12), found) == rates[2]
