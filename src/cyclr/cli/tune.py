"""``cyclr tune``: batch size, rate, momentum and weight decay within a budget, into a recipe."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyclr.cli.options import (
    AsJson,
    DataDir,
    Policy,
    Seed,
    TaskName,
    check_choice,
    fresh_folder,
    print_json,
    progress,
    say,
)
from cyclr.errors import InputError
from cyclr.figures import show
from cyclr.planning import POLICIES

if TYPE_CHECKING:
    from cyclr.tuning import Plan, Trial, TrialResult, Tuning


def tune(
    task: TaskName,
    data_dir: DataDir = None,
    budget: Annotated[
        str,
        typer.Option(
            help='What it may cost: updates, or "10ep", "2run" (lengths of the training the recipe '
            'is for), "20min".'
        ),
    ] = "2run",
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=1, help="Length of the training the recipe is for; the task's own."
        ),
    ] = None,
    policy: Policy = "one_cycle",
    weight_decay: Annotated[
        str | None,
        typer.Option(
            metavar="1e-3,1e-4,0",
            help="The grid; or shallow, or deep. By default by the number of weight layers.",
        ),
    ] = None,
    momentum: Annotated[
        str | None,
        typer.Option(metavar=".95,.9,cyclical", help=".99,.97,.95,.9,cyclical by default."),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            metavar="64,128,256", help="Compare these at equal time; by default, none are."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="STAGE,…", help="Of batch-size, rate, momentum, weight-decay: these only."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Start every trial from this run's model, or from a .safetensors file.",
        ),
    ] = None,
    seed: Seed = 0,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the plan with its cost, and stop.")
    ] = (False),
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time on this machine.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run on this Ray cluster instead; auto to find it."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each trial.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Put trials in this Optuna storage: sqlite:///tune.db."),
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="The study there; the task's name.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Where to keep it; the same command again goes on."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tune batch size, rate, momentum and weight decay by short runs; give a recipe for cyclr fit.

    The plan and its cost are printed first. Finished trials are kept, and not run again.
    """
    check_choice("--policy", policy, POLICIES)
    from cyclr.tuning.request import STAGES

    stages = None if only is None else _split(only)
    for stage in stages or []:
        check_choice("--only", stage, STAGES)
    wanted = {
        "budget": budget,
        "epochs": epochs,
        "policy": policy,
        "seed": seed,
        "weight_decay": _decays(weight_decay),
        "momentum": _numbers("--momentum", momentum, word="cyclical"),
        "batch_size": _sizes(batch_size),
        "stages": stages,
        "start": start,
    }
    from cyclr.cli.request import lasting
    from cyclr.experiments.tasks import load_task

    source = {"task": lasting(task), "data_dir": data_dir}
    loaded = load_task(task, data_dir)
    if plan:
        _only_plan(loaded, wanted, source, as_json)
        return
    where = {"jobs": jobs, "ray": ray, "threads": threads, "storage": storage, "study": study}
    place = fresh_folder("tunes", loaded.name) if out is None else contextlib.nullcontext(out)
    with place as folder:
        _report(_run(loaded, wanted | where, source, folder), as_json)


def _run(task: Any, wanted: dict[str, Any], source: dict[str, Any], folder: str) -> Tuning:
    """Tune with the plan and live progress on stderr."""
    from cyclr.tuning import tune as run

    with progress("tuning", 1) as update:
        watch = _Watch(update)
        return run(
            task,
            **wanted,
            folder=folder,
            source=source,
            on_plan=watch.plan,
            on_trial=watch.finished,
            on_read=watch.read,
            on_update=watch.updated,
        )


def _only_plan(task: Any, wanted: dict[str, Any], source: dict[str, Any], as_json: bool) -> None:
    from cyclr.tuning import plan_only

    plan = plan_only(task, **wanted, source=source)
    if as_json:
        print_json(plan.to_dict())
    else:
        typer.echo("\n".join([*plan_lines(plan), *plan.left_out]))


class _Watch:
    """Shows a tune's progress: a bar while it runs, and a line for every trial.

    Args:
        update: The bar's, from :func:`cyclr.cli.options.progress`.
    """

    def __init__(self, update: Any) -> None:
        self._update = update
        self._done, self._total, self._read = 0, 1, 0

    def plan(self, plan: Plan) -> None:
        """Print the plan."""
        self._total = plan.updates
        for line in plan_lines(plan):
            say(line)

    def updated(self, trial: Trial, made: int, words: str) -> None:
        """Move the bar."""
        text = f"{setting_words(trial)}: {words}"
        self._update(min(self._done + made, self._total - 1), text, self._total)

    def finished(self, result: TrialResult) -> None:
        """Say what came of a trial."""
        self._done += result.cost
        say(f"{result.stage}: {setting_words(result.trial)}: {result_words(result)}")

    def read(self, result: TrialResult) -> None:
        """Count a trial that was finished before."""
        self._done += result.cost
        say(f"{result.stage}: {setting_words(result.trial)}: {result_words(result)} (read)")


def plan_lines(plan: Plan) -> list[str]:
    """Word a plan for people."""
    from cyclr.tuning.table import plan_rows

    rows = plan_rows(plan)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines += [f"No room for {what}." for what in plan.dropped]
    return lines


def setting_words(trial: Trial) -> str:
    """Word a trial's settings."""
    from cyclr.tuning.table import show_decay, show_momentum

    return (
        f"weight decay {show_decay(trial.weight_decay)}, momentum {show_momentum(trial.momentum)}, "
        f"batch {trial.batch_size}"
    )


def result_words(result: TrialResult) -> str:
    """Word what came of a trial."""
    if not math.isfinite(result.val_loss):
        return result.outcome.sentence
    return f"max_lr {result.max_lr:.3g}, val loss {show(result.val_loss)}"


def _report(tuning: Tuning, as_json: bool) -> None:
    if as_json:
        print_json(tuning.to_dict())
        return
    typer.echo(tuning.table())
    typer.echo(f"{tuning.words}\n")
    for remark in tuning.remarks:
        typer.echo(remark)
    typer.echo(f"recipe  {tuning.folder}/recipe.json")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _decays(text: str | None) -> Any:
    return text if text in (None, "shallow", "deep") else _numbers("--weight-decay", text)


def _numbers(option: str, text: str | None, word: str | None = None) -> list[Any] | None:
    if text is None:
        return None
    try:
        return [part if part == word else float(part) for part in _split(text)]
    except ValueError:
        also = "" if word is None else f" (or {word})"
        raise InputError(f"{option} must be numbers{also} and commas, got {text!r}") from None


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in _split(text)]
    except ValueError:
        raise InputError(f"--batch-size must be whole numbers and commas, got {text!r}") from None
