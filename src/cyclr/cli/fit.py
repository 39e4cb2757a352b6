"""``cyclr fit``: find, plan, train, stop at the end of a cycle; and go on with a run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyclr.cli.budget import check_room, density
from cyclr.cli.options import (
    Accumulate,
    AsJson,
    DataDir,
    Epochs,
    MaxGradNorm,
    Precision,
    check_choice,
    fresh_folder,
    progress,
    say,
    update_settings,
    watch_sweep,
)
from cyclr.cli.watching import Watch, report
from cyclr.errors import InputError
from cyclr.planning import POLICIES
from cyclr.planning import plan as make_plan
from cyclr.rangetest.rules import RULES
from cyclr.recipe import Recipe

if TYPE_CHECKING:
    from cyclr.cli.request import Request
    from cyclr.experiments.pipeline import Parts
    from cyclr.training import Run


def fit(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            help="digits, fashion-mnist, cifar10, or your own: module:function, file.py:function. "
            "With --resume, by default what the run was begun with.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    epochs: Epochs = None,
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            help="one_cycle (the default), triangular, triangular2, exp_range or warm_restarts.",
        ),
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Such as edge, basin, knee.")] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="Run this recipe instead of finding one.")
    ] = None,
    confirm: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="Sweep a second time, slowly; both sweeps cost a fifth of the budget.",
        ),
    ] = False,
    find_steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=2,
            help="Length of the range test; by default a tenth of the budget, from 60 to 100.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of everything random; 0 by default.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="The run's folder; must be new.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN", help="Go on with this run from its checkpoint."),
    ] = None,
    extend: Annotated[
        int | None,
        typer.Option("--extend", min=1, help="Add so many cycles to the finished run of --resume."),
    ] = None,
    on_plateau: Annotated[
        str | None,
        typer.Option(
            help="When a cycle brings no gain: lower the bounds (the default), stop, or go-on "
            "(the default with --recipe)."
        ),
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option(help="What says which model is better; val_accuracy if it is measured."),
    ] = None,
    precision: Precision = None,
    accumulate: Accumulate = None,
    max_grad_norm: MaxGradNorm = None,
    ema: Annotated[
        float | None, typer.Option("--ema", help="Keep an average of the weights with this decay.")
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Image channels last in memory.")
    ] = False,
    validate_every: Annotated[
        str | None,
        typer.Option(help='Evaluate between cycle ends too: every "1ep", or 500 steps.'),
    ] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(help='Besides cycle ends: 500 steps, "1ep" or "10min" (the default).'),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="How many checkpoints to keep besides the best; 3 by default."),
    ] = None,
    snapshots: Annotated[
        bool,
        typer.Option("--snapshots", help="Keep every cycle end's model; measure them together."),
    ] = False,
    probe_every: Annotated[
        int | None,
        typer.Option(min=0, help="Steps between probes; 50 by default, 0 for none."),
    ] = None,
    tracker: Annotated[
        list[str] | None, typer.Option(help="Log to tensorboard, or another of Accelerate's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Range test, plan, training: ends at the end of a cycle and keeps the run in a folder."""
    from cyclr.cli.request import Request, check_conflicts, words

    check_choice("--policy", policy, POLICIES)
    check_choice("--rule", rule, [name for name in RULES if name != "accuracy"])
    planning = {"--epochs": epochs, "--policy": policy, "--rule": rule}
    planning |= {"--confirm": confirm or None, "--steps": find_steps}
    check_conflicts(planning, recipe=recipe, resume=resume, extend=extend, out=out, task=task)
    given = {
        **update_settings(precision, accumulate, max_grad_norm),
        "on_plateau": on_plateau,
        "monitor": monitor,
        "ema_decay": ema,
        "compile": compiled or None,
        "channels_last": channels_last or None,
        "keep": keep,
        "snapshots": snapshots or None,
    }
    request = Request.make(
        task,
        data_dir,
        seed=seed,
        given={name: value for name, value in given.items() if value is not None},
        durations=words(validate_every, checkpoint_every, probe_every),
        trackers=tracker or [],
        resume=resume,
        planned=recipe is None,
    )
    if resume is not None:
        run, reading = _resume(request, recipe, extend), None
    else:
        plan = (epochs, policy, rule, find_steps, confirm)
        run, reading = _begin(request, recipe, out, *plan)
    report(run, reading, as_json)


