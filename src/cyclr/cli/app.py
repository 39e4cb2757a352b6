"""The commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from cyclr.cli import find, fit, plan, reproduce, show, tune
from cyclr.cli.options import guarded

app = typer.Typer(
    name="cyclr",
    help="Which learning rate, on which schedule, and when to stop.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(value: bool) -> None:
    if value:
        from cyclr import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    """Which learning rate, on which schedule, and when to stop."""


app.command("find", epilog="Example: cyclr find digits --plot range.png --out record.json")(
    guarded(find.find)
)
app.command("plan", epilog="Example: cyclr plan record.json --epochs 30 --policy triangular2")(
    guarded(plan.plan)
)
app.command("show", epilog="Example: cyclr show recipe.json --plot recipe.png")(guarded(show.show))
app.command("fit", epilog="Example: cyclr fit digits --epochs 30 --out runs/digits")(
    guarded(fit.fit)
)
app.command("reproduce", epilog="Example: cyclr reproduce clr-table1 --tier full --only fixed-70k")(
    guarded(reproduce.reproduce)
)
app.command("tune", epilog="Example: cyclr tune digits --budget 2run --out tunes/digits")(
    guarded(tune.tune)
)
