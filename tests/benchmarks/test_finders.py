"""The benchmark of finders: its lists of tasks, their seeds, their records, and trials."""

import math
import statistics

import pytest
import torch

from benchmarks.finders import sweeps, table, trials
from benchmarks.finders.fifth import FIFTH
from benchmarks.finders.fourth import FOURTH
from benchmarks.finders.fresh import FRESH
from benchmarks.finders.held_out import HELD_OUT
from benchmarks.finders.latest import LATEST
from benchmarks.finders.oracle import Judge
from benchmarks.finders.problems import BY_NAME, HALVES, NAMES, apart
from benchmarks.finders.store import SEEDS


def test_every_task_has_one_list() -> None:
    held, *others = (
        [problem.name for problem in kept] for kept in (HELD_OUT, FRESH, LATEST, FOURTH, FIFTH)
    )
    assert (len(NAMES), len(held), *map(len, others)) == (24, 12, 13, 12, 12, 13)
    assert len(BY_NAME) == 24 + 12 + 13 + 12 + 12 + 13  # no name twice
    assert sorted(HALVES[0] + HALVES[1]) == sorted(NAMES)
    assert apart(list(BY_NAME)) == [list(NAMES), held, *others]
    assert apart([held[0], NAMES[0]]) == [[NAMES[0]], [held[0]]]


@pytest.mark.parametrize("name", BY_NAME)
def test_nine_seeds_are_for_tasks_that_three_leave_uncertain(
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
    whos = ("cyclr", table.CONFIRMED) if name in NAMES else ()  # others are not trained
    ours = [_error(_reached(judge, who), best) for who in whos]
    unsure = _error(best, best) > 0.01 or max(ours, default=0.0) > 0.03
    assert BY_NAME[name].seeds == (9 if unsure else 3)


def _reached(judge: Judge, finder: str) -> list[float]:
    """Give what trainings at a finder's rates reach, by the seeds that every task has."""
    name = judge.problem.name
    rates = [table.suggested(finder, name, seed).lr for seed in SEEDS]
    results = [judge.store.result(lr, seed) for seed, lr in enumerate(rates) if lr is not None]
    return [judge.quality(r, seed) for seed, r in enumerate(results) if r is not None]


def _error(reached: list[float], best: list[float]) -> float:
    return statistics.stdev(reached) / len(reached) ** 0.5 / statistics.fmean(best)


OWN, BETTER, NOISY = [1.0, 2.0] * 16, [0.5, 1.6] * 16, [3.0, 0.0] * 16
EXPLODED = [*OWN[:20], *[1e9] * 12]


@pytest.mark.parametrize(
    ("higher", "third", "rates", "settled"),
    [
        (OWN, OWN, (1.0, 8.0, 0.5), 1.0),
        (BETTER, OWN, (1.0, 8.0, 64.0), 8**0.5),
        (BETTER, [x - 0.2 for x in BETTER], (1.0, 8.0, 64.0), 8.0),
        (OWN, BETTER, (1.0, 8.0, 0.5), 0.5**0.5),
        (NOISY, OWN, (1.0, 8.0, 0.5), 1.0),  # a lower mean alone is not enough
        ([math.nan], OWN, (1.0, 8.0, 0.5), 1.0),
        (EXPLODED, OWN, (1.0, 8.0, 0.5), 1.0),
    ],
)
def test_three_trials_and_what_follows(higher, third, rates, settled: float) -> None:
    tried: trials.Tried = []
    for losses in (OWN, higher, third):
        rate = trials.next_rate(1.0, tried)
        assert rate is not None
        tried.append((rate, losses))
    assert tuple(rate for rate, _ in tried) == rates
    assert trials.next_rate(1.0, tried) is None
    assert trials.settled(1.0, tried) == pytest.approx(settled)


def test_a_trial_that_diverges_at_the_reading_is_the_last() -> None:
    assert trials.next_rate(1.0, [(1.0, EXPLODED)]) is None
    assert trials.settled(1.0, [(1.0, EXPLODED)]) == 0.25


def test_kept_records_are_of_slow_sweeps_under_sgd_and_of_quick_ones_otherwise() -> None:
    for name, problem in BY_NAME.items():
        slow = isinstance(problem.optimizer([torch.nn.Parameter(torch.ones(1))]), torch.optim.SGD)
        for seed in SEEDS:
            record, quick = sweeps.load(name, seed), sweeps.quick(name, seed)
            assert bool(record.scout.lr) == slow
            assert not quick.scout.lr
            assert (record == quick) != slow
            assert record.updates <= 150
