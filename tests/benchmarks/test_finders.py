"""The benchmark of finders: its lists of tasks, their seeds, and rules for trials."""

import statistics

import numpy as np
import pytest

from benchmarks.finders import trials, ways
from benchmarks.finders.fourth import FOURTH
from benchmarks.finders.fresh import FRESH
from benchmarks.finders.held_out import HELD_OUT
from benchmarks.finders.latest import LATEST
from benchmarks.finders.oracle import Judge
from benchmarks.finders.problems import BY_NAME, HALVES, NAMES, apart
from benchmarks.finders.store import SEEDS


def test_every_task_has_one_list() -> None:
    held, *others = (
        [problem.name for problem in kept] for kept in (HELD_OUT, FRESH, LATEST, FOURTH)
    )
    assert (len(NAMES), len(held), *map(len, others)) == (24, 12, 13, 12, 12)
    assert len(BY_NAME) == 24 + 12 + 13 + 12 + 12  # no name twice
    assert sorted(HALVES[0] + HALVES[1]) == sorted(NAMES)
    assert apart(list(BY_NAME)) == [list(NAMES), held, *others]
    assert apart([held[0], NAMES[0]]) == [[NAMES[0]], [held[0]]]


@pytest.mark.parametrize("name", BY_NAME)
def test_nine_seeds_are_for_tasks_that_three_leave_uncertain_by_more_than_a_hundredth(
    name: str,
) -> None:
    judge = Judge(name)
    first = [(lr, [judge.store.result(lr, s) for s in SEEDS]) for lr in judge.oracle(least=3).lr]
    reached = [
        [judge.quality(result, s) for s, result in enumerate(results)]
        for _, results in first
        if None not in results
    ]
    best = max(reached, key=statistics.fmean)
    error = statistics.stdev(best) / len(best) ** 0.5 / statistics.fmean(best)
    assert BY_NAME[name].seeds == (9 if error > 0.01 else 3)


def _case(own, lower, higher, *, clear: bool = True) -> trials.Case:
    tails = {(33, e): np.asarray(t, float) for e, t in ((0, own), (-1, lower), (3, higher))}
    return trials.Case(tails, clear)


OWN, BETTER, WORSE, NOISY = [1, 2, 1, 2], [0.5, 1.6, 0.5, 1.6], [2, 3, 2, 3], [3, 0, 2.9, 0]


@pytest.mark.parametrize(
    ("case", "exponent"),
    [
        (_case(OWN, WORSE, WORSE), 0.0),
        (_case(OWN, WORSE, BETTER), 1.5),
        (_case(OWN, BETTER, WORSE), -0.5),
        (_case(OWN, BETTER, WORSE, clear=False), 0.0),
        (_case(OWN, NOISY, WORSE), 0.0),  # a lower mean is not enough downward
        (_case(OWN, WORSE, NOISY), 0.0),  # … nor upward
        (_case(OWN, [], []), 0.0),
        (_case([], BETTER, BETTER), -2.0),
    ],
)
def test_the_middle_between_the_reading_and_the_best_trial(case, exponent: float) -> None:
    assert trials.middle(33, [-1, 3])(case) == exponent


def test_a_third_rate_follows_the_better_direction() -> None:
    choose = trials.further(33, up=3, down=-1)
    better, best = np.asarray(BETTER, float), np.asarray(BETTER, float) - 0.2
    case = _case(OWN, BETTER, WORSE)
    assert choose(case) == -0.5
    higher = _case(OWN, BETTER, BETTER)
    assert choose(higher._replace(tails=higher.tails | {(33, 6): best})) == 3.0
    assert choose(higher._replace(tails=higher.tails | {(33, 6): better + 1})) == 1.5


def test_all_of_the_way_is_for_trials_that_fell_much_further() -> None:
    """On one task the reading is far too low; on the other a higher trial was ahead by little."""
    told = ways.markdown({"low": ["flower-regression-momentum"], "near": ["text-lstm-sgd-clipped"]})
    rows = [[float(cell.split("/")[0]) for cell in line.split("|")[2:4]] for line in told[2:]]
    assert len(rows) == len(ways.WAYS) == 4
    (none, _), (half, near_half), (whole, near_whole), (chosen, near_chosen) = rows
    assert none < half < chosen == whole
    assert near_chosen == near_half > near_whole
