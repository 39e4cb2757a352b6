"""Trials in an Optuna study, read back with Optuna."""

import math
from pathlib import Path
from typing import Any

import pytest

from cyclr.errors import InputError
from cyclr.tuning.study import Study
from tuning.tasks import result_of

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install 'cyclr[tune]'")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tune.db'}"


def _trials(url: str, name: str = "mine") -> Any:
    return optuna.load_study(study_name=name, storage=url).trials


def test_a_trial_is_there_with_its_parameters_and_what_came_of_it(url: str) -> None:
    result = result_of(0.25, 0.4, weight_decay=1e-3, momentum=(0.85, 0.95))
    Study(url, "mine", "small").add(result)
    (trial,) = _trials(url)
    assert trial.value == 0.25
    assert trial.params == {
        "batch_size": 64,
        "weight_decay": 1e-3,
        "momentum_low": 0.85,
        "momentum_high": 0.95,
        "max_lr": pytest.approx(0.4),
    }
    assert trial.intermediate_values == {60: 0.25}
    assert trial.user_attrs["cyclr_key"] == result.trial.key
    assert trial.user_attrs["task"] == "small"
    assert optuna.load_study(study_name="mine", storage=url).best_trial.number == trial.number


def test_each_trial_is_there_once_however_often_it_is_added(url: str) -> None:
    one, two = result_of(0.25, momentum=0.9), result_of(0.5, momentum=0.95)
    for _ in range(2):
        study = Study(url, "mine", "small")
        study.add(one)
        study.add(two)
        study.add(two)
    assert [trial.value for trial in _trials(url)] == [0.25, 0.5]
    Study(url, "mine", "another task").add(one)
    assert len(_trials(url)) == 3


def test_a_trial_that_diverged_has_failed(url: str) -> None:
    Study(url, "mine", "small").add(result_of(math.nan))
    (trial,) = _trials(url)
    assert trial.state == optuna.trial.TrialState.FAIL


def test_optuna_s_importances_can_be_computed_from_them(url: str) -> None:
    study = Study(url, "mine", "small")
    for i in range(8):
        study.add(result_of(0.1 + i, 0.1, weight_decay=10.0**-i, momentum=0.9 + i / 100))
    frame = optuna.load_study(study_name="mine", storage=url)
    assert frame.best_value == 0.1
    space = optuna.search_space.intersection_search_space(frame.trials)
    assert {"weight_decay", "momentum_high", "max_lr"} <= set(space)


def test_a_storage_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="storage 'nonsense' cannot be opened"):
        Study("nonsense", "mine", "small")
    missing = f"sqlite:///{tmp_path / 'none' / 'x.db'}"
    with pytest.raises(InputError, match="cannot be opened"):
        Study(missing, "mine", "small")


def test_a_study_that_maximizes_is_refused(url: str) -> None:
    optuna.create_study(storage=url, study_name="up", direction="maximize")
    with pytest.raises(InputError, match="maximizes"):
        Study(url, "up", "small")
