"""Our copies of other tools' rules, against what the tools' own functions said of the same records.

The answers are made by ``python -m benchmarks.finders peer-rules`` in an environment that has the
tools; here only their file is read.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from cyclr import ExponentialSweep, Outcome, RangeRecord
from cyclr.errors import RecordError
from cyclr.rangetest.rules import RULES
from cyclr.rangetest.rules.peers import PEER_RULES

CACHE = Path(__file__).parents[2] / "benchmarks" / "finders" / "cache"
ANSWERS = json.loads((CACHE / "peer_rules.json").read_text())


@pytest.mark.parametrize("rule", sorted(PEER_RULES))
def test_a_rule_says_what_the_tool_itself_says_of_every_record(rule: str) -> None:
    assert len(ANSWERS) >= 60
    for name, answers in ANSWERS.items():
        quick = CACHE / "quick" / f"{name}.json"  # of SGD, whose other records are of slow sweeps
        record = RangeRecord.load(quick if quick.exists() else CACHE / "records" / quick.name)
        # The tools compute in float32 here and there; a neighbouring rate would be 20 % away.
        assert record.read(rule).max_lr == pytest.approx(answers[rule], rel=1e-5), name


def test_the_rules_disagree_with_each_other() -> None:
    rates = {name: answers.values() for name, answers in ANSWERS.items()}
    assert np.median([max(r) / min(r) for r in rates.values()]) > 2


@pytest.mark.parametrize("rule", sorted(PEER_RULES))
def test_a_record_that_is_used_up_by_trimming_says_so(rule: str) -> None:
    record = RangeRecord(
        sweep=ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=100),
        lr=tuple(np.geomspace(1e-4, 2e-4, 14)),
        loss=tuple(np.linspace(2.0, 1.0, 14)),
        outcome=Outcome.INTERRUPTED,
    )
    with pytest.raises(RecordError, match=r"too few are left|needs 17"):
        RULES[rule](record)


@pytest.mark.parametrize("rule", sorted(PEER_RULES))
def test_losses_after_the_first_nan_count_for_nothing(rule: str) -> None:
    sweep = ExponentialSweep(start_lr=1e-4, end_lr=1.0, steps=100)
    lr = tuple(sweep(np.arange(100)))
    clean = np.concatenate([np.linspace(2, 1, 70), np.linspace(1, 1.5, 10)])
    fields = {"sweep": sweep, "outcome": Outcome.NON_FINITE}
    ended = RangeRecord(lr=lr[:80], loss=tuple(clean), **fields)
    went_on = RangeRecord(lr=lr, loss=(*clean, np.nan, *[0.1] * 19), **fields)
    assert went_on.read(rule).max_lr == ended.read(rule).max_lr
