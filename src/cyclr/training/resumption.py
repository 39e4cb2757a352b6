"""Going on with a run: finding where it was, making sure that it is the same, adding cycles."""

from __future__ import annotations

import signal
from collections.abc import Callable

from cyclr import jsonfile
from cyclr.errors import CheckpointError, Interrupted
from cyclr.recipe import Recipe
from cyclr.training.assembly import Work
from cyclr.training.checkpoints import (
    Checkpoint,
    clear_leftovers,
    latest_good,
    read_checkpoint,
)
from cyclr.training.extension import extend
from cyclr.training.facts import differences, facts_of
from cyclr.training.folder import RunFolder
from cyclr.training.keeper import FolderKeeper
from cyclr.training.loop import Loop
from cyclr.training.run import Run
from cyclr.training.settings import Settings
from cyclr.training.state import load_end_of, restore

Tell = Callable[[str], None]


def check_same_run(home: RunFolder, work: Work, settings: Settings) -> None:
    """Make sure that a run is gone on with as it was begun.

    Raises:
        CheckpointError: The recipe or a setting that decides the numbers is another.
    """
    begun, recipe = home.recipe, work.recipe
    if _essence(begun) != _essence(recipe):
        raise CheckpointError(
            f"{home.path} was trained by another recipe: {_differences(begun, recipe)}; go on with "
            f"{home.path / 'recipe.json'}, or train anew in another folder"
        )
    differences = settings.differences(home.facts.get("settings", {}))
    if differences:
        raise CheckpointError(
            f"{home.path} was trained with other settings: {'; '.join(differences)}; go on with "
            "what they were, or train anew in another folder"
        )


def check_same_work(home: RunFolder, work: Work) -> None:
    """Make sure that data and optimizer are those that a run was begun with, as far as one can see.

    Runs of earlier versions have not noted them, and are gone on with unseen.

    Raises:
        CheckpointError: Size or number of batches, number of examples, or a setting of the
            optimizer is another.
    """
    changed = differences(home.facts.get("work") or {}, jsonfile.plain(facts_of(work)))
    if changed:
        raise CheckpointError(
            f"{home.path} was trained with other data or another optimizer: {'; '.join(changed)}; "
            "go on with what they were, or train anew in another folder"
        )


def _essence(recipe: Recipe) -> dict[str, object]:
    return {name: value for name, value in recipe.to_dict().items() if name != "notes"}


def _differences(one: Recipe, two: Recipe) -> str:
    a, b = _essence(one), _essence(two)
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return ", ".join(f"{name} was {a.get(name)} and is now {b.get(name)}" for name in names)


def load_end(home: RunFolder, work: Work, run: Run) -> None:
    """Put the final weights of a finished run into the model, and what the optimizer alone has."""
    path = home.path / "checkpoints" / f"step-{run.steps:08d}"
    load_end_of(work.model, work.optimizer, read_checkpoint(path, run=home.identity))


def begin(home: RunFolder | None, loop: Loop, keeper: FolderKeeper, work: Work, tell: Tell) -> None:
    """Open the folder, and go to where the run was; to be called on every process.

    Args:
        home: The run's folder; None to keep nothing, and for a new run's other processes.
        loop: At its first step; put to where the run was.
        keeper: Told what the run had decided before.
        work: What is trained.
        tell: Called with remarks.

    Raises:
        InputError: The folder cannot be written to.
        CheckpointError: The checkpoints are damaged or do not fit; nothing has been changed.
    """
    if home is None:
        return
    if loop.processes.main:
        home.open(work.recipe, loop.settings.to_dict(), facts_of(work))
    if not home.resumed:
        return
    found = None
    if loop.processes.main:
        found = latest_good(
            home.path / "checkpoints", run=home.identity, log_bytes=home.log_bytes, tell=tell
        )
    found = loop.processes.first_says(found)
    if found is not None:
        _go_to(found, loop, keeper, work)
    if loop.processes.main:
        home.add_extension()  # now that nothing has been refused
        home.cut_log(0 if found is None else found.log_bytes)
        clear_leftovers(home.path / "checkpoints")
        home.note_resumption(loop.step)
        where = "the beginning: no checkpoint had been written" if found is None else found.path
        tell(f"going on from {where}")
    # The others read what was written: they wait for it.
    loop.processes.first_says(loop.step)


def _go_to(found: Checkpoint, loop: Loop, keeper: FolderKeeper, work: Work) -> None:
    state = restore(loop, work.model, work.optimizer, found)
    keeper.decisions, keeper.extensions = list(state["decisions"]), state["extensions"]
    keeper.last_kept = loop.step


def train(home: RunFolder | None, loop: Loop, keeper: FolderKeeper) -> None:
    """Run the loop to the end of the recipe, and of every extension of it.

    Raises:
        Interrupted: A signal came before the end.
        CheckpointError: An extension does not begin where the run ends.
    """
    while True:
        loop.run()
        if loop.heard and loop.step < loop.recipe.total_steps and not loop.ended:
            raise _interrupted(home, loop)
        added = [] if home is None else home.extensions
        if keeper.extensions >= len(added):
            return
        extension = added[keeper.extensions]
        if extension["step"] != loop.step:
            raise CheckpointError(
                f"the extension of {keeper.extensions} begins at step {extension['step']}, and the "
                f"run ended at {loop.step}; extensions.json is not this run's"
            )
        keeper.extensions += 1
        loop.ended = ""
        loop.judge.start_over()
        loop.recipe = Recipe.from_dict(extension["recipe"])


def _interrupted(home: RunFolder | None, loop: Loop) -> Interrupted:
    number = loop.heard
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    where = f"stopped by {name} after step {loop.step:,} of {loop.recipe.total_steps:,}"
    if home is None:
        how = "there is no run folder, so nothing has been kept"
    else:
        how = f"a checkpoint has been written; {home.how_to_go_on}"
    return Interrupted(f"{where}; {how}", signal=number, step=loop.step)


def take_up(
    home: RunFolder, work: Work, settings: Settings, cycles: int | None, *, main: bool
) -> Run | None:
    """Make sure that a run may be gone on with; give it back if there is nothing left to do.

    Raises:
        CheckpointError: It is another run, or cycles are to be added and it has not finished.
    """
    check_same_run(home, work, settings)
    if main:  # the others may load parts of their own
        check_same_work(home, work)
    finished = home.finished()
    if cycles is None:
        if finished is not None:
            load_end(home, work, finished)
        return finished
    if finished is None:
        raise CheckpointError(
            f"{home.path} has not finished yet, and cycles are added at the end; go on with it "
            "first, without extend"
        )
    home.longer = (finished.steps, extend(finished.recipe, cycles, step=finished.steps))
    return None