def _begin(
    request: Request,
    recipe: str | None,
    out: str | None,
    epochs: int | None,
    policy: str | None,
    rule: str | None,
    find_steps: int | None,
    confirm: bool,
) -> tuple[Run, Any]:
    """Find, plan and train into a new folder."""
    from cyclr.report.plots import check_picture, range_figure
    from cyclr.training import RunFolder
    from cyclr.training.checks import check_optimizer
    from cyclr.training.decisions import check_direction
    from cyclr.training.distributed import together

    check_picture("plot.png")
    processes = together()
    if out is not None and processes.main:
        RunFolder(out)
    parts, given = _build(request, recipe)
    check_optimizer(parts.optimizer)  # before the range test, which could do with it
    settings = request.settings(parts)
    if settings.get("monitor") is not None:
        check_direction(settings["monitor"])
    per_epoch = max(1, parts.steps_per_epoch // settings.get("accumulate", 1))
    budget = (parts.task.epochs if epochs is None else epochs) * per_epoch
    record = reading = None
    if given is None:
        steps = density(budget, find_steps)
        if confirm:  # too small a budget is refused before the range test
            check_room(budget, per_epoch, find_steps)
        record, reading = _find(parts, steps, rule, settings)
        if confirm:
            reading = _confirm(parts, reading, budget, settings)
        given = make_plan(
            reading,
            total_steps=budget,
            policy=policy or "one_cycle",
            steps_per_epoch=per_epoch,
        )
        for line in given.notes:
            say(line)
    elif given.steps_per_epoch not in (None, per_epoch):
        say(
            f"the recipe was made for {given.steps_per_epoch} updates an epoch, and this training "
            f"has {per_epoch}: its {given.total_steps:,} updates are "
            f"{given.total_steps / per_epoch:.3g} epochs, not "
            f"{given.total_steps / given.steps_per_epoch:.3g}"
        )
    kept = {"record": record, "reading": None if reading is None else reading.to_dict()}
    own = fresh_folder("runs", parts.task.name) if out is None and processes.main else None
    with own or contextlib.nullcontext(out) as place:
        folder = Path(processes.first_says(place))
        run = _train(request, parts, given, folder, settings, **kept)
    if record is not None and processes.main:
        _draw(range_figure(record, reading), folder / "range_test.png")
    return run, reading


def _build(request: Request, recipe: str | Path | None) -> tuple[Parts, Recipe | None]:
    """Build the task, as the recipe wants it if there is one."""
    from cyclr.experiments.pipeline import build, build_for

    if recipe is None:
        return build(request.load(), seed=request.seed), None
    accumulate = {**request.saved, **request.given}.get("accumulate", 1)
    return build_for(request.load(), recipe, seed=request.seed, accumulate=accumulate)


def _resume(request: Request, recipe: str | None, extend: int | None) -> Run:
    """Go on with a run in its folder."""
    folder = Path(request.folder)
    parts, given = _build(request, folder / "recipe.json" if recipe is None else recipe)
    assert given is not None
    return _train(
        request, parts, given, folder, request.settings(parts), resume=True, extend=extend
    )


_UPDATE = ("accumulate", "max_grad_norm", "mixed_precision")  # what range tests share with fit


def _confirm(parts: Parts, reading: Any, budget: int, settings: dict[str, Any]) -> Any:
    from cyclr.experiments.pipeline import challenge

    options = {name: settings[name] for name in _UPDATE if name in settings}
    confirmed = challenge(parts, reading, total_steps=budget, **options)
    spent = confirmed.updates - reading.updates
    say(f"second sweep: {spent} steps; max_lr {confirmed.max_lr:.3g}")
    return confirmed


def _find(parts: Parts, steps: int, rule: str | None, settings: dict[str, Any]) -> tuple[Any, Any]:
    from cyclr.experiments.pipeline import find

    options = {name: settings[name] for name in _UPDATE if name in settings}
    with progress("range test", steps) as update:
        record = find(parts, steps=steps, on_step=watch_sweep(update), **options)
    reading = record.read(rule)
    say(
        f"range test: {record.outcome.value} after {record.updates} steps; "
        f"base_lr {reading.base_lr:.3g}, max_lr {reading.max_lr:.3g}{_read_off(record, reading)}"
    )
    return record, reading


def _read_off(record: Any, reading: Any) -> str:
    """Say why it was not the training loss that was read."""
    if reading.metric is None:
        return ""
    return f" (read off {reading.metric}, as an epoch has only {record.steps_per_epoch} updates)"


def _train(
    request: Request,
    parts: Parts,
    recipe: Recipe,
    folder: Path,
    settings: dict[str, Any],
    **options: Any,
) -> Run:
    """Train with progress on stderr, and draw the run."""
    from cyclr.experiments.pipeline import train
    from cyclr.report.plots import run_figure
    from cyclr.training.distributed import together

    with progress("training", recipe.total_steps) as update:
        watch = Watch(update)
        run: Run = train(
            parts,
            recipe,
            folder=folder,
            source=request.source,
            trackers=request.trackers,
            on_step=watch.step,
            on_stopping_point=watch.stopping_point,
            on_recipe=watch.recipe,
            on_remark=say,
            **settings,
            **options,
        )
    if together().main:
        _draw(run_figure(folder), folder / "plot.png")
    return run


def _draw(figure: Any, path: Path) -> None:
    """Save a picture; what has been trained is not lost on a full disk for want of one."""
    from cyclr.report.plots import save

    try:
        save(figure, path)
    except InputError as error:
        say(str(error))
