"""Tuning against Optuna: ``python -m benchmarks.tuning COMMAND``; see README.md."""

from __future__ import annotations

import argparse
import functools
import time

import torch

from benchmarks.tuning import arms, lengths, page
from benchmarks.tuning.store import Store
from benchmarks.tuning.tasks import BY_NAME, CASES


def run(options: argparse.Namespace) -> None:
    """Compute what is missing, one after the other."""
    torch.set_num_threads(options.threads)
    chosen = [BY_NAME[name] for name in options.task] if options.task else CASES
    stores = {case.name: Store(case) for case in chosen}
    for seed in options.seed or arms.SEEDS:
        for case in chosen:
            for arm in options.arm or arms.EVERYWHERE:
                if stores[case.name].get(arm, seed) is None:
                    say = functools.partial(_say, f"{case.name} {arm} seed {seed}:")
                    result = arms.run(arm, case, seed, say)
                    stores[case.name].put(arm, seed, result)
                    say(f"finished in {result['seconds']:.0f} s of processor time")


def compare_lengths(options: argparse.Namespace) -> None:
    """Compute how trainings made shorter agree with the whole one, where that is missing."""
    torch.set_num_threads(options.threads)
    for case in lengths.COMPARED:
        store = Store(case)
        if store.get(lengths.ARM, lengths.SEED) is None:
            say = functools.partial(_say, f"{case.name}:")
            store.put(lengths.ARM, lengths.SEED, lengths.measure(case, say))


def _say(where: str, line: str) -> None:
    print(time.strftime("%H:%M:%S"), where, line, flush=True)


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "lengths", "page"))
    parser.add_argument("--task", action="append", choices=BY_NAME, help="only this; repeatable")
    parser.add_argument("--arm", action="append", choices=arms.ARMS, help="only this; repeatable")
    parser.add_argument("--seed", action="append", type=int, help="only this; repeatable")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.command == "run":
        run(options)
    elif options.command == "lengths":
        compare_lengths(options)
    else:
        page.write()


if __name__ == "__main__":
    main()
