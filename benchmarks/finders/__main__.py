"""Score learning rate finders: ``python -m benchmarks.finders COMMAND``; see README.md."""

from __future__ import annotations

import argparse

from benchmarks.finders import oracle, sweeps, table
from benchmarks.finders.store import Answers, problems


COMMANDS = ("oracle", "sweeps", "confirm", "peers", "instead", "train", "table", "figures", "cost")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "command", choices=["oracle", "sweeps", "confirm", "peers", "instead", "train", "table"]
    )
    parser.add_argument("--task", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    options = parser.parse_args()
    chosen = problems(options.task)
    if options.command == "oracle":
        oracle.run(chosen, options.jobs)
    elif options.command == "sweeps":
        sweeps.run(chosen, options.jobs)
    elif options.command == "confirm":
        names = [problem.name for problem in chosen]
        Answers("confirm").compute(sweeps.confirmed, [table.CONFIRMED], names, options.jobs)
    elif options.command == "train":
        table.train([problem.name for problem in chosen], options.jobs)
    elif options.command == "table":
        print(table.markdown([problem.name for problem in chosen]))
    elif options.command == "peers":
        from benchmarks.finders import peers  # in their own environment only

        names = [problem.name for problem in chosen]
        Answers("peers").compute(peers.suggest, peers.FINDERS, names, options.jobs)
    elif options.command == "instead":
        from benchmarks.finders import instead  # as above

        names = [problem.name for problem in chosen]
        Answers("instead").compute(instead.reach, instead.OPTIMIZERS, names, options.jobs)


if __name__ == "__main__":
    main()
