"""Arguments and options that several commands share, and how they print."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cyclr import jsonfile
from cyclr.errors import CyclrError, InputError, Interrupted
from cyclr.rangetest import RangeTest, Reading
from cyclr.schedules.fields import Constraint

TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK",
        help="digits, fashion-mnist, cifar10, or your own: module:function, file.py:function.",
        show_default=False,
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option("--data-dir", help="Folder of the data, or a data set's name on the hub."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Plot = Annotated[str | None, typer.Option("--plot", metavar="FILE.png", help="Save a picture.")]
Policy = Annotated[
    str,
    typer.Option(
        "--policy", help="one_cycle, triangular, triangular2, exp_range or warm_restarts."
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Budget in epochs.")]
Steps = Annotated[
    int, typer.Option("--steps", min=2, help="Length of the range test in optimizer updates.")
]

Precision = Annotated[
    str | None,
    typer.Option("--precision", help="no (the default), bf16 or fp16.", show_default=False),
]
Accumulate = Annotated[
    int | None, typer.Option("--accumulate", min=1, help="Batches per update; 1 by default.")
]
MaxGradNorm = Annotated[
    float | None, typer.Option("--max-grad-norm", help="Clip the gradient's norm to this.")
]


Force = Annotated[bool, typer.Option("--force", help="Replace the file of --out.")]


def is_main() -> bool:
    """Whether this is the one of several processes (torchrun, accelerate launch) that talks."""
    return os.environ.get("RANK", "0") == "0"


def print_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    if is_main():
        typer.echo(json.dumps(jsonfile.plain(data), indent=2))


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Print names and values in two columns on stdout."""
    if not is_main():
        return
    width = max(map(len, pairs))
    for name, value in pairs.items():
        typer.echo(f"{name.ljust(width)}  {value}")


def say(text: str) -> None:
    """Tell the user something on stderr."""
    if is_main():
        typer.echo(text, err=True)


def reading_pairs(reading: Reading) -> dict[str, str]:
    """Word a reading for people, with the intervals below the bounds if there are any."""
    return {
        "base_lr": f"{reading.base_lr:.4g}",
        "max_lr": f"{reading.max_lr:.4g}",
        **_interval(reading),
        "rule": reading.read_by,
        **_second(reading),
        "outcome": f"{reading.outcome.value}: {reading.outcome.sentence}",
        **{f"caveat {i}": caveat for i, caveat in enumerate(reading.caveats, start=1)},
    }


def _second(reading: Reading) -> dict[str, str]:
    if reading.second is None:
        return {}
    low, high = reading.second.lr[0], reading.second.lr[-1]
    return {"second sweep": f"{len(reading.second)} steps, from {low:.3g} to {high:.3g}"}


_WIDE = 10  # between the ends of an interval that settles little
_REMEDY = "sweep with more --repeats or --steps, or compare rates by cyclr tune"


def _interval(reading: Reading) -> dict[str, str]:
    low, high = reading.base_lr_interval, reading.max_lr_interval
    if low is None or high is None:
        return {}
    count = len(reading.sweeps)
    source = f"lowest and highest of {count} sweeps" if count > 1 else "80 %, from its noise"
    if reading.record is None:
        source = "as saved"
    words = f"base_lr {low[0]:.3g} to {low[1]:.3g}, max_lr {high[0]:.3g} to {high[1]:.3g}"
    times = high[1] / high[0]
    doubt = f"the interval of max_lr spans a factor of {times:.2g}; {_REMEDY}"
    settled = {} if times <= _WIDE else {"in doubt": doubt}
    return {"interval": f"{words} ({source})", **settled}


def check_new_file(path: str | None, *, force: bool = True) -> None:
    """Refuse early to write where a file cannot be written, or is there already.

    Raises:
        InputError: The path is a folder, or its folder does not exist, or it may not be replaced.
    """
    if path is None:
        return
    if not force and Path(path).is_file():
        raise InputError(f"{path} is there already; name another file, or replace it by --force")
    if Path(path).is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file in it")
    if not Path(path).resolve().parent.is_dir():
        raise InputError(
            f"cannot write {path}: there is no folder {Path(path).parent}; make it first"
        )


def check_plot(path: str | None) -> None:
    """Refuse early to draw where a picture cannot be written.

    Raises:
        InputError: The path is not one for a picture.
    """
    check_new_file(path)
    if path is not None:
        from cyclr.report.plots import check_picture

        check_picture(path)


