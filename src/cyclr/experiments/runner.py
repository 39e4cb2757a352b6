"""Runs what a grid is missing, on this machine or over a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cyclr.errors import InputError, Interrupted
from cyclr.experiments.facts import commit, hardware, now, versions
from cyclr.experiments.fanout import fan_out
from cyclr.experiments.grid import Grid, Row
from cyclr.experiments.images import load_data
from cyclr.experiments.results import Result, read_current, result_path, spec_of
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.speed import compare_speed
from cyclr.experiments.store import Busy, RunStore, cache_home, check_writable, write_result
from cyclr.experiments.trainer import Trainer

Tell = Callable[[str], None]
Watch = Callable[[Trainer], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a row, with where its result goes."""

    grid: Grid
    row: Row
    tier: str
    seed: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.grid.name} {self.tier} {self.row.name} seed {self.seed}"

    def result_path(self, results: Path | None = None) -> Path:
        """Say where the finished result is kept."""
        return result_path(self.grid, self.row.name, self.tier, self.seed, results)


def jobs_of(
    grid: Grid, tier: str, rows: Sequence[Row], seeds: Sequence[int] | None = None
) -> list[Job]:
    """List the runs of a tier, range tests before what is planned from them.

    Args:
        grid: The grid.
        tier: The tier.
        rows: Which rows.
        seeds: In place of the tier's own.
    """
    chosen = dict.fromkeys(grid.tier(tier)["seeds"] if seeds is None else seeds)
    names = dict.fromkeys(row.cut or row.name for row in rows)
    first = dict.fromkeys(row.needs for row in rows if row.needs)
    ordered = [grid.row(name) for name in {**first, **names}]
    return [Job(grid=grid, row=r, tier=tier, seed=s) for s in chosen for r in ordered]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run.

    Attributes:
        data_dir: See :func:`~cyclr.experiments.images.load_data`.
        store: Folder of the checkpoints; under the user's cache if None.
        results: Folder of the results; beside the grids if None.
        threads: Threads of each run, ≥ 1; torch's own choice if None.
        checkpoint_seconds: Time between checkpoints.
    """

    data_dir: str | None = None
    store: Path | None = None
    results: Path | None = None
    threads: int | None = None
    checkpoint_seconds: float = 60.0


def resolve(job: Job, options: Options) -> RunSpec | None:
    """Make a job's spec; None as long as the range test it needs has not been run."""
    return spec_of(job.grid, job.row, job.tier, job.seed, options.results)


def finished(job: Job, options: Options) -> Result | None:
    """Read a job's result, if there is one.

    Raises:
        InputError: There is one, and it was made under another spec than the grid has now.
    """
    return read_current(job.result_path(options.results), job.grid, resolve(job, options))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What became of a job: plain data, to be sent between processes.

    Attributes:
        job: The job.
        result: Its result; None if another process is at it, or it was told to stop.
        new: Whether the result was not there before.
        stopped: The message, signal and step of :class:`~cyclr.errors.Interrupted`; or None.
    """

    job: Job
    result: Result | None = None
    new: bool = False
    stopped: tuple[str, int, int] | None = None


def run_job(
    job: Job,
    spec: RunSpec,
    options: Options,
    watch: Callable[[Job], Watch] | None = None,
    keep: bool = True,
) -> Ended:
    """Run one job from where it was left to its end, unless another process has meanwhile.

    Args:
        job: Which run it is.
        spec: What it does.
        options: How to run.
        watch: Makes, for a job, what is called with the trainer at its start and now and then.
        keep: Whether to write the result, while other processes are kept off the run.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    store, path = _store(job, spec, options), job.result_path(options.results)
    try:
        with store.lock():
            if (found := read_current(path, job.grid, spec)) is not None:
                return Ended(job=job, result=found)
            if keep:
                check_writable(path.parent)
            trainer = Trainer(spec, load_data(spec.data, options.data_dir))
            told = None if watch is None else watch(job)
            trainer.run(store, every_seconds=options.checkpoint_seconds, on_progress=told)
            result = _result(job, trainer)
            if keep:
                _keep(job, spec, options, result)
            return Ended(job=job, result=result, new=True)
    except Busy:
        return Ended(job=job)
    except Interrupted as error:
        return Ended(job=job, stopped=(f"{job.name}: {error}", error.signal, error.step))


def _keep(job: Job, spec: RunSpec, options: Options, result: Result) -> None:
    write_result(job.result_path(options.results), result)
    _store(job, spec, options).clear()


