"""The conformance checks, as a third party meets them: by the documentation's page alone."""

import math
import re
from pathlib import Path

import pytest

from cyclr import RangeTest
from cyclr.testing import check_integration, check_range_test, check_resume, check_values, recipes

PAGE = Path(__file__).parents[1] / "docs" / "your-integration.md"


@pytest.fixture
def page() -> dict:
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    return names


def test_the_page_s_integration_passes(page) -> None:
    handle = page["HeavyBallHandle"]()
    check_integration(handle)
    assert handle.optimizer.rate == pytest.approx(recipes()["triangular2"].lr(1))


def test_a_count_from_1_is_caught(page) -> None:
    class Early(page["HeavyBallHandle"]):
        def begin(self, recipe) -> None:
            super().begin(recipe)
            self.follower.updated()

    with pytest.raises(AssertionError, match="step 0: lr used"):
        check_integration(Early())


def test_a_state_that_loading_changes_is_caught(page) -> None:
    class Sharing(page["HeavyBallHandle"]):
        def resume(self, recipe, state) -> None:
            super().resume(recipe, state)
            state["done"] += 1

    with pytest.raises(AssertionError, match="from the same state again, step 6"):
        check_resume(Sharing())


def test_a_momentum_said_nothing_of_is_caught(page) -> None:
    class Silent(page["HeavyBallHandle"]):
        def update(self):
            return {"lr": super().update()["lr"]}

    with pytest.raises(AssertionError, match="update\\(\\) says nothing of momentum"):
        check_values(Silent(), recipes()["one-cycle"])


def test_values_that_are_not_numbers_are_caught(page) -> None:
    class Nothing(page["HeavyBallHandle"]):
        def update(self):
            return {"lr": math.nan, "momentum": math.nan}

    with pytest.raises(AssertionError, match="lr used nan"):
        check_values(Nothing(), recipes()["constant"])


def test_without_means_only_the_values_are_checked(page) -> None:
    class Bare(page["HeavyBallHandle"]):
        def state(self):
            return None

        def range_test(self, sweep, *, fail_at=None):
            return None

    check_integration(Bare())


def test_a_range_test_that_swallows_an_exception_is_caught(page) -> None:
    class Swallowing(page["HeavyBallHandle"]):
        def range_test(self, sweep, *, fail_at=None):
            return super().range_test(sweep)

    with pytest.raises(AssertionError, match="did not come through"):
        check_range_test(Swallowing())


def test_a_range_test_without_an_effect_on_the_rate_is_caught(page) -> None:
    class Unset(page["HeavyBallHandle"]):
        def range_test(self, sweep, *, fail_at=None):
            test = RangeTest(sweep.replace(start_lr=sweep.start_lr * 2))
            for _ in test:
                test.tell(loss=1.0)
            return test.record

    with pytest.raises(AssertionError, match="range test, step 0: recorded rate"):
        check_range_test(Unset())
