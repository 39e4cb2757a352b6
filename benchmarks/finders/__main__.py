"""Score learning rate finders: ``python -m benchmarks.finders COMMAND``; see README.md."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.finders import (
    figures,
    margins,
    oracle,
    paces,
    page,
    research,
    roles,
    sweeps,
    table,
    trials,
)
from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import NAMES, apart
from benchmarks.finders.store import Answers, problems


def _names(chosen: list[Problem]) -> list[str]:
    return [problem.name for problem in chosen]


def _trained(chosen: list[Problem]) -> list[str]:
    """Leave out the tasks kept aside, whose scores are interpolated."""
    return [name for name in _names(chosen) if name in NAMES]


def _trials(chosen: list[Problem], jobs: int) -> None:
    Answers("trials").compute(trials.run_trials, [trials.WHO], _names(chosen), jobs)


def _confirm(chosen: list[Problem], jobs: int) -> None:
    names, answers = _names(chosen), Answers("confirm")
    answers.compute(sweeps.confirmed, [table.CONFIRMED], names, jobs)
    little = [name for name in names if sweeps.has_little_data(name)]
    answers.compute(sweeps.confirmed, [table.GIVEN_CONFIRMED], little, jobs)


def _validated(chosen: list[Problem], jobs: int) -> None:
    Answers("confirm").compute(sweeps.validated, [table.VALIDATED], _names(chosen), jobs)


def _paces(chosen: list[Problem], jobs: int) -> None:
    paces.run(_names(chosen), jobs)


def _margins(chosen: list[Problem], jobs: int) -> None:
    margins.run(_names(chosen), jobs)


def _table(chosen: list[Problem], _: int) -> None:
    parts = apart(_names(chosen))
    print("\n".join(table.markdown(part, trained=part[0] in NAMES) for part in parts))


def _figures(chosen: list[Problem], _: int) -> None:
    for problem in chosen:
        print(figures.draw(problem))


# What follows imports the peers, and so runs in their environment only.


def _peers(chosen: list[Problem], jobs: int) -> None:
    from benchmarks.finders import peers

    Answers("peers").compute(peers.suggest, peers.FINDERS, _names(chosen), jobs)


def _instead(chosen: list[Problem], jobs: int) -> None:
    from benchmarks.finders import instead

    Answers("instead").compute(instead.reach, instead.OPTIMIZERS, _trained(chosen), jobs)


def _peer_rules(*_: object) -> None:
    from benchmarks.finders import peer_rules

    peer_rules.run()


def _cost(*_: object) -> None:
    from benchmarks.finders import cost

    cost.write()


COMMANDS: dict[str, Callable[[list[Problem], int], None]] = {
    "oracle": oracle.run,
    "sweeps": sweeps.run,
    "confirm": _confirm,
    "trials": _trials,
    "paces": _paces,
    "margins": _margins,
    "validated": _validated,
    "roles": roles.run,
    "peers": _peers,
    "peer-rules": _peer_rules,
    "instead": _instead,
    "train": lambda chosen, jobs: table.train(_trained(chosen), jobs),
    "table": _table,
    "figures": _figures,
    "page": lambda *_: page.write(),
    "research": lambda *_: print(research.markdown()),
    "cost": _cost,
}


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--task", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    options = parser.parse_args()
    COMMANDS[options.command](problems(options.task), options.jobs)


if __name__ == "__main__":
    main()
