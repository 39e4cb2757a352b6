"""What a tune found, in words and as a table."""

import math
from typing import Any

import pytest

from cyclr.tuning import Outcome, TrialResult
from cyclr.tuning.budget import Wishes
from cyclr.tuning.choose import Choice
from cyclr.tuning.table import duration, markdown, plan_rows
from cyclr.tuning.words import (
    against_own,
    batch_words,
    difference,
    fit_words,
    noise_words,
    notes,
    paragraph,
)
from tuning.tasks import plan_of, request, result_of, trial_of


def _curve(train: list[float], held: list[float]) -> Any:
    pairs = zip(train, held, strict=True)
    return [{"step": 10 * i, "loss": a, "val_loss": b} for i, (a, b) in enumerate(pairs, start=1)]


@pytest.mark.parametrize(
    ("train", "held", "sign"),
    [
        ([1.0, 0.5, 0.2, 0.1], [1.0, 0.6, 0.7, 0.8], "a sign of overfitting"),
        ([1.0, 0.8, 0.7, 0.6], [1.0, 0.8, 0.7, 0.6], "a sign of underfitting"),
        ([1.0, 0.6, 0.4, 0.2], [1.0, 0.8, 0.7, 0.6], "no sign of overfitting yet"),
        ([1.0, 0.6, 0.5, 0.5], [1.0, 0.8, 0.7, 0.7], "levelled off"),
        # It rose again, but so did the training loss: the rate was too high for both.
        ([1.0, 0.5, 0.6, 0.7], [1.0, 0.6, 0.7, 0.8], "too high"),
        ([1.0], [1.0], ""),
    ],
)
def test_signs_of_over_and_underfitting(train: list[float], held: list[float], sign: str) -> None:
    said = fit_words(_curve(train, held), 0.01)
    assert sign in said
    assert said or not sign


def test_a_difference_within_the_noise_is_called_chance() -> None:
    assert difference(0.20, 0.18, 0.05) == "10.0% lower"
    assert difference(0.20, 0.18, 0.25) == "10.0% lower, which may be chance"
    assert difference(0.20, 0.24, 0.05) == "20.0% higher"


def test_the_noise_in_words() -> None:
    assert "may be chance; a loss counts as lower from 1% on" in noise_words(None, 0.01)
    assert "makes a difference of 25.8%" in noise_words(0.258, 0.05)


def test_the_winner_against_the_task_s_own_settings() -> None:
    own = result_of(0.25, weight_decay=5e-4, momentum=(0.85, 0.95))
    winner = result_of(0.20, 0.3, weight_decay=1e-3, momentum=0.9)
    said = against_own(own, winner, 0.01)
    assert said == (
        "Chosen: weight decay 0.001, momentum 0.9, batch size 64 and max_lr 0.3, with a validation "
        "loss of 0.2000 after 60 updates against 0.2500 with the task's own settings at the rate "
        "read for them: 20.0% lower."
    )
    assert against_own(winner, winner, 0.01).startswith("The task's own settings stay: ")
    assert "against" not in against_own(None, winner, 0.01)
    lost = result_of(math.nan, weight_decay=5e-4)
    assert "the loss became NaN or infinite" in against_own(lost, winner, 0.01)


def _choice(stage: str, *results: TrialResult, after: int = 0) -> Choice:
    return Choice(stage=stage, before=results[0], after=results[after], tried=results)


def test_how_the_rate_moved_with_the_batch_size_beside_the_rules() -> None:
    results = [result_of(0.1, lr, batch_size=b) for b, lr in ((64, 0.1), (128, 0.2), (256, 0.4))]
    said = batch_words(request(batch_size=[128, 256]), [_choice("batch size", *results)])
    assert "0.1 at 64, 0.2 at 128, 0.4 at 256" in said
    assert "to the power 1.00 (linear scaling says 1, the square root 0.5)" in said
    assert batch_words(request(), []) == ""


def test_a_paragraph_says_what_each_stage_came_to() -> None:
    own = result_of(0.25, weight_decay=5e-4, momentum=(0.85, 0.95))
    decay = result_of(0.20, weight_decay=1e-3, momentum=(0.85, 0.95))
    worse = result_of(0.30, weight_decay=1e-3, momentum=0.9)
    choices = [
        _choice("weight decay", own, decay, after=1),
        _choice("momentum", decay, worse),
        _choice("own settings", decay, own),
    ]
    said = paragraph(request(), own, decay, choices, None, 0.01)
    assert "Weight decay 0.001 instead of 0.0005: 20.0% lower." in said
    assert "Momentum stays cyclical 0.95→0.85: the best other is 50.0% higher." in said
    assert "own settings are better" not in said
    taken = [_choice("own settings", worse, own, after=1)]
    said = paragraph(request(), own, own, taken, None, 0.01)
    assert "what shorter runs chose is taken back: 16.7% lower." in said