def update_settings(
    precision: str | None, accumulate: int | None, max_grad_norm: float | None
) -> dict[str, Any]:
    """Name what was given of how an update is made, as the pipeline calls it.

    Raises:
        InputError: One of them breaks its constraint.
    """
    from cyclr.training import Settings

    named = {
        "mixed_precision": precision,
        "accumulate": accumulate,
        "max_grad_norm": max_grad_norm,
    }
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    Settings(**given)
    return given


@contextmanager
def fresh_folder(parent: str, name: str) -> Iterator[str]:
    """Make a folder that did not exist, named by what is in it and the time.

    It is made at once: two commands may begin in the same second. If nothing has come into it when
    the block is left, it is removed again.
    """
    stem = f"{parent}/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        Path(parent).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "choose another place with --out"
        raise InputError(f"cannot make {parent}: {error.strerror}; {remedy}") from error
    names = (f"{stem}-{number}" if number else stem for number in itertools.count())
    folder = next(path for path in names if _made(path))
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # it is not empty, as it should be
            Path(folder).rmdir()


def _made(folder: str) -> bool:
    try:
        Path(folder).mkdir()
    except FileExistsError:
        return False
    except OSError as error:
        remedy = "choose another place with --out"
        raise InputError(f"cannot make {folder}: {error.strerror}; {remedy}") from error
    return True


def check_choice(option: str, value: str | None, options: Iterable[str]) -> None:
    """Refuse a word that is not one of the known ones.

    Raises:
        SpecError: It is not.
    """
    if value is not None:
        Constraint(kind="choice", options=tuple(options)).check(option, value)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command end with a sentence on Ctrl-C, and when code of the user's own fails."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except Interrupted as stopped:
            say(f"cyclr: {stopped}")
            raise typer.Exit(128 + stopped.signal) from None
        except KeyboardInterrupt:
            say("cyclr: stopped with Ctrl-C")
            raise typer.Exit(130) from None
        except (CyclrError, ModuleNotFoundError, typer.Exit):
            raise
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _reader_is_gone():
                raise typer.Exit(128 + 13) from None  # as SIGPIPE would have ended it
            if os.environ.get("CYCLR_TRACEBACK"):
                raise
            say(f"cyclr: the work failed: {type(error).__name__}: {error}")
            say("cyclr: set CYCLR_TRACEBACK=1 to see where")
            raise typer.Exit(1) from error

    return run


def _reader_is_gone() -> bool:
    """Say whether what reads our stdout has ended, as in ``cyclr … | head``; if so, let it be."""
    if hasattr(select, "poll"):  # Windows has none
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        if not any(event & select.POLLERR for _, event in watched.poll(0)):
            return False
    # Or Python would complain of the same once more on its way out.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


_REDRAW = 0.1  # seconds: drawing for every update would cost more than a small update does


@contextmanager
def progress(label: str, total: int) -> Iterator[Any]:
    """Show a progress bar on stderr; yields ``update(done, text, total=None)``.

    The text may be a function that makes it: it is called only when the bar is drawn. The total is
    only given when it has changed.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    bar = Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        # In a narrow terminal on as many lines as it takes, rather than cut off.
        TextColumn("{task.fields[text]}", table_column=Column(overflow="fold")),
        console=Console(stderr=True),
        disable=not is_main(),
    )
    task = bar.add_task(label, total=total, text="")
    planned, drawn = total, 0.0

    def update(done: int, text: str | Callable[[], str], total: int | None = None) -> None:
        nonlocal drawn
        now = time.monotonic()
        if now - drawn < _REDRAW and done < (total or planned):
            return
        drawn = now
        bar.start()  # with the first step: what is refused before it gets its sentence alone
        shown = text if isinstance(text, str) else text()
        bar.update(task, completed=done, text=shown, total=total or planned)

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


def watch_sweep(update: Any, repeats: int = 1) -> Any:
    """Make the callback that shows a range test's progress, over all its repeats."""
    tests: list[RangeTest] = []

    def on_step(test: RangeTest) -> None:
        if not tests or tests[-1] is not test:
            tests.append(test)
        record = test.record
        before = sum(earlier.record.updates for earlier in tests[:-1]) + len(record.scout.lr)
        seen = record.way_back if record.way_back.lr else record
        text = f"lr {seen.lr[-1]:.2e}  loss {seen.loss[-1]:.4g}"
        # A sweep that finds its range may need more steps than planned, or fewer.
        ahead = test.steps * (repeats - len(tests) + 1)
        update(before + test.step, text, before + ahead)

    return on_step
