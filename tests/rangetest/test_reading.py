"""Readings: of other metrics, and as data."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cyclr import LinearSweep, Outcome, RangeTest, Reading, plan
from cyclr.errors import RecordError
from cyclr.rangetest import Series, combine
from cyclr.rangetest.way_back import NO_LEG
from rangetest.curves import curve


def _measured(every: int = 5, seed: int = 0):
    """Make a record whose training loss turns at 1, its validation loss at 0.1."""
    train, validation = curve(1.0, seed=seed), curve(0.1, noise=0.0, seed=seed)
    test = RangeTest()
    for lr in test:
        measured = {}
        if test.step % every == 0:
            measured = {"val_loss": validation(lr), "val_accuracy": 3 - validation(lr)}
        test.tell(loss=train(lr), **measured)
    return test.record


def test_a_rule_reads_the_metric_it_is_told_to() -> None:
    record = _measured()
    loss, validation = record.read(), record.read(metric="val_loss")
    assert loss.updates == validation.updates == record.updates  # the whole sweep was paid for
    assert 0.2 < loss.max_lr < 2
    assert 0.01 < validation.max_lr < 0.15
    assert (loss.metric, validation.metric) == (None, "val_loss")


class TestTheDefaultMetric:
    """The validation loss where an epoch has twenty updates or fewer, and the loss elsewhere."""

    def _record(self, per_epoch: int | None = 20, every: int = 1, **more):
        return replace(_measured(every=every), steps_per_epoch=per_epoch, **more)

    @pytest.mark.parametrize("per_epoch", [1, 20])
    def test_of_little_data_it_is_the_validation_loss(self, per_epoch: int) -> None:
        record = self._record(per_epoch)
        assert record.has_little_data
        assert record.read() == record.read(metric="val_loss") != record.read(metric="loss")
        assert record.read().metric == "val_loss"

    def test_and_the_loss_if_that_is_named(self) -> None:
        record = self._record()
        unknown = replace(record, steps_per_epoch=None)
        assert record.read(metric="loss").metric is None
        assert record.read(metric="loss").max_lr == unknown.read().max_lr
        for rule in ("basin", "valley"):  # whatever the rule
            assert record.read(rule) == record.read(rule, "val_loss") != record.read(rule, "loss")

    @pytest.mark.parametrize("every", [1, 2])
    def test_measured_at_every_other_update_at_least(self, every: int) -> None:
        assert self._record(every=every).read().metric == "val_loss"

    def test_otherwise_it_is_the_loss(self) -> None:
        more, seldom = self._record(per_epoch=21), self._record(every=3)
        series = self._record().metrics["val_loss"]
        others = dict.fromkeys(("kl_loss", "value_loss", "val_part_loss", "val_accuracy"), series)
        for record in (
            more,
            seldom,
            self._record(per_epoch=None),
            self._record(metrics={}),
            self._record(metrics=others),
        ):
            assert record.read().metric is None

    @pytest.mark.parametrize("name", ["val_loss", "valid_loss", "validation_loss", "eval_loss"])
    def test_whatever_it_is_usually_called(self, name: str) -> None:
        record = self._record()
        held = {"val_part_loss": record.metrics["val_loss"], name: record.metrics["val_loss"]}
        assert replace(record, metrics=held).read().metric == name

    def test_a_few_values_are_enough_but_five_there_must_be(self) -> None:
        record = self._record()
        few = slice(50, 58)
        for count, metric in ((4, None), (5, "val_loss")):
            series = Series(tuple(range(count)), record.metrics["val_loss"].values[60 : 60 + count])
            short = replace(
                record,
                lr=record.lr[few],
                loss=record.loss[few],
                metrics={"val_loss": series},
                way_back=NO_LEG,
                steps_per_epoch=2,
            )
            assert short.read().metric == metric

    def test_repeats_must_have_it(self) -> None:
        record = self._record()
        repeats = combine([record, self._record()]), combine([record, self._record(metrics={})])
        assert [r.read().metric for r in repeats] == ["val_loss", None]

    def test_values_that_are_not_finite_or_all_the_same_do_not_count(self) -> None:
        record = self._record()
        for value in (float("nan"), 0.5):
            same = Series(record.metrics["val_loss"].steps, (value,) * len(record))
            assert replace(record, metrics={"val_loss": same}).read().metric is None

    def test_where_it_cannot_be_read_the_loss_is_with_a_caveat(self) -> None:
        record = self._record()
        rising = Series(
            record.metrics["val_loss"].steps, tuple(1.0 + k for k in range(len(record)))
        )
        hopeless = replace(record, metrics={"val_loss": rising}, outcome=Outcome.DIVERGED)
        reading = hopeless.read()
        assert (reading.metric, reading.max_lr) == (None, record.read(metric="loss").max_lr)
        assert "val_loss could not be read, and the loss was read instead:" in reading.caveats[-1]
        with pytest.raises(RecordError, match="rose from the first steps"):
            hopeless.read(metric="val_loss")

    def test_smith_s_figure_is_read_by_its_accuracy(self) -> None:
        test = RangeTest(LinearSweep(start_lr=0.0, end_lr=0.02, steps=41), steps_per_epoch=5)
        for lr in test:
            height = float(np.clip((lr - 0.001) / 0.005, 0, 1))
            test.tell(loss=1.0, val_accuracy=0.1 + 0.5 * height, val_loss=1.0 - height / 2)
        record = test.record
        assert (record.read().rule, record.read().metric) == ("accuracy", None)

    def test_of_smith_s_figure_the_loss_can_be_read_as_well(self) -> None:
        test, loss = RangeTest(LinearSweep(start_lr=0.0, end_lr=2.0, steps=60)), curve(1.0)
        for lr in test:
            test.tell(loss=loss(max(lr, 1e-3)), val_accuracy=0.5 * lr)
        assert test.record.read().rule == "accuracy"
        assert test.record.read(metric="loss").rule == "basin"
        both = combine([test.record, test.record])
        assert both.read(metric="loss").rule == "basin"
        with pytest.raises(RecordError, match="accuracy"):
            test.record.read("accuracy", "loss")


def test_of_a_metric_that_should_rise_the_sign_is_turned() -> None:
    record = _measured()
    falling, rising = record.read("knee", "val_loss"), record.read("knee", "val_accuracy")
    assert rising.max_lr == pytest.approx(falling.max_lr)
    assert rising.base_lr == pytest.approx(falling.base_lr)


def test_the_accuracy_rule_takes_the_metric_named_whatever_it_is_called() -> None:
    test = RangeTest(LinearSweep(start_lr=0.0, end_lr=0.02, steps=41))
    for lr in test:
        height = float(np.clip((lr - 0.001) / 0.005, 0, 1))
        test.tell(loss=1.0, val_accuracy=0.5 * lr, val_f1=0.1 + 0.5 * height)
    record = test.record
    assert record.read("accuracy", "val_f1").max_lr == pytest.approx(0.006, abs=0.0006)
    assert record.read("accuracy").max_lr > 0.015
    assert record.read(metric="val_f1").rule == "accuracy"


def test_seen_by_a_metric_the_rates_are_those_of_its_steps() -> None:
    record = _measured(every=10)
    seen = record.seen_by("val_loss")
    assert seen.lr == record.lr[::10]
    assert seen.loss == record.metrics["val_loss"].values
    assert seen.metrics == {}


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(RecordError, match=r"\(val_accuracy, val_loss\), got 'f1'"):
        _measured().read(metric="f1")


def test_without_any_it_says_how_to_measure_one() -> None:
    test = RangeTest()
    for lr in test:
        test.tell(loss=curve(1.0)(lr))
    with pytest.raises(RecordError, match=r"\(none\), got 'f1'; run the range test with validate "):
        test.record.read(metric="f1")


def test_a_metric_measured_too_seldom_gets_a_caveat_that_says_so() -> None:
    [caveat] = _measured(every=6).read(metric="val_loss").caveats
    assert caveat.startswith("val_loss was measured at only ")
    assert caveat.endswith("too few to be precise. Measure it more often (validate_every).")
    assert _measured(every=1).read(metric="val_loss").caveats == ()


def test_repeats_are_read_by_the_metric_too() -> None:
    both = combine([_measured(), _measured(seed=1)]).read(metric="val_loss")
    assert len(both.sweeps) == 2
    assert both.max_lr_interval[1] < 0.15


def test_it_is_written_with_intervals_and_metric() -> None:
    data = _measured().read(metric="val_loss").to_dict()
    assert data["metric"] == "val_loss"
    assert data["max_lr_interval"][0] <= data["max_lr"] <= data["max_lr_interval"][1]
    assert data["base_lr_interval"][0] <= data["base_lr"] <= data["base_lr_interval"][1]


def test_one_made_by_hand_has_no_interval() -> None:
    reading = Reading(base_lr=0.01, max_lr=0.1, rule="mine", outcome=Outcome.COMPLETED)
    assert reading.max_lr_interval is None
    assert reading.to_dict()["base_lr_interval"] is None


def test_an_accuracy_that_was_measured_too_seldom_leaves_the_loss_to_be_read() -> None:
    test = RangeTest(LinearSweep(start_lr=0.0, end_lr=1.0, steps=60))
    for step, lr in enumerate(test):
        measured = {"val_accuracy": 0.5} if step % 30 == 0 else {}
        test.tell(loss=2.0 - min(1.5, 10 * lr) + max(0.0, 40 * (lr - 0.6)), **measured)
    reading = test.record.read()
    assert reading.rule == "basin"
    assert any("measured too seldom for its rule, which needs 6" in c for c in reading.caveats)
    with pytest.raises(RecordError, match="needs 6 measurements and the record holds 2"):
        test.record.read("accuracy")


def test_an_interval_on_a_sweep_from_0_warns_of_nothing(recwarn) -> None:
    test = RangeTest(LinearSweep(start_lr=0.0, end_lr=1.0, steps=60))
    noise = np.random.default_rng(0).normal(0, 0.3, 60)
    for lr, wobble in zip(test, noise, strict=False):
        test.tell(loss=2.0 - 0.3 * min(lr, 0.1) + wobble)
    interval = test.record.read("decade").max_lr_interval
    assert interval is None or 0 < interval[0] <= interval[1]
    assert [str(w.message) for w in recwarn] == []


def test_a_metric_that_ended_with_the_loss_is_read_in_words() -> None:
    test = RangeTest(LinearSweep(start_lr=0.01, end_lr=1.0, steps=60), stop_on_divergence=False)
    for step, _ in enumerate(test):
        measured = {"val_loss": 2.0 + 0.01 * (step % 4)} if step % 2 == 0 else {}
        test.tell(loss=2.0 + 0.01 * (step % 3) if step < 30 else np.nan, **measured)
    assert test.record.outcome is Outcome.NON_FINITE
    caveats = test.record.read("basin", "val_loss").caveats
    assert any("before this metric had moved clearly" in caveat for caveat in caveats)


def test_a_saved_reading_is_the_one_that_was_saved(tmp_path) -> None:
    made = replace(
        _measured().read(),
        caveats=("in doubt",),
        optimizer={"name": "SGD", "momentum": 0.9},
        steps_per_epoch=7,
        second=_measured(seed=1),
    )
    made.save(tmp_path / "reading.json")
    loaded = Reading.load(tmp_path / "reading.json")
    assert loaded == replace(made, sweeps=())
    assert loaded.record is None
    assert loaded.second is not None
    assert loaded.second.to_dict() == made.second.to_dict()
    assert loaded.to_dict() == made.to_dict()
    assert loaded.max_lr_interval == made.max_lr_interval is not None
    assert plan(loaded, total_steps=500) == plan(made, total_steps=500)


def test_one_without_intervals_stays_without() -> None:
    made = Reading(base_lr=0.01, max_lr=0.1, rule="mine", outcome=Outcome.COMPLETED)
    assert Reading.from_dict(made.to_dict()) == made
    assert Reading.from_dict(made.to_dict()).max_lr_interval is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"cyclr_reading": 2}, 'an object whose "cyclr_reading" is 1'),
        ({"max_lr": -1.0}, r"damaged \(a rate must be > 0 and finite, got -1\)"),
        ({"max_lr": "nan"}, "a rate must be > 0 and finite, got nan"),
        ({"max_lr": True}, "expected a number, got True"),
        ({"outcome": "lost"}, "'lost' is not a valid Outcome"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be an int ≥ 1 or None, got 0"),
        ({"max_lr_interval": [1.0]}, "it is damaged"),
        ({"second": {"cyclr_record": 1}}, "the record lacks 'sweep'"),
        ({"second": {"cyclr_record": 2}}, "cyclr_record must be 1, got 2"),
        ({"second": "record.json"}, 'an object with the key "cyclr_record"'),
        ({"optimizer": 3}, "it is damaged"),
        ({"optimizer": {"momentum": "x"}}, "optimizer.momentum must be"),
        ({"caveats": "hello"}, "caveats must be a list, got 'hello'"),
        ({"base_lr": 5.0}, r"base_lr must be ≤ max_lr \(0\.\d+\), got 5"),
        ({"max_lr_interval": [2.0, 1.0]}, "an interval must rise, got 2 to 1"),
    ],
)
def test_a_damaged_reading_is_refused(tmp_path, change, complaint) -> None:
    path = tmp_path / "reading.json"
    path.write_text(json.dumps(_measured().read().to_dict() | change), encoding="utf-8")
    with pytest.raises(RecordError, match=complaint):
        Reading.load(path)


def test_a_record_is_no_reading(tmp_path) -> None:
    _measured().save(tmp_path / "record.json")
    with pytest.raises(
        RecordError, match=r"record.json is not a range test's reading.*record.read"
    ):
        Reading.load(tmp_path / "record.json")
