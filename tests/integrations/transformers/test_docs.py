"""What docs/transformers.md shows is run as it stands."""

import re
from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra cyclr[transformers]")

PAGE = Path(__file__).parents[3] / "docs" / "transformers.md"


@pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true but no accelerator")
def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    assert names["trainer"].state.global_step == names["recipe"].total_steps == 320
    names["another"].train()
    assert names["another"].state.global_step == 320
    rate = names["optimizer"].param_groups[0]["lr"]
    assert rate == pytest.approx(names["recipe"].lr(320))
