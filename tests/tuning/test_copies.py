"""Copies of a training in small: whole batches, all the epochs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr.tuning.copies import examples_for, updates_for


@pytest.mark.parametrize(
    ("share", "examples"), [(1.0, None), (2.5, None), (0.5, 1600), (0.4, 1280), (0.05, 128)]
)
def test_a_share_in_figures(share: float, examples: int | None) -> None:
    assert examples_for(share, 3210, 64) == examples


def test_less_than_a_batch_is_no_copy() -> None:
    assert examples_for(0.9, 64, 64) is None
    assert examples_for(0.9, 40, 64) is None
    assert examples_for(0.3, 200, 64) is None


def test_updates_in_figures() -> None:
    # 50 batches an epoch and 10 epochs; 20 batches of the copy.
    assert updates_for(1280, 3210, 64, whole=500) == 200
    # At half the batch, with a whole training of 1000 updates, 40 of 100.
    assert updates_for(1280, 3210, 32, whole=1000) == 400


@given(
    st.floats(0.001, 0.999),
    st.integers(1, 100_000),
    st.integers(1, 512),
    st.integers(1, 50),
)
def test_a_copy_has_whole_epochs_and_costs_no_more_than_its_share(
    share: float, of: int, batch_size: int, epochs: int
) -> None:
    examples = examples_for(share, of, batch_size)
    if examples is not None:
        whole = epochs * (of // batch_size)
        updates = updates_for(examples, of, batch_size, whole)
        assert batch_size <= examples < of
        assert updates in (3, epochs * (examples // batch_size))
        assert updates <= max(3, share * whole + 1e-6)