def test_what_decided_among_equal_losses_is_said() -> None:
    own = result_of(0.250, 0.1, weight_decay=5e-4)
    faster = result_of(0.251, 0.1, read=0.4, weight_decay=1e-2)
    said = paragraph(
        request(), own, faster, [_choice("weight decay", own, faster, after=1)], None, 0.01
    )
    assert "Weight decay 0.01 instead of 0.0005: 0.4% higher, which may be chance; " in said
    assert "; its stable rate, 0.4, is the larger one." in said


def test_a_rate_is_told_with_the_runs_that_chose_it() -> None:
    slow, fast = (0.01, 0.1), (0.03, 0.3)
    low = result_of(0.20, 0.1, updates=90, bounds=slow, examples=240)
    high = result_of(0.18, 0.3, updates=90, bounds=fast, examples=240)
    said = paragraph(request(), low, high, [_choice("rate", low, high, after=1)], None, 0.01)
    assert "a validation loss of 0.1800 after 90 updates on 240 examples against 0.2000" in said
    assert " In runs of 90 updates on 240 examples, rate 0.3 instead of 0.1: 10.0% lower." in said
    assert "all its epochs on 240 of the 512 examples: " in said
    said = paragraph(request(), low, low, [_choice("rate", low)], None, 0.01)
    assert "In runs of" not in said  # nothing was compared with it
    equal = result_of(0.201, 0.3, updates=90, bounds=fast)
    said = paragraph(request(), low, equal, [_choice("rate", low, equal, after=1)], None, 0.01)
    assert "0.5% higher, which may be chance; of rates that do as well the highest is taken" in said
    assert "examples" not in said.split("In runs of")[0]


def test_what_a_range_test_read_beside_a_given_rate_is_in_the_table() -> None:
    table = markdown([result_of(0.25, 0.1, read=0.4, bounds=(0.01, 0.1))], None)
    assert "| given rate, range test: 0.4 |" in table
    assert "range test:" not in markdown([result_of(0.25, 0.1, read=0.1)], None)


def test_notes_give_the_figures_of_every_stage() -> None:
    own = result_of(0.25, weight_decay=5e-4)
    lost = result_of(math.nan, weight_decay=1e-2)
    (note,) = notes([_choice("weight decay", own, lost)])
    assert note == (
        "Weight decay 0.0005; validation loss after 60 updates: 0.2500 for 0.0005, (the loss "
        "became NaN or infinite) for 0.01."
    )


def test_the_table_has_a_row_for_every_trial() -> None:
    winner = result_of(0.2, 0.3, momentum=0.9, bounds=(0.03, 0.3))
    too_large = TrialResult(trial=trial_of(batch_size=4096), outcome=Outcome.TOO_LARGE)
    table = markdown([result_of(0.25, momentum=(0.85, 0.95)), winner, too_large], winner)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert len(lines) == 5
    assert lines[2][2:5] == ["0.95→0.85", "64", "0.1"]
    assert lines[3][-1] == "**chosen**, given rate"
    assert lines[4][-1] == "does not fit in memory"
    assert lines[4][7] == ""
    assert len({len(line) for line in table.splitlines()}) == 1


def test_a_plan_as_rows_adds_up() -> None:
    wishes = Wishes(own=True, decays=3, momenta=2)
    rows = plan_rows(plan_of(1000, wishes=wishes, seconds_per_update=0.5))
    assert rows[1:] == [
        ("own settings", "1", "166", "166", "83 s"),
        ("momentum", "2", "100", "200", "2 min"),
        ("weight decay", "3", "143", "429", "4 min"),
        ("together", "6", "", "795", "7 min"),
    ]
    assert [duration(s) for s in (3, 99, 600, 9000)] == ["3 s", "99 s", "10 min", "2.5 h"]


@pytest.mark.parametrize(("others", "said"), [((0.3, 0.9), True), ((0.03, 0.3), False)])
def test_a_rate_that_stays_says_if_no_lower_one_was_tried(
    others: tuple[float, ...], said: bool
) -> None:
    rates = (0.1, *others)
    losses = (0.2, 0.3, 0.3)
    results = [
        result_of(loss, rate, bounds=(rate / 10, rate))
        for loss, rate in zip(losses, rates, strict=True)
    ]
    text = paragraph(request(), results[0], results[0], [_choice("rate", *results)], None, 0.01)
    assert "ate stays 0.1: the best other is 50.0% higher" in text
    assert ("no lower rate was tried in runs as long" in text) == said
