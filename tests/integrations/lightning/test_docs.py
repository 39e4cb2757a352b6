"""What docs/lightning.md shows is run as it stands."""

import re
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="needs the extra cyclr[lightning]")

PAGE = Path(__file__).parents[3] / "docs" / "lightning.md"


@pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    "ignore:.*tensorboardX",  # said where TensorBoard is not installed
    "ignore:.*treespec, LeafSpec.*is deprecated",
    "ignore:The number of training batches .* is smaller than the logging interval",
)
def test_the_page_runs_from_top_to_bottom(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.M | re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    assert names["trainer"].global_step == names["recipe"].total_steps == 290
    module = names["Scheduled"]()
    names["pl"].Trainer(max_steps=3).fit(module, names["loader"])
    rate = module.optimizers().param_groups[0]["lr"]
    assert rate == pytest.approx(names["recipe"].lr(3))
