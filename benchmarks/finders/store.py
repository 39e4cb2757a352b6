"""What has been computed, a JSON file per task, and how more of it is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

from benchmarks.finders.problem import Problem
from benchmarks.finders.problems import BY_NAME
from benchmarks.finders.train import Result, begin, measure, train

CACHE = Path(__file__).parent / "cache"
SEEDS = (0, 1, 2)  # that every task has


def seeds(name: str) -> range:
    """List the seeds of a task."""
    return range(BY_NAME[name].seeds)


def rounded(lr: float) -> float:
    """Three significant digits: half a percent is nothing to a rate, and results can be shared."""
    return float(f"{lr:.3g}")


class Store:
    """Results of trainings and finders for one task.

    Attributes:
        name: The task's.
        data: ``trained[lr][seed]`` and ``start[""][seed]``, the untrained net's.
    """

    def __init__(self, name: str) -> None:
        self.name, self.path = name, CACHE / f"{name}.json"
        self.data: dict[str, Any] = {"start": {}, "trained": {}}
        if self.path.exists():
            self.data |= json.loads(self.path.read_text())

    def put(self, kind: str, key: str, seed: int, value: Any) -> None:
        """Keep a value, on disk as well."""
        self.data[kind].setdefault(key, {})[str(seed)] = value
        write(self.path, self.data)

    def get(self, kind: str, key: str, seed: int) -> Any:
        """Give a value, None if there is none yet."""
        return self.data[kind].get(key, {}).get(str(seed))

    def result(self, lr: float, seed: int) -> Result | None:
        """Give what training at a rate reached."""
        found = self.get("trained", f"{rounded(lr):g}", seed)
        return None if found is None else {k: float(v) for k, v in found.items()}


class Answers:
    """What was computed by calls of (task, seed), in one file: suggestions, or results.

    Args:
        name: Of the file.
    """

    def __init__(self, name: str) -> None:
        self.path = CACHE / f"{name}.json"
        self.data: dict[str, Any] = {}
        if self.path.exists():
            self.data = json.loads(self.path.read_text())

    def get(self, name: str, who: str, seed: int) -> Any:
        """Give an answer, None if there is none yet."""
        return self.data.get(name, {}).get(who, {}).get(str(seed))

    def compute(
        self,
        ask: Callable[[str, Problem, int], Any],
        who: Iterable[str],
        names: Iterable[str],
        jobs: int,
        *,
        most: int | None = None,
    ) -> None:
        """Ask everyone about every task and seed that is missing, and keep the answers.

        Args:
            ask: Gives the answer to one question.
            who: Whom to ask.
            names: Tasks.
            jobs: How many at a time.
            most: Seeds of a task at most; None for all.
        """
        todo = [
            (name, asked, seed)
            for name in names
            for asked in who
            for seed in seeds(name)[:most]
            if self.get(name, asked, seed) is None
        ]
        work = (delayed(_ask)(ask, *entry) for entry in todo)
        for i, (name, asked, seed, answer) in enumerate(
            Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(work)
        ):
            self.data.setdefault(name, {}).setdefault(asked, {})[str(seed)] = _plain(answer)
            write(self.path, self.data)
            print(f"{i + 1}/{len(todo)} {name} {asked} seed {seed}: {answer}", flush=True)


def _ask(ask: Any, name: str, asked: str, seed: int) -> tuple[str, str, int, Any]:
    torch.set_num_threads(1)
    return name, asked, seed, ask(asked, BY_NAME[name], seed)


def write(path: Path, data: Any) -> None:
    """Write JSON so that a file is whole whenever it is there."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=0, sort_keys=True) + "\n")
    partial.replace(path)


def _one(name: str, seed: int, lr: float | None) -> tuple[str, int, float | None, Result]:
    torch.set_num_threads(1)
    problem = BY_NAME[name]
    if lr is None:
        return name, seed, lr, measure(problem, begin(problem, seed)[0])
    return name, seed, lr, train(problem, seed, lr)


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    """Six digits are enough; JSON has no NaN."""
    return {
        k: (float(f"{v:.6g}") if math.isfinite(v) else str(v)) if isinstance(v, float) else v
        for k, v in result.items()
    }


def compute(wanted: Iterable[tuple[str, int, float | None]], jobs: int) -> None:
    """Train what is missing of (task, seed, rate); a rate of None measures the untrained net."""
    stores = {name: Store(name) for name in BY_NAME}
    todo = []
    for name, seed, lr in wanted:
        rate = None if lr is None else rounded(lr)
        kind, key = ("start", "") if rate is None else ("trained", f"{rate:g}")
        if stores[name].get(kind, key, seed) is None and (name, seed, rate) not in todo:
            todo.append((name, seed, rate))
    work = (delayed(_one)(*entry) for entry in todo)
    for i, (name, seed, rate, result) in enumerate(
        Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(work)
    ):
        kind, key = ("start", "") if rate is None else ("trained", f"{rate:g}")
        stores[name].put(kind, key, seed, _plain(result))
        print(f"{i + 1}/{len(todo)} {name} seed {seed} lr {rate}: {result}", flush=True)


def problems(names: list[str]) -> list[Problem]:
    """Choose tasks by name; all of them if none is named."""
    return [BY_NAME[name] for name in names or BY_NAME]
