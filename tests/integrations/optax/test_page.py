"""The code on the documentation's page about optax runs, and trains."""

import re
from pathlib import Path

import pytest

pytest.importorskip("optax", reason="needs the extra jax")

PAGE = Path(__file__).parents[3] / "docs" / "optax.md"


def test_the_page_s_code_runs() -> None:
    values: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, values)  # the page is ours
    loss = sum(float(values["loss_of"](values["weights"], b)) for b in values["batches"]) / 8
    assert loss < 0.3
