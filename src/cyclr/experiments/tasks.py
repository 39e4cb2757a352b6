"""The built-in tasks, and how a user's own task is found."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cyclr.errors import CyclrError, TaskError
from cyclr.experiments import data, models
from cyclr.experiments.augment import crop_and_mirror
from cyclr.experiments.task import Task

# Statistics of the training images' bytes, per channel.
_FASHION = ((72.94,), (90.02,))
_CIFAR10 = ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7))


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)


def _standardize(mean: tuple[float, ...], deviation: tuple[float, ...]) -> Callable[[Any], Any]:
    """Make a function from bytes to standardized channels."""
    shape = (1, len(mean), 1, 1)
    m, d = torch.tensor(mean).view(shape), torch.tensor(deviation).view(shape)
    return lambda images: (images.float() - m) / d


def digits(source: str | None = None) -> Task:
    """Make the embedded task: scikit-learn's 8×8 digits and a two-layer convolutional net.

    Raises:
        TaskError: A source is given; the data comes with scikit-learn.
    """
    if source is not None:
        raise TaskError(f"the digits come with scikit-learn, not from {source!r}; leave it out")
    train, validation = data.digits()
    return Task(
        name="digits",
        model=models.digits_net,
        train=tuple(train),
        validation=tuple(validation),
        loss_fn=nn.functional.cross_entropy,
        optimizer=_sgd,
        batch_size=64,
        epochs=30,
        prepare=lambda images: images.float() / 8.0 - 1.0,
    )


def fashion_mnist(source: str | None = None) -> Task:
    """Make the Fashion-MNIST task with the small residual net, 16 channels wide."""
    train, validation = data.fashion_mnist(source)
    return Task(
        name="fashion-mnist",
        model=lambda: models.small_resnet(channels=1, width=16),
        train=tuple(train),
        validation=tuple(validation),
        loss_fn=nn.functional.cross_entropy,
        optimizer=_sgd,
        batch_size=128,
        epochs=5,
        prepare=_standardize(*_FASHION),
    )


def cifar10(source: str | None = None) -> Task:
    """Make the CIFAR-10 task with the small residual net, 24 channels wide, crops and mirroring."""
    train, validation = data.image_dataset(source or "uoft-cs/cifar10", size=32)
    return Task(
        name="cifar10",
        model=lambda: models.small_resnet(width=24),
        train=tuple(train),
        validation=tuple(validation),
        loss_fn=nn.functional.cross_entropy,
        optimizer=_sgd,
        batch_size=128,
        epochs=10,
        prepare=_standardize(*_CIFAR10),
        augment=crop_and_mirror,
    )


BUILT_IN: dict[str, Callable[[str | None], Task]] = {
    "cifar10": cifar10,
    "digits": digits,
    "fashion-mnist": fashion_mnist,
}


def load_task(name: str, source: str | None = None) -> Task:
    """Find a task by name and make it.

    Args:
        name: A built-in task, ``module:function`` or ``path/to/file.py:function``. The function
            takes no argument, or the source, and returns a :class:`~cyclr.experiments.task.Task`.
        source: Where the data is: a folder, or a data set's name on the Hugging Face hub.

    Raises:
        TaskError: There is no such task, or the function does not return a Task.
        DataError: The task's data cannot be read.
    """
    if name in BUILT_IN:
        return BUILT_IN[name](source)
    if ":" not in name:
        known = ", ".join(sorted(BUILT_IN))
        raise TaskError(
            f"unknown task {name!r}; use one of {known}, or your own as module:function or "
            "file.py:function"
        )
    place, _, function = name.rpartition(":")
    make = getattr(_import(place), function, None)
    if isinstance(make, Task):
        raise TaskError(f"{name} is a Task; write a function that returns it, and name that")
    if not callable(make):
        raise TaskError(f"{place} has no function {function!r}; check the name after the colon")
    try:
        task = make() if source is None else make(source)
    except CyclrError:
        raise
    except Exception as error:
        raise TaskError(f"{name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(task, Task):
        raise TaskError(f"{name} must return a cyclr.Task, got {type(task).__name__}")
    return task


def _import(place: str) -> Any:
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


def _import_module(name: str) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        raise TaskError(
            f"{name!r} before the colon is not a module's name; "
            "write module:function or file.py:function"
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside where the command is run, as with python -m
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if f"{name}.".startswith(f"{error.name}."):
            raise TaskError(
                f"no module named {name!r}; run where it can be imported, or name its file: "
                "path/to/file.py:function"
            ) from error
        raise TaskError(f"{name} cannot be imported: {error}; install what it needs") from error
    except Exception as error:
        raise TaskError(f"{name} cannot be run: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise TaskError(f"no file {path}; check the path before the colon")
    # Under a name of its own: a file called random.py must not take the module's place.
    name = f"cyclr_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent.resolve()) not in sys.path:
        sys.path.insert(0, str(path.parent.resolve()))  # modules beside it, as with python file.py
    sys.modules[name] = module  # data loader workers look the module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise TaskError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    return module
