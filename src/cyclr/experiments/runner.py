"""Runs what a grid is missing, on this machine or over a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cyclr.errors import InputError
from cyclr.experiments.cluster import connect
from cyclr.experiments.facts import commit, hardware, now, versions
from cyclr.experiments.grid import Grid, Row
from cyclr.experiments.images import load_data
from cyclr.experiments.runspec import RunSpec
from cyclr.experiments.speed import compare_speed
from cyclr.experiments.store import Busy, RunStore, cache_home, read_result, write_result
from cyclr.experiments.table import results_home
from cyclr.experiments.trainer import Trainer
from cyclr.extras import require

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
        return self._path(self.row.name, results)

    def needed_path(self, results: Path | None = None) -> Path | None:
        """Say where the result of the range test it needs is kept; None if it needs none."""
        return None if self.row.needs is None else self._path(self.row.needs, results)

    def _path(self, row: str, results: Path | None) -> Path:
        return results_home(self.grid, results) / self.tier / f"{row}-seed{self.seed}.json"


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
    chosen = list(grid.tier(tier)["seeds"]) if seeds is None else list(seeds)
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
    path = job.needed_path(options.results)
    test = None if path is None else read_result(path)
    if path is not None and test is None:
        return None
    return job.grid.resolve(job.row, job.tier, job.seed, test)


def finished(job: Job, options: Options) -> dict[str, Any] | None:
    """Read a job's result, if there is one.

    Raises:
        InputError: There is one, and it was made under another spec than the grid has now.
    """
    path = job.result_path(options.results)
    result = read_result(path)
    if result is None:
        return None
    spec = resolve(job, options)
    if spec is not None and RunSpec.from_dict(result["spec"]).key != spec.key:
        raise InputError(
            f"{path} was made under other settings than {job.grid.path} has now; "
            "move it away to run again, or put the grid back"
        )
    return result


def run_job(job: Job, spec: RunSpec, options: Options, watch: Watch | None = None) -> Any:
    """Run one job from where it was left to its end.

    Args:
        job: Which run it is.
        spec: What it does.
        options: How to run.
        watch: Called now and then with the trainer.

    Returns:
        The result as plain data; None if another process is at it.
    """
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    store = _store(job, spec, options)
    try:
        with store.lock():
            data = load_data(spec.data, options.data_dir)
            trainer = Trainer(spec, data)
            trainer.run(store, every_seconds=options.checkpoint_seconds, on_progress=watch)
            return _result(job, trainer)
    except Busy:
        return None


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
) -> list[dict[str, Any]]:
    """Run every job whose result is not there yet, and write the results as they come.

    Args:
        jobs: The jobs, those that others need first.
        options: How to run.
        workers: Runs at a time on this machine, ≥ 1.
        ray: Address of a Ray cluster to run on instead, or ``"local"`` for one of its own.
        tell: Called with a sentence about every run.
        watch: Makes, for a job, what is called now and then while it runs in this process.

    Returns:
        The new results.
    """
    waiting = [job for job in jobs if finished(job, options) is None]
    done: list[dict[str, Any]] = []
    while waiting:
        ready = [(job, spec) for job in waiting if (spec := resolve(job, options)) is not None]
        if not ready:
            names = ", ".join(job.name for job in waiting)
            raise InputError(f"these wait for a range test that is being run elsewhere: {names}")
        results = _fan_out(ready, options, workers, ray, watch)
        for (job, spec), result in zip(ready, results, strict=True):
            if result is None:
                tell(f"{job.name}: another process is at it")
                continue
            write_result(job.result_path(options.results), result)
            _store(job, spec, options).clear()
            tell(f"{job.name}: {100 * result['accuracy']:.2f} % in {result['seconds']:.0f} s")
            done.append(result)
        tried = {job.name for job, _ in ready}
        waiting = [job for job in waiting if job.name not in tried]
    return done


def _fan_out(
    ready: list[tuple[Job, RunSpec]],
    options: Options,
    workers: int,
    ray: str | None,
    watch: Callable[[Job], Watch] | None,
) -> Iterable[Any]:
    if ray is None and workers == 1:
        return (
            run_job(job, spec, options, None if watch is None else watch(job))
            for job, spec in ready
        )
    joblib = require("joblib", caller="running several at a time", extra="training")
    calls = [joblib.delayed(run_job)(job, spec, options) for job, spec in ready]
    if ray is None:
        results: Iterable[Any] = joblib.Parallel(n_jobs=workers, return_as="generator")(calls)
        return results
    connect(ray)
    require("ray.util.joblib", caller="--ray", extra="ray").register_ray()
    with joblib.parallel_config(backend="ray", n_jobs=-1):
        return list(joblib.Parallel()(calls))
