"""The code on the documentation's page about Keras runs, and trains."""

import re
from pathlib import Path

import pytest

pytest.importorskip("keras", reason="needs the extra keras")

# NumPy 2 deprecates the form of __array__ that Keras's variables and some backends' tensors have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PAGE = Path(__file__).parents[3] / "docs" / "keras.md"


def test_the_page_s_code_runs() -> None:
    values: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, values)  # the page is ours
    assert values["history"].history["accuracy"][-1] > 0.8
    assert float(values["rate"](100)) == pytest.approx(0.1)
