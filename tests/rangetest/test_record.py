"""Records: what they hold, and their way to JSON and back."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import ExponentialSweep, Outcome, RangeRecord
from cyclr.errors import RecordError
from cyclr.rangetest import Series

SWEEP = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=4)


def _record(**changes) -> RangeRecord:
    fields = {
        "sweep": SWEEP,
        "lr": (1e-4, 1e-3, 1e-2),
        "loss": (2.0, math.nan, math.inf),
        "metrics": {"accuracy": Series((0, 2), (0.1, 0.4))},
        "outcome": Outcome.NON_FINITE,
        "optimizer": {"name": "SGD", "momentum": 0.9},
        "steps_per_epoch": 22,
    }
    return RangeRecord(**{**fields, **changes})


def test_saved_and_loaded_it_is_the_same(tmp_path) -> None:
    record = _record()
    record.save(tmp_path / "record.json")
    loaded = RangeRecord.load(tmp_path / "record.json")
    assert loaded.loss[0] == 2.0
    assert math.isnan(loaded.loss[1])
    assert loaded.loss[2] == math.inf
    assert loaded.to_dict() == record.to_dict()


def test_the_file_is_strict_json(tmp_path) -> None:
    _record().save(tmp_path / "record.json")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads((tmp_path / "record.json").read_text(), parse_constant=refuse)
    assert data["loss"] == [2.0, "nan", "inf"]


@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_any_losses_survive_the_round_trip(losses) -> None:
    record = _record(lr=tuple(0.1 for _ in losses), loss=tuple(losses), metrics={})
    again = RangeRecord.from_dict(json.loads(json.dumps(record.to_dict(), allow_nan=False)))
    assert repr(again.loss) == repr(tuple(losses))


def test_lengths_must_agree() -> None:
    with pytest.raises(RecordError, match=r"loss must be as long as lr \(3\), got 1"):
        _record(loss=(1.0,))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("cyclr_record"), '"cyclr_record"'),
        (lambda d: d.update(cyclr_record=99), "cyclr_record must be 1, got 99"),
        (lambda d: d.pop("loss"), "lacks 'loss'"),
        (lambda d: d.update(loss=[1.0, "low", 2.0]), "expected a number, got 'low'"),
        (lambda d: d.update(loss=5), "damaged"),
        (lambda d: d.update(outcome="splendid"), "'splendid'"),
        (lambda d: d["sweep"].update(steps=0), "sweep"),
        (lambda d: d.update(metrics=[1]), "damaged"),
        (lambda d: d.update(notes="abc"), "notes must be a list, got str"),
        (lambda d: d.update(lr=[0.1, 0.05, 0.2]), "do not fall"),
    ],
)
def test_a_damaged_file_is_named_with_the_damage(tmp_path, damage, message) -> None:
    data = _record().to_dict()
    damage(data)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(data))
    with pytest.raises(RecordError) as caught:
        RangeRecord.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"not json", b"\xff\xfe\x00", b"[1, 2]", b""])
def test_a_file_that_is_not_a_record_is_named(tmp_path, content) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"record\.json is not"):
        RangeRecord.load(path)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(RecordError, match=r"cannot read .*gone\.json: No such file"):
        RangeRecord.load(tmp_path / "gone.json")


def test_every_outcome_has_a_sentence() -> None:
    sentences = {outcome.sentence for outcome in Outcome}
    assert len(sentences) == 4
    assert all(sentence.endswith(".") for sentence in sentences)


def test_its_repr_is_one_line_without_the_numbers() -> None:
    text = "non_finite, 3 updates, lr 0.0001 to 0.01, accuracy at 2 steps"
    assert repr(_record()) == f"<RangeRecord: {text}>"
    assert repr(_record(repeats=(_record(),))) == (
        "<RangeRecord: non_finite, 6 updates, lr 0.0001 to 0.01, accuracy at 2 steps, 2 sweeps>"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": (0.1, 0.05, 0.2)}, r"lr must be finite numbers ≥ 0 that do not fall, got 0.05 aft"),
        ({"lr": (-0.1, 0.05, 0.2)}, r"lr must be finite numbers ≥ 0 that do not fall, got -0.1"),
        ({"lr": (0.1, 0.2, math.nan)}, "lr must be finite numbers ≥ 0"),
        ({"metrics": {"a": Series((0, 3), (1.0, 2.0))}}, r"metrics\.a must have one value for"),
        ({"metrics": {"a": Series((-1, 2), (1.0, 2.0))}}, "which ascend from 0 to 2 at most"),
        ({"metrics": {"a": Series((2, 1), (1.0, 2.0))}}, "which ascend"),
        ({"metrics": {"a": Series((0, 1), (1.0,))}}, "got 2 steps and 1 values"),
    ],
)
def test_numbers_that_no_sweep_has_are_refused(changes, message) -> None:
    with pytest.raises(RecordError, match=message):
        _record(**changes)
