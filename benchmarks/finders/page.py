"""Writes results.md, and the figures of docs/rules.md, from the cache: they cannot disagree."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

from benchmarks.finders import (
    ensembles,
    little,
    margins,
    paces,
    research,
    roles,
    sweeps,
    table,
    trials,
)
from benchmarks.finders.fifth import FIFTH
from benchmarks.finders.fourth import FOURTH
from benchmarks.finders.fresh import FRESH
from benchmarks.finders.held_out import HELD_OUT
from benchmarks.finders.latest import LATEST
from benchmarks.finders.problems import BY_NAME, NAMES

HERE = Path(__file__).parent
_HARD = ("photo-tiny-loss-sgd", "text-finetune-adamw")
PAGE = HERE.parents[1] / "docs" / "rules.md"
_HEAD = """# Finders: what training at their suggestions reaches

`python -m benchmarks.finders page` wrote this from the cache. Share of the oracle's accuracy, or of
its fall in log loss, mean of three seeds (nine where three leave the oracle's best uncertain by
more than 1 %, or what our readings reach by more than 3 %), at most 1; "steps" is what finding
takes, of a budget of 1,000. A finder that fails counts as no training. CIFAR-10 here is re-encoded
as JPEG, so accuracies sit one to three points below the original's; all finders share it.

"""
_HELD_OUT = """
## Tasks kept aside

The same on twelve more (`held_out.py`), in view of which `basin` was not changed; `edge`, the slow
sweep under SGD and the second sweep of `confirm` were made in view of these and of all that follow.
Scores of suggested rates are interpolated from the oracle's curve, over the logarithm of the rate.

"""
_FRESH = """
## A second set kept aside

The same on thirteen more (`fresh.py`).

"""
_LATEST = """
## A third set kept aside

The same on twelve more (`latest.py`).

"""
_FOURTH = """
## A fourth set kept aside

The same on twelve more (`fourth.py`).

"""
_FIFTH = """
## A fifth set kept aside

Thirteen more (`fifth.py`), written down before any of them was run. In view of these, `edge` reads
the first exit from the low stretch.

"""

_ASIDE = {
    "held-out": (_HELD_OUT, HELD_OUT),
    "fresh": (_FRESH, FRESH),
    "latest": (_LATEST, LATEST),
    "fourth": (_FOURTH, FOURTH),
    "fifth": (_FIFTH, FIFTH),
}


def _score(row: table.Row | research.Shares, digits: int = 3) -> str:
    return f"{row.mean:.{digits}f} on average and {row.worst:.{digits}f} on the worst task"


def _without(rows: dict[str, table.Row]) -> str:
    """Say what the best peer reaches without the tasks on which it fails altogether."""
    peers = {name: rows[name] for name in table.PEERS}
    name, row = max(peers.items(), key=lambda item: _mean_without(item[1]))
    ours = _mean_without(rows["cyclr"])
    return f"{name} reaches {_mean_without(row):.3f}, and the default {ours:.3f}"


def _mean_without(row: table.Row) -> float:
    return statistics.fmean(v for k, v in row.shares.items() if k not in _HARD)


def _validated() -> str:
    """Say what the default reaches on the tables of 300 rows, by either loss."""
    found = table.rows(sweeps.tables(), trained=False, finders=("cyclr", table.VALIDATED))
    told = []
    for name in sweeps.tables():
        by_training, by_validation = (row.shares[name] for row in found.values())
        told.append(f"{by_validation:.2f} in place of {by_training:.2f}")
    return ", ".join(told)


def _overfit(rows: dict[str, table.Row]) -> str:
    """Say what the default, confirmed or not, and the best peer reach without small tables."""
    best = max(table.PEERS, key=lambda name: rows[name].mean)
    said = []
    for name in ("cyclr", table.CONFIRMED, best):
        shares = [v for k, v in rows[name].shares.items() if k not in sweeps.tables()]
        said.append(f"{name} {statistics.fmean(shares):.3f} / {min(shares):.3f}")
    return ", ".join(said)


def _scores(rows: dict[str, table.Row]) -> str:
    lines = ["| finder | mean | worst | steps |", "|---|---|---|---|"]
    for name, row in sorted(rows.items(), key=lambda item: -item[1].mean):
        steps = "–" if name in table.INSTEAD else f"{row.steps:.0f}"
        lines.append(f"| {name} | {row.mean:.3f} | {row.worst:.3f} | {steps} |")
    return "\n".join(lines)


def _filled(text: str, name: str, content: str, *, block: bool) -> str:
    """Put content between a pair of markers."""
    space = "\n" if block else ""
    pattern = rf"(<!-- {name} -->).*?(<!-- /{name} -->)"
    filled, count = re.subn(
        pattern, lambda m: f"{m[1]}{space}{content}{space}{m[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{PAGE} must have the markers of {name!r} once, has them {count} times")
    return filled


def _sets() -> dict[str, list[str]]:
    heads = zip(("first aside", "second", "third", "fourth", "fifth"), _ASIDE.values(), strict=True)
    return {"the 24": list(NAMES)} | {head: [p.name for p in tasks] for head, (_, tasks) in heads}


def _families() -> dict[str, list[str]]:
    """Part all tasks but the tables of 300 rows by what their range test is."""
    slow = paces.swept_slowly(BY_NAME)
    quick = [name for name in BY_NAME if name not in (*slow, *sweeps.tables())]
    return {f"{len(slow)} under SGD": slow, f"{len(quick)} under other optimizers": quick}


def write() -> None:
    """Write both."""
    names = list(NAMES)
    aside = {name: [p.name for p in tasks] for name, (_, tasks) in _ASIDE.items()}
    tables = _HEAD + table.markdown(names)
    for name, (head, _) in _ASIDE.items():
        tables += head + table.markdown(aside[name], trained=False)
    (HERE / "results.md").write_text(tables, encoding="utf-8")
    bench, rows = research.Bench(), table.rows(names)
    finders = (*table.FINDERS, table.VALIDATED)
    everything = table.rows(BY_NAME, trained=False, finders=finders)
    blocks = {
        "places": "\n".join(research.places_table(bench)),
        "repeats": "\n".join(research.repeats_table(bench)),
        "rules": "\n".join(research.rules_table(bench)),
        "scores": _scores(rows),
        "paces": "\n".join(paces.markdown(_sets())),
        "edges": "\n".join(paces.edges(_sets())),
        "below": "\n".join(margins.markdown()),
        "little": "\n".join(little.markdown()),
        "trials": "\n".join(trials.markdown(_sets())),
        "families": "\n".join(trials.markdown(_families())),
        "ensembles": "\n".join(ensembles.markdown(_sets())),
        "roles": "\n".join(roles.markdown()),
        "momenta": "\n".join(roles.momenta()),
        "margins": "\n".join(research.margins_table(_sets())),
        "all": _scores(everything),
        **{name: _scores(table.rows(kept, trained=False)) for name, kept in aside.items()},
        "rates": "\n".join(research.rates_table(bench)),
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, content in blocks.items():
        text = _filled(text, name, content, block=True)
    text = _filled(text, "without", _without(rows), block=False)
    text = _filled(text, "validated", _validated(), block=False)
    text = _filled(text, "overfit", _overfit(everything), block=False)
    text = _filled(text, "ceiling", _score(research.ceiling(names)), block=False)
    text = _filled(text, "default", _score(rows["cyclr"], 4), block=False)
    text = _filled(text, "confirmed", _score(rows[table.CONFIRMED], 4), block=False)
    PAGE.write_text(text, encoding="utf-8")
