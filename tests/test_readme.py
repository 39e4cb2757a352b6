"""What the README and the docs show is run as it stands."""

import re
from pathlib import Path

import pytest
import torch

import cyclr.schedules

ROOT = Path(__file__).parent.parent


def _blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), flags=re.M | re.S)


def test_the_readme_s_python_runs_from_top_to_bottom() -> None:
    names: dict[str, object] = {}
    for block in _blocks(ROOT / "README.md"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["run"].metrics["val_accuracy"] > 0.97
    assert names["reading"].max_lr > 0


def test_range_test_plan_and_training_take_under_15_lines() -> None:
    block = next(b for b in _blocks(ROOT / "README.md") if "range_test(model" in b)
    assert len([line for line in block.splitlines() if line.strip()]) < 15


def test_the_docs_task_can_be_fitted(tmp_path, monkeypatch) -> None:
    from cyclr.experiments.pipeline import run_task
    from cyclr.experiments.tasks import load_task

    block = next(b for b in _blocks(ROOT / "docs" / "training.md") if "def task()" in b)
    (tmp_path / "my_task.py").write_text(block)
    monkeypatch.chdir(tmp_path)
    run = run_task(load_task("my_task.py:task"), epochs=5)
    assert run.metrics["val_accuracy"] > 0.9
    assert run.steps == 250


def _run(page: str) -> dict[str, object]:
    names: dict[str, object] = {}
    for block in _blocks(ROOT / page):
        exec(compile(block, page, "exec"), names)
    return names


def test_the_torch_page_s_python_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _run("docs/torch.md")["scheduler"].last_epoch == 200
    assert torch.load("run.pt")["step"] == 200


def test_the_schedules_page_s_python_runs_and_its_comments_are_true(monkeypatch) -> None:
    names = _run("docs/schedules.md")
    text = (ROOT / "docs" / "schedules.md").read_text()
    said = re.findall(
        r"^(\S[^#\n]*?)  # (.*)$", "\n".join(_blocks(ROOT / "docs/schedules.md")), re.M
    )
    assert len(said) > 5
    for expression, comment in said:
        value = repr(eval(expression, names))
        if "…" in comment:
            begin, end = comment.split("…")
            assert value.startswith(begin.strip()), expression
            assert value.endswith(end.strip()), expression
        else:
            assert value == comment, expression
    assert all(f"`{name}" in text for name in cyclr.schedules.__all__ if name[0].isupper())


def test_the_fine_tuning_page_s_python_runs_and_tunes(capsys) -> None:
    names = _run("docs/fine-tuning.md")
    assert names["reading"].max_lr == pytest.approx(0.25, rel=0.5)
    assert names["accuracy"] > 0.9
    assert {group["initial_lr"] for group in names["optimizer"].param_groups} == {1e-2, 1e-3}
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.slow
def test_the_tuning_page_s_python_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = _run("docs/tuning.md")["result"]
    assert result.updates <= 2 * 660
    assert cyclr.Recipe.load("recipe.json") == result.recipe


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").glob("*.md")),
    ],
)
def test_links_lead_somewhere(page) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+)", path.read_text())
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert missing == []
