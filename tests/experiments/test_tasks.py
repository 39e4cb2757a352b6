"""Built-in tasks, and the user's own by module or file."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cyclr import Task
from cyclr.errors import TaskError
from cyclr.experiments.tasks import BUILT_IN, load_task

SOURCE = """
from cyclr import Task

def mine(source="nothing"):
    return Task(name=f"mine from {source}", model=dict, train=[1], loss_fn=max, optimizer=list)

def wrong():
    return {"name": "mine"}

def raising():
    raise LookupError("the disk is on fire")

def none_at_all():
    return Task(name="mine", model=dict, train=[1], loss_fn=max, optimizer=list, epochs=0)

number = 3
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder; forget afterwards what was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    sys.modules.update(before)
    for name, module in list(sys.modules.items()):
        if name not in before and str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def test_the_built_in_tasks() -> None:
    assert sorted(BUILT_IN) == ["cifar10", "digits", "fashion-mnist"]


def test_digits_fit_their_model() -> None:
    task = load_task("digits")
    assert isinstance(task, Task)
    assert (task.name, task.batch_size, task.epochs) == ("digits", 64, 30)
    inputs, targets = task.train
    assert task.prepare is not None
    prepared = task.prepare(inputs[:9])
    assert (float(prepared.min()), float(prepared.max())) == (-1.0, 1.0)
    model = task.model()
    loss = task.loss_fn(model(prepared), targets[:9])
    assert 1.5 < float(loss.detach()) < 4.0
    optimizer = task.optimizer(model.parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_a_file_and_a_module_beside_the_command_are_found(tmp_path: Path) -> None:
    (tmp_path / "own_task_a.py").write_text(SOURCE)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own_task_b.py").write_text(SOURCE)
    assert load_task("own_task_a:mine").name == "mine from nothing"
    assert load_task("deep/own_task_b.py:mine").name == "mine from nothing"
    assert load_task("deep.own_task_b:mine", "there").name == "mine from there"
    assert load_task(f"{tmp_path}/own_task_a.py:mine", "there").name == "mine from there"


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "own_task_c.py").write_text(SOURCE)
    load_task("own_task_c.py:mine")
    (tmp_path / "own_task_c.py").write_text(SOURCE.replace("mine from", "yours from now, and"))
    assert load_task("own_task_c.py:mine").name == "yours from now, and nothing"


def test_a_file_named_like_another_module_does_not_take_its_place(tmp_path: Path) -> None:
    import colorsys

    (tmp_path / "colorsys.py").write_text(SOURCE)
    assert load_task("colorsys.py:mine").name == "mine from nothing"
    assert sys.modules["colorsys"] is colorsys


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("what", "unknown task 'what'; use one of cifar10, digits, fashion-mnist, or your own as "),
        ("", "unknown task ''"),
        ("none.py:mine", "no file none.py; check the path before the colon"),
        ("no_such_module:mine", "no module named 'no_such_module'; run where it can be imported"),
        ("no_such.module:mine", "no module named 'no_such.module'; run where it can be"),
        ("own.py:nothing", "own.py has no function 'nothing'; check the name after the colon"),
        ("own.py:number", "own.py has no function 'number'"),
        ("own.py:", "own.py has no function ''"),
        ("own.py:wrong", "own.py:wrong must return a cyclr.Task, got dict"),
        ("own.py:none_at_all", "Task.epochs must be an int ≥ 1, got 0"),
        ("own.py:raising", "own.py:raising"),
        ("broken.py:mine", "broken.py cannot be run: SyntaxError: "),
        ("broken:mine", "broken cannot be"),
        (
            "needy.py:mine",
            "needy.py cannot be run: ModuleNotFoundError: No module named ",
        ),
        ("needy:mine", "needy cannot be imported: No module named 'a_thing_that_is_missing'"),
        ("failing.py:mine", "failing.py cannot be run: ZeroDivisionError: division by zero"),
        ("failing:mine", "failing cannot be"),
        (":mine", "'' before the colon is not a module's name"),
        (".own:mine", ".own"),
    ],
)
def test_what_cannot_be_a_task_is_a_task_error(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def mine(:\n")
    (tmp_path / "needy.py").write_text("import a_thing_that_is_missing\n")
    (tmp_path / "failing.py").write_text("1 / 0\n")
    with pytest.raises(TaskError) as caught:
        load_task(name)
    assert message in str(caught.value)


def test_the_words_of_a_function_that_raises_are_kept(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    with pytest.raises(TaskError, match="LookupError: the disk is on fire"):
        load_task("own.py:raising")


def test_a_function_that_takes_no_source_is_not_given_one_silently(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    with pytest.raises(TaskError, match=r"own\.py:wrong"):
        load_task("own.py:wrong", "folder")
