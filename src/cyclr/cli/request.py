"""What ``cyclr fit`` was asked for, or a run that is gone on with was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclr.errors import InputError, SpecError, complaint
from cyclr.schedules import Units

if TYPE_CHECKING:
    from cyclr.experiments.pipeline import Parts
    from cyclr.experiments.task import Task
    from cyclr.training import RunFolder

_MINUTES = "min"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A task, and how to train it.

    Attributes:
        source: ``{"task": …, "data_dir": …}``, how the task is found.
        seed: Seed of everything random.
        given: Settings that were given, without durations.
        durations: Settings that are durations, as the user wrote them.
        saved: Settings of the run that is gone on with.
        trackers: Names of trackers.
        folder: Of the run that is gone on with; empty for a new one.
        planned: Whether cyclr makes the recipe.
    """

    source: Mapping[str, Any]
    seed: int
    given: Mapping[str, Any]
    durations: Mapping[str, str]
    saved: Mapping[str, Any]
    trackers: list[str]
    folder: str
    planned: bool

    @classmethod
    def make(
        cls,
        task: str | None,
        data_dir: str | None,
        *,
        seed: int | None,
        given: Mapping[str, Any],
        durations: Mapping[str, str],
        trackers: list[str],
        resume: str | None,
        planned: bool,
    ) -> Request:
        """Put together what was given and, when a run is gone on with, what it was begun with.

        Raises:
            InputError: A setting breaks its constraint.
            CheckpointError: There is no run to go on with, or it was begun with something else, or
                from Python.
        """
        from cyclr.training import RunFolder, Settings
        from cyclr.training.tracking import check_trackers

        Settings(**given)
        check_trackers(trackers, "runs")
        source: Mapping[str, Any] = {
            "task": None if task is None else lasting(task),
            "data_dir": data_dir,
        }
        saved: Mapping[str, Any] = {}
        if resume is not None:
            facts = {} if seed is None else {"seed": seed}
            run = RunFolder.existing(resume, **facts)
            begun = _source(run)
            _check_source(resume, source, begun)
            source, seed, saved = begun, run.facts["seed"], run.facts["settings"]
        return cls(
            source=source,
            seed=0 if seed is None else seed,
            given=given,
            durations=durations,
            saved=saved,
            trackers=trackers,
            folder=resume or "",
            planned=planned,
        )

    def load(self) -> Task:
        """Find the task."""
        from cyclr.experiments.tasks import load_task

        return load_task(str(self.source["task"]), self.source["data_dir"])

    def settings(self, parts: Parts) -> dict[str, Any]:
        """Give the settings for ``fit``, durations turned into steps."""
        settings = {**self.saved, **self.given}
        if not self.saved and self.planned and parts.validation is not None:
            settings.setdefault("on_plateau", "lower")
        per_epoch = max(1, parts.steps_per_epoch // settings.get("accumulate", 1))
        units = Units(steps_per_epoch=per_epoch)
        for name, duration in self.durations.items():
            settings |= _duration(name, duration, units)
        return settings


def words(
    validate_every: str | None, checkpoint_every: str | None, probe_every: int | None
) -> dict[str, str]:
    """Collect the durations that were given."""
    durations = {
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
        "probe_every": None if probe_every is None else str(probe_every),
    }
    return {name: value for name, value in durations.items() if value is not None}


def _duration(name: str, text: str, units: Units) -> dict[str, Any]:
    where = f"--{name.replace('_', '-')}"
    if name == "checkpoint_every" and text.endswith(_MINUTES):
        try:
            return {"checkpoint_minutes": float(text.removesuffix(_MINUTES))}
        except ValueError:
            raise SpecError(
                complaint(where, 'minutes such as "10min"', text, "write a number before min")
            ) from None
    steps = units.steps(int(text) if text.isdecimal() else text, where=where)
    if name == "probe_every" and steps == 0:
        return {name: None}
    if steps < 1:
        raise SpecError(complaint(where, "at least one step", text, "make it longer"))
    # Steps instead of minutes: both only if both were asked for.
    return {name: steps, **({"checkpoint_minutes": None} if name == "checkpoint_every" else {})}


def lasting(task: str) -> str:
    """Name a task's file so that it is found from another folder too."""
    place, colon, function = task.rpartition(":")
    return f"{Path(place).resolve()}{colon}{function}" if place.endswith(".py") else task


def _source(run: RunFolder) -> Mapping[str, Any]:
    """Say how the task of a run is found, which only the command line writes down."""
    from cyclr.errors import CheckpointError

    source: Mapping[str, Any] | None = run.facts.get("source")
    if not source:
        raise CheckpointError(
            f"{run.path} was begun from Python, and what it trains is known there only; make the "
            "same call again with resume=True"
        )
    return source


def _check_source(run: str, asked: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    from cyclr.errors import CheckpointError

    for name, value in asked.items():
        if value is not None and value != begun.get(name):
            option = "TASK" if name == "task" else "--data-dir"
            raise CheckpointError(
                f"{run} was begun with {option} {begun.get(name)}, and this is {value}; leave it "
                "out to go on with that run, or train anew into another folder"
            )


def check_conflicts(
    planning: Mapping[str, Any],
    *,
    recipe: str | None,
    resume: str | None,
    extend: int | None,
    out: str | None,
    task: str | None,
) -> None:
    """Refuse options that contradict each other.

    Raises:
        InputError: They do.
    """
    named = ", ".join(list(planning)[:-1]) + f" and {list(planning)[-1]}"
    some = any(value is not None for value in planning.values())
    if recipe is not None and some:
        raise InputError(
            f"--recipe says how long to train and how; leave out {named}, or leave out --recipe"
        )
    if resume is not None and some:
        raise InputError(f"a run goes on with its own recipe; leave out {named} with --resume")
    if resume is not None and out is not None:
        raise InputError("a run goes on in its own folder; leave out --out with --resume")
    if extend is not None and resume is None:
        raise InputError("--extend adds cycles to a finished run; name it with --resume RUN")
    if task is None and resume is None:
        raise InputError("there is nothing to train; name a TASK, or a run with --resume RUN")
