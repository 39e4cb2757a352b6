"""Calls made here, in several processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from cyclr.experiments.cluster import connect
from cyclr.extras import require
from cyclr.training.signals import StopRequest

Calls = Sequence[tuple[Any, ...]]


def fan_out(
    run: Callable[..., Any],
    calls: Calls,
    *,
    until: Callable[[Any], bool],
    workers: int = 1,
    ray: str | None = None,
) -> Iterator[Any]:
    """Call a function with each of several sets of arguments, and give what it returns as it comes.

    Ctrl-C and SIGTERM reach every process; what has not begun by then is not begun.

    Args:
        run: The function; picklable unless there is one worker.
        calls: Its arguments, a tuple for each call.
        until: Says of a returned value whether it is the last: no call is begun after it.
        workers: Processes on this machine, ≥ 1.
        ray: Address of a Ray cluster to use instead, or ``"local"``.
    """
    workers = min(workers, len(calls))
    if ray is not None:
        yield from _on_ray(run, calls, until, ray)
    elif workers <= 1:
        yield from _here(run, calls, until)
    else:
        yield from _in_processes(run, calls, until, workers)


def _here(run: Callable[..., Any], calls: Calls, until: Callable[[Any], bool]) -> Iterator[Any]:
    for arguments in calls:
        value = run(*arguments)
        yield value
        if until(value):
            return


def _in_processes(
    run: Callable[..., Any], calls: Calls, until: Callable[[Any], bool], workers: int
) -> Iterator[Any]:
    joblib = require("joblib", caller="running several at a time", extra="training")
    with _PassedOn() as stop:
        parallel = joblib.Parallel(
            n_jobs=workers,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch="n_jobs",  # the rest wait here, where a signal is known of
        )
        over = False
        wanted = (arguments for arguments in calls if not (over or stop.signal))
        for value in parallel(joblib.delayed(_in_worker)(run, each) for each in wanted):
            over = over or until(value)
            yield value


def _in_worker(run: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    # Or a signal would end a worker that is between two calls, and joblib all others with it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    return run(*arguments)


class _PassedOn(StopRequest):
    """Passes what it notes on to this process's children, again and again until they have ended.

    Always as SIGTERM: they have had the terminal's Ctrl-C already, and a second one would not let
    them finish what they are at. Again, because a child that is still getting ready does not hear.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ended = threading.Event()
        self._passing: threading.Thread | None = None

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        super().__exit__()

    def _note(self, number: int, frame: FrameType | None) -> None:
        super()._note(number, frame)
        if self._passing is None:
            self._passing = threading.Thread(target=self._pass_on, daemon=True)
            self._passing.start()

    def _pass_on(self) -> None:
        while not self._ended.is_set():
            for child in multiprocessing.active_children():
                child.terminate()
            self._ended.wait(0.5)


def _on_ray(
    run: Callable[..., Any], calls: Calls, until: Callable[[Any], bool], address: str
) -> Iterator[Any]:
    ray = connect(address)
    cancelled = require("ray.exceptions", caller="--ray", extra="ray").TaskCancelledError
    task = ray.remote(max_retries=0)(run)
    with StopRequest() as stop:
        waiting = [task.remote(*arguments) for arguments in calls]
        over = told = False
        while waiting:
            done, waiting = ray.wait(waiting, timeout=0.5)
            for one in done:
                try:
                    value = ray.get(one)
                except cancelled:
                    continue  # it had not begun
                over = over or until(value)
                yield value
            if (over or stop.signal) and not told:
                told = True
                for one in waiting:  # a Ctrl-C there, which leaves a checkpoint
                    ray.cancel(one)