def _store(job: Job, spec: RunSpec, options: Options) -> RunStore:
    home = cache_home() / "papers" if options.store is None else options.store
    return RunStore(home / job.grid.name / job.tier / f"{job.row.name}-{job.seed}-{spec.key}")


def _result(job: Job, trainer: Trainer) -> dict[str, Any]:
    evaluations = trainer.curves.evaluations
    return {
        "cyclr_result": 1,
        "grid": job.grid.name,
        "tier": job.tier,
        "row": job.row.name,
        "seed": job.seed,
        "outcome": "diverged" if trainer.curves.diverged else "completed",
        "accuracy": evaluations[-1]["accuracy"],
        "best_accuracy": max(e["accuracy"] for e in evaluations),
        "steps": trainer.step,
        "seconds": round(trainer.clock.wall, 1),
        "cpu_seconds": round(trainer.clock.cpu, 1),
        "steps_per_second": round(trainer.step / max(trainer.clock.wall, 1e-9), 3),
        "steps_per_cpu_second": round(trainer.step / max(trainer.clock.cpu, 1e-9), 3),
        "speed": compare_speed(trainer, blocks=1 if trainer.spec.stop_after else 5),
        "interruptions": trainer.interruptions,
        "finished": now(),
        "data_fingerprint": trainer.data.fingerprint,
        "versions": versions(),
        "commit": commit(job.grid.path.parent),
        "hardware": hardware(),
        "spec": trainer.spec.to_dict(),
        "measures": {name: m.result() for name, m in trainer.measures.items()},
        "curve": trainer.curves.result(),
    }


def run_missing(
    jobs: Iterable[Job],
    options: Options,
    *,
    workers: int = 1,
    ray: str | None = None,
    tell: Tell = lambda _: None,
    watch: Callable[[Job], Watch] | None = None,
) -> list[Result]:
    """Run every job whose result is not there yet, and write the results as they come.

    Args:
        jobs: The jobs, those that others need first.
        options: How to run.
        workers: Runs at a time on this machine, ≥ 1.
        ray: Address of a Ray cluster to run on instead, or ``"local"`` for one of its own.
        tell: Called with a sentence about every run.
        watch: Makes, for a job, what is called with the trainer at its start and now and then, in
            the process that runs it; picklable if that is another one.

    Returns:
        The new results.

    Raises:
        Interrupted: Ctrl-C or SIGTERM came; every run under way has left a checkpoint.
    """
    waiting = [job for job in jobs if finished(job, options) is None]
    done: list[Result] = []
    while waiting:
        ready = [(job, spec) for job in waiting if (spec := resolve(job, options)) is not None]
        if not ready:
            names = ", ".join(job.name for job in waiting)
            raise InputError(f"these wait for a range test that is being run elsewhere: {names}")
        # Where a cluster's machines write to is not always where results are kept.
        calls = [(job, spec, options, watch, ray is None) for job, spec in ready]
        ended = fan_out(run_job, calls, until=_was_stopped, workers=workers, ray=ray)
        if ray is not None:
            ended = _kept_here(ended, options)
        done += _heard(ended, tell)
        tried = {job.name for job, _ in ready}
        waiting = [job for job in waiting if job.name not in tried]
    return done


def _was_stopped(ended: Ended) -> bool:
    return ended.stopped is not None


def _kept_here(ended: Iterable[Ended], options: Options) -> Iterator[Ended]:
    for one in ended:
        if one.new and one.result is not None:
            _keep(one.job, RunSpec.from_dict(one.result["spec"]), options, one.result)
        yield one


def _heard(ended: Iterable[Ended], tell: Tell) -> list[Result]:
    """Say what became of every job, and give the new results."""
    new, stopped = [], None
    for one in ended:
        if one.stopped is not None:
            stopped = stopped or one.stopped
            if one.stopped is not stopped:
                tell(one.stopped[0])
        elif one.result is None:
            tell(f"{one.job.name}: another process is at it")
        elif not one.new:
            tell(f"{one.job.name}: another process has finished it")
        else:
            accuracy, seconds = one.result["accuracy"], one.result["seconds"]
            tell(f"{one.job.name}: {100 * accuracy:.2f} % in {seconds:.0f} s")
            new.append(one.result)
    if stopped is not None:
        raise Interrupted(stopped[0], signal=stopped[1], step=stopped[2])
    return new
