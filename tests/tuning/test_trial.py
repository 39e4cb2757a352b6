"""Trials and their results as plain data."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr.errors import RecordError
from cyclr.tuning import Outcome, Trial, TrialResult
from tuning.tasks import result_of, trial_of

rates = st.floats(1e-8, 10.0)
momenta = st.one_of(
    st.none(), st.floats(0, 0.999), st.tuples(st.floats(0, 0.5), st.floats(0.5, 0.999))
)
trials = st.builds(
    Trial,
    seed=st.integers(0, 2**32 - 1),
    updates=st.integers(3, 10**6),
    sweep_steps=st.integers(2, 1000),
    batch_size=st.integers(1, 10**5),
    weight_decay=st.one_of(st.none(), st.floats(0, 1)),
    momentum=momenta,
    policy=st.sampled_from(["one_cycle", "triangular"]),
    bounds=st.one_of(st.none(), st.tuples(rates, rates)),
    reference=st.one_of(st.none(), rates),
    start=st.one_of(st.none(), st.text(max_size=5)),
    examples=st.one_of(st.none(), st.integers(1, 10**6)),
)


@given(trials)
def test_a_trial_survives_json(trial: Trial) -> None:
    again = Trial.from_dict(json.loads(json.dumps(trial.to_dict())))
    assert again == trial
    assert again.key == trial.key


def test_the_key_changes_with_whatever_matters() -> None:
    changes = [
        {},
        {"seed": 1},
        {"updates": 61},
        {"sweep_steps": 61},
        {"batch_size": 65},
        {"weight_decay": 0.0},
        {"momentum": 0.9},
        {"momentum": (0.85, 0.95)},
        {"policy": "triangular"},
        {"bounds": (0.01, 0.1)},
        {"bounds": (0.01, 0.1), "reference": 0.1},
        {"bounds": (0.01, 0.1), "reference": 0.2},
        {"start": "model.safetensors"},
        {"examples": 64},
    ]
    assert len({trial_of(**change).key for change in changes}) == len(changes)


def test_a_result_survives_json_with_what_is_not_finite() -> None:
    result = TrialResult(
        trial=trial_of(momentum=(0.85, 0.95)),
        stage="momentum",
        outcome=Outcome.DIVERGED,
        why="the loss is nan at step 7",
        bounds=(0.01, 0.1),
        read=(0.02, 0.3),
        caveats=("It is doubtful.",),
        curve=({"step": 5, "loss": 1.5, "val_loss": math.inf, "val_accuracy": 0.5},),
        sweep_updates=58,
        updates=7,
        seconds=1.25,
    )
    from cyclr import jsonfile

    text = json.dumps(jsonfile.plain(result.to_dict()), allow_nan=False)
    again = TrialResult.from_dict(json.loads(text))
    assert again == result
    assert again.val_loss == math.inf
    assert again.cost == 65


def test_only_a_training_that_ended_has_a_loss() -> None:
    assert result_of(0.5).val_loss == 0.5
    assert result_of(math.nan).val_loss == math.inf
    early = TrialResult(
        trial=trial_of(),
        outcome=Outcome.DIVERGED,
        curve=({"step": 12, "loss": 1.0, "val_loss": 0.4},),
    )
    assert early.val_loss == math.inf
    assert math.isnan(early.max_lr)


@pytest.mark.parametrize(
    "change",
    [
        {"cyclr_trial": 2},
        {"outcome": "splendid"},
        {"bounds": 3},
        {"read": 3},
        {"curve": [{"loss": 1}]},
    ],
)
def test_what_is_no_result_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RecordError, match="it is not a trial's result"):
        TrialResult.from_dict({**result_of(0.5).to_dict(), **change})


def test_every_outcome_has_a_sentence() -> None:
    assert len({outcome.sentence for outcome in Outcome}) == len(Outcome)
