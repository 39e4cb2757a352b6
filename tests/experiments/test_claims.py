"""Verdicts."""

import math
from typing import Any

import pytest

from cyclr.errors import InputError
from cyclr.experiments.claims import Claim

TEXT = {"text": "a beats b", "a": "a", "b": "b", "relation": "beats"}


def _verdict(a: list[float], b: Any, relation: str, margin: float = 0.0, **changes: Any) -> str:
    sides = {"a": a, "b": b if isinstance(b, list) else []}
    other = b if not isinstance(b, list) else "b"
    claim = Claim(text="", a="a", b=other, relation=relation, margin=margin, **changes)
    return claim.verdict(lambda row: sides[row])


@pytest.mark.parametrize(
    ("a", "b", "relation", "margin", "verdict"),
    [
        ([80.0], [79.0], "beats", 0.5, "in one run: holds: +1.00 points (margin 0.5, n = 1)"),
        (
            [80.0],
            [79.5],
            "beats",
            0.5,
            "in one run: does not hold: +0.50 points (margin 0.5, n = 1)",
        ),
        ([79.5], [80.0], "reaches", 0.5, "in one run: holds: -0.50 points (margin 0.5, n = 1)"),
        (
            [79.4],
            [80.0],
            "reaches",
            0.5,
            "in one run: does not hold: -0.60 points (margin 0.5, n = 1)",
        ),
        ([80.4], [80.0], "equals", 0.5, "in one run: holds: +0.40 points (margin 0.5, n = 1)"),
        (
            [79.4],
            [80.0],
            "equals",
            0.5,
            "in one run: does not hold: -0.60 points (margin 0.5, n = 1)",
        ),
        (
            [80.0, 82.0],
            [79.0],
            "beats",
            0,
            "in one run: holds: +2.00 points (margin 0, n = 2 against n = 1)",
        ),
        # Standard error: sqrt(2/2 + 2/2) = 1.41, and with two degrees of freedom t is 4.30: what is
        # less than 6.08 from the threshold is undecided.
        (
            [80.0, 82.0],
            [79.0, 81.0],
            "beats",
            0,
            "undecided: +1.00 ± 1.41 points (margin 0, n = 2)",
        ),
        ([82.0, 84.0], [75.0, 77.0], "beats", 0, "holds: +7.00 ± 1.41 points (margin 0, n = 2)"),
        (
            [82.0, 84.0],
            [75.0, 77.0],
            "beats",
            1,
            "undecided: +7.00 ± 1.41 points (margin 1, n = 2)",
        ),
        (
            [73.0, 75.0],
            [82.0, 84.0],
            "reaches",
            1,
            "does not hold: -9.00 ± 1.41 points (margin 1, n = 2)",
        ),
        # No spread at all was seen.
        ([80.1, 80.1], [80.0, 80.0], "beats", 0, "holds: +0.10 ± 0.00 points (margin 0, n = 2)"),
        # A tie, whose last bits say otherwise.
        ([60.03], [60.33], "reaches", 0.3, "in one run: holds: -0.30 points (margin 0.3, n = 1)"),
        # On either side of 0 there is a threshold, and it is a hundredth away from one of them.
        (
            [80.0, 80.2],
            [79.6, 79.8],
            "equals",
            0.39,
            "undecided: +0.40 ± 0.14 points (margin 0.39, n = 2)",
        ),
        ([80.0, 80.2], [79.6, 79.8], "equals", 2, "holds: +0.40 ± 0.14 points (margin 2, n = 2)"),
        ([3.0, 5.0], 3.5, "beats", 0, "undecided: +0.50 ± 1.00 points (margin 0, n = 2)"),
        # One degree of freedom: t is 12.7.
        ([3.9, 4.1], 3.5, "beats", 0, "undecided: +0.50 ± 0.10 points (margin 0, n = 2)"),
        ([3.99, 4.01], 3.5, "beats", 0, "holds: +0.50 ± 0.01 points (margin 0, n = 2)"),
        ([4.0], 3.5, "beats", 0, "in one run: holds: +0.50 points (margin 0, n = 1)"),
        ([], [79.0], "beats", 0, "not run yet: a"),
        ([], [], "beats", 0, "not run yet: a, b"),
        (
            [math.nan, 80.0],
            [79.0, 79.0],
            "beats",
            0,
            "cannot be said: a run of a diverged before it could be measured",
        ),
    ],
)
def test_verdicts(a: list[float], b: Any, relation: str, margin: float, verdict: str) -> None:
    assert _verdict(a, b, relation, margin) == verdict


def test_a_range_includes_both_ends() -> None:
    claim = Claim(text="", a="a", b=[0.003, 0.012], relation="within", quantity="max_lr")
    assert claim.verdict(lambda _: [0.012]) == "in one run: holds: 0.012 (n = 1)"
    assert claim.verdict(lambda _: [0.002]) == "in one run: does not hold: 0.002 (n = 1)"
    assert claim.verdict(lambda _: []) == "not run yet: a"
    assert claim.verdict(lambda _: [0.006, 0.0061]) == "holds: 0.00605 ± 5e-05 (n = 2)"
    assert claim.verdict(lambda _: [0.006, 0.007]) == "undecided: 0.0065 ± 0.0005 (n = 2)"
    assert claim.verdict(lambda _: [0.0035, 0.0029]) == "undecided: 0.0032 ± 0.0003 (n = 2)"
    assert claim.verdict(lambda _: [0.013, 0.0131]) == "does not hold: 0.01305 ± 5e-05 (n = 2)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"winner": "a"}, r"claims\.winner is not a key"),
        ({"relation": "outdoes"}, r"claims\.relation must be one of reaches, beats"),
        ({"quantity": "beauty"}, r"claims\.quantity must be one of accuracy"),
        ({"b": [1, 2]}, r"claims\.b must be a pair \[low, high\] with the relation within"),
        ({"relation": "within"}, r"claims\.b must be a pair"),
        ({"relation": "within", "b": [1]}, r"claims\.b must be two numbers, the lower"),
        ({"relation": "within", "b": [6, 2]}, r"claims\.b must be two numbers, the lower"),
        ({"b": True}, r"claims\.b must be the name of a row, or a number, got True"),
        ({"margin": "0.3"}, r"claims\.margin must be a number ≥ 0, got '0.3'"),
        ({"margin": -1}, r"claims\.margin must be a number ≥ 0, got -1"),
        ({"text": 5}, r"claims\.text must be a string, got 5"),
    ],
)
def test_what_is_no_claim_is_refused(changes: dict[str, Any], message: str) -> None:
    claim = {**TEXT, **changes}
    with pytest.raises(InputError, match=rf"^grid, claim {claim['text']!r}: {message}"):
        Claim.from_dict(claim, where="grid")


def test_a_claim_needs_two_sides() -> None:
    with pytest.raises(InputError, match=r"claims\.b is missing"):
        Claim.from_dict({key: TEXT[key] for key in ("text", "a", "relation")}, where="grid")
