"""Calls made here and in several processes."""

import os

from cyclr.experiments.fanout import fan_out


def _square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def _never(value: object) -> bool:
    return False


def test_calls_are_made_here_one_after_the_other_and_as_they_are_asked_for() -> None:
    begun: list[int] = []

    def run(number: int) -> int:
        begun.append(number)
        return number

    values = fan_out(run, [(1,), (2,), (3,)], until=_never)
    assert next(values) == 1
    assert begun == [1]
    assert list(values) == [2, 3]


def test_nothing_is_begun_after_the_last() -> None:
    begun: list[int] = []
    assert list(fan_out(begun.append, [(1,), (2,)], until=lambda _: True)) == [None]
    assert begun == [1]


def test_several_processes_share_the_calls() -> None:
    values = list(fan_out(_square, [(i,) for i in range(4)], until=_never, workers=2))
    assert sorted(square for square, _ in values) == [0, 1, 4, 9]
    assert os.getpid() not in {process for _, process in values}


def test_one_call_needs_no_other_process() -> None:
    assert list(fan_out(_square, [(3,)], until=_never, workers=4)) == [(9, os.getpid())]
    assert list(fan_out(_square, [], until=_never, workers=4)) == []
