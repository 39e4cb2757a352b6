"""Runs independent trials: here, in processes of this machine, or over a Ray cluster."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cyclr.errors import TrainingError
from cyclr.experiments.cluster import connect
from cyclr.experiments.task import Task
from cyclr.experiments.tasks import load_task
from cyclr.extras import require
from cyclr.tuning.running import run_trial
from cyclr.tuning.trial import Trial, TrialResult

Watch = Callable[[Trial, int, str], None]
_RETRIES = 5  # how often a trial whose Ray worker was lost is run again


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """Where trials are run.

    Attributes:
        task: The task.
        source: How it is loaded again elsewhere, as ``{"task": …, "data_dir": …}``; None to send
            the task itself.
        jobs: Trials at a time on this machine, ≥ 1.
        ray: Address of a Ray cluster to run on instead; None for this machine.
        threads: Threads of each trial, ≥ 1; None for torch's own choice of one process's, and the
            cores over the jobs of several's.
        watch: Called with a trial, the updates it has made and a few words, while it runs in this
            process.
    """

    task: Task
    source: Mapping[str, Any] | None = None
    jobs: int = 1
    ray: str | None = None
    threads: int | None = None
    watch: Watch | None = None

    def run(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        """Run trials; give their results as they finish, in any order."""
        if self.ray is not None:
            return self._on_ray(trials)
        if self.jobs > 1 and len(trials) > 1:
            return self._in_processes(trials)
        return self._here(trials)

    def _here(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            for trial in trials:
                tell = None if self.watch is None else functools.partial(self.watch, trial)
                yield run_trial(self.task, trial, tell=tell)
        finally:
            torch.set_num_threads(before)

    def _in_processes(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        joblib = require("joblib", caller="running several at a time", extra="training")
        threads = self.threads or max(1, (os.cpu_count() or 1) // self.jobs)
        call = joblib.delayed(work)
        parallel = joblib.Parallel(n_jobs=self.jobs, return_as="generator_unordered")
        found: Iterator[TrialResult] = parallel(
            call(self.source or self.task, trial, threads) for trial in trials
        )
        return found

    def _on_ray(self, trials: Sequence[Trial]) -> Iterator[TrialResult]:
        assert self.ray is not None
        ray = connect(self.ray)
        # What is sent is sent once: a task made in Python holds its data.
        origin = ray.put(self.source or self.task)
        remote = ray.remote(max_retries=0)(work)
        send = functools.partial(remote.remote, origin, threads=self.threads or 1)
        waiting = {send(trial=trial): (trial, 0) for trial in trials}
        try:
            while waiting:
                (ready, *_), _ = ray.wait(list(waiting), num_returns=1)
                trial, lost = waiting.pop(ready)
                try:
                    yield ray.get(ready)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError as error:
                    # Its worker or node is gone, whatever the reason: the trial is run again.
                    if lost >= _RETRIES:
                        raise _lost(error) from error
                    waiting[send(trial=trial)] = (trial, lost + 1)
        finally:
            for reference in waiting:
                ray.cancel(reference)


def _lost(error: Exception) -> TrainingError:
    words = " ".join(str(error).split())[:200]
    return TrainingError(f"the Ray cluster lost a trial {_RETRIES + 1} times: {words}")


def work(origin: Task | Mapping[str, Any], trial: Trial, threads: int) -> TrialResult:
    """Run a trial in a worker process.

    Args:
        origin: The task, or how it is found.
        trial: What to do.
        threads: How many to use.
    """
    torch.set_num_threads(threads)
    if isinstance(origin, Task):
        return run_trial(origin, trial)
    return run_trial(_load(str(origin["task"]), origin["data_dir"]), trial)


@functools.lru_cache(maxsize=1)
def _load(name: str, data_dir: str | None) -> Task:
    """Load a task, once in each worker: its data may be large."""
    return load_task(name, data_dir)
