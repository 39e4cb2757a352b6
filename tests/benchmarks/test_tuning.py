"""The benchmark of tuning: its search spends what it says, its page says what was found."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.tuning import arms, lengths, page, search
from benchmarks.tuning.store import CACHE, Store
from benchmarks.tuning.tasks import CASES, Case, Images, Size
from cyclr.tuning.choose import highest_rate, relative_noise, tolerance
from cyclr.tuning.longer import BREAKS, reachable
from cyclr.tuning.trial import TrialResult


def _data() -> tuple[Images, Images]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 17, (500, 1, 4, 4), generator=generator, dtype=torch.uint8)
    labels = (images[:, 0, :2].sum((1, 2)) > images[:, 0, 2:].sum((1, 2))).long()
    return Images(images[:400], labels[:400]), Images(images[400:], labels[400:])


CASE = Case(
    name="halves",
    load=_data,
    model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 2)),
    size=Size(images=400, held=100, test=80, batch_size=30, epochs=8),
)
BUDGET = 2 * CASE.size.steps


def _quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def rows() -> list[search.Row]:
    return search.search(CASE, search.SETUPS["optuna"], 1, 3 * BUDGET, _quiet)


def test_the_parts_of_the_data_do_not_overlap_and_are_the_same_every_time() -> None:
    train, held, test = CASE.parts()
    assert (len(train.labels), len(held.labels), len(test.labels)) == (300, 100, 80)
    both = torch.cat([train.images, held.images]).flatten(1).tolist()
    everything = _data()[0].images.flatten(1).tolist()
    assert sorted(both) == sorted(everything)
    assert torch.equal(CASE.parts()[1].images, held.images)


def test_a_search_spends_its_budget_and_no_more_than_a_trial_beyond(
    rows: list[search.Row],
) -> None:
    length = CASE.size.steps // 8
    spent = 0
    for row in rows:
        assert row["before"] == spent < 3 * BUDGET
        assert row["updates"] == (length if row["outcome"] == "completed" else length // 3)
        spent += row["updates"]
    assert 3 * BUDGET <= spent < 3 * BUDGET + length
    assert {"completed", "pruned"} <= {row["outcome"] for row in rows}


def test_the_smaller_search_is_the_beginning_of_the_larger(rows: list[search.Row]) -> None:
    smaller = search.search(CASE, search.SETUPS["optuna"], 1, BUDGET, _quiet)
    assert smaller == rows[: len(smaller)]
    assert search.best(rows, BUDGET) == search.best(smaller, BUDGET)
    assert search.best(rows, 3 * BUDGET)["val_loss"] <= search.best(rows, BUDGET)["val_loss"]
    with pytest.raises(ValueError, match="none of"):
        search.best([row for row in rows if row["outcome"] == "pruned"], BUDGET)


def test_a_trial_trains_as_fit_does() -> None:
    settings = {"lr": 0.3, "weight_decay": 1e-3, "momentum": 0.85}
    recipe = search.recipe_of(settings, CASE.size.steps)
    *_, last = search.losses(CASE.task(), 5, recipe, [3, CASE.size.steps])
    assert last == pytest.approx(arms.score(CASE, 5, recipe)["val_loss"], rel=1e-6)


def test_a_trial_whose_loss_is_not_finite_ends() -> None:
    recipe = search.recipe_of({"lr": 1e38, "weight_decay": 1e38, "momentum": 0.9}, 80)
    assert list(search.losses(CASE.task(), 0, recipe, [20, 80])) == []


def test_results_are_kept_and_belong_to_a_size(tmp_path: Path) -> None:
    Store(CASE, tmp_path).put("untuned", 0, arms.run("untuned", CASE, 0, _quiet))
    result = Store(CASE, tmp_path).get("untuned", 0)
    assert result["test_accuracy"] > 0.8
    assert Store(CASE, tmp_path).get("untuned", 1) is None
    longer = dataclasses.replace(CASE, size=dataclasses.replace(CASE.size, epochs=9))
    with pytest.raises(SystemExit, match="delete it"):
        Store(longer, tmp_path)


@pytest.mark.parametrize(
    ("accuracies", "losses", "said"),
    [
        ([0.1, 0.2, 0.0], [0.0, 0.01, 0.0], "at least as good"),
        ([-0.1, 0.3, -0.3], [0.01, 0.01, 0.0], "equal within the standard error"),
        ([-0.3, -0.2, -0.3], [0.01, 0.01, 0.0], "better in one, worse in the other"),
        ([-0.3, -0.2, -0.3], [-0.01, -0.01, 0.0], "worse"),
    ],
)
def test_the_verdict(accuracies: list[float], losses: list[float], said: str) -> None:
    assert page.verdict(accuracies, losses) == said


def test_the_page_is_what_the_cache_says() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text()
    assert {path.stem for path in CACHE.glob("*.json")} <= {case.name for case in CASES}


def test_what_is_missing_is_named() -> None:
    line = page.Line(accuracy=0.9, loss=0.3, spent=100, trials=1, chosen="")
    first, second, third = map(str, arms.SEEDS)
    both = {first: line, second: line, third: line}
    arms_of = {"untuned": both, "tuned": {first: line, third: line}, "optuna, 6 trainings": both}
    assert page.missing({"halves": arms_of}) == [f"halves, tuned, seed {second}"]
    assert len(page.missing({"halves": {}})) == 9


def test_trainings_are_made_shorter_by_epochs_or_by_images() -> None:
    found = lengths.measure(CASE, _quiet)
    assert len(found["rows"]) == len(lengths.WAYS) * len(lengths.FACTORS)
    steps = {row["way"]: row["steps"] for row in found["rows"]}
    # Batches of 30: 10 an epoch of 300 images, 5 of 150, 2 of 75.
    assert list(steps.values()) == [80, 40, 40, 20, 16]
    text = "\n".join(lengths.tables({"halves": found}))
    assert f"1 is a max_lr of {found['max_lr']:.3g}" in text
    assert "| half of the images | 40 | " in text
    assert text.count("\n| ") == 6


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_the_committed_tunes_chose_the_rate_that_tuning_chooses_now(name: str) -> None:
    (case,) = [case for case in CASES if case.name == name]
    tuned = Store(case).data["tuned"]
    assert set(tuned) == set(map(str, arms.SEEDS))
    for found in tuned.values():
        trials = [TrialResult.from_dict(trial) for trial in found["trials"]]
        # By the key as it was: the cache rounds what keys are made from.
        (at,) = [i for i, trial in enumerate(found["trials"]) if trial["key"] == found["winner"]]
        winner = trials[at]
        same = dataclasses.replace(winner.trial, bounds=None)
        rates = [t for t in trials if dataclasses.replace(t.trial, bounds=None) == same]
        rates.sort(key=lambda trial: trial.max_lr)  # each climbed from the lowest
        (noise,) = [relative_noise(trials[0], t) for t in trials if t.stage == "noise"]
        assert len(rates) == 3
        assert noise is not None
        chosen = highest_rate(reachable(rates, max(BREAKS, noise)), tolerance(noise))
        assert chosen is winner
