"""What fit refuses before it trains: what is wrong and what to do is said, nothing is written."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from cyclr import Constant, Recipe
from cyclr.errors import CyclrError, DataError, InputError
from cyclr.training import fit

LOSS = nn.functional.cross_entropy
RECIPE = Recipe(lr=Constant(value=0.1), total_steps=4)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def _sgd(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 4, generator=generator)
    return list(zip(inputs.split(16), (inputs.sum(1) > 0).long().split(16), strict=True))


def _foreign_labels() -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(inputs, targets + 7) for inputs, targets in _batches()]


def _failing(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    return 1 / 0


def _fit(changes: Callable[[nn.Module], dict[str, Any]], folder: Path | None = None) -> Any:
    net = _net()
    pieces = {"model": net, "optimizer": _sgd(net), "batches": _batches(), "loss_fn": LOSS}
    return fit(**{**pieces, "recipe": RECIPE, "folder": folder, **changes(net)})


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        (
            lambda net: {"optimizer": _sgd(_net())},
            InputError,
            "none of the optimizer's parameters belongs to the model",
        ),
        (
            lambda net: {"model": _sgd(net), "optimizer": net},
            InputError,
            "model must be a torch module, got SGD",
        ),
        (
            lambda net: {"optimizer": torch.optim.LBFGS(net.parameters())},
            InputError,
            "LBFGS evaluates the loss itself, several times an update, and fit does so once; train",
        ),
        (lambda net: {"optimizer": None}, InputError, "optimizer must be a torch Optimizer"),
        (lambda net: {"batches": None}, DataError, "batches must be re-iterable, got None"),
        (lambda net: {"batches": iter(_batches())}, DataError, "batches is an iterator, which"),
        (lambda net: {"batches": (b for b in _batches())}, DataError, "batches is an iterator"),
        (
            lambda net: {"validation": iter(_batches())},
            DataError,
            "validation is an iterator, which can be gone through only once; pass what it was",
        ),
        (lambda net: {"validation": 3}, DataError, "validation must be re-iterable, got 3"),
        (
            lambda net: {"loss_fn": nn.CrossEntropyLoss},
            InputError,
            "loss_fn is a class; pass what it makes, CrossEntropyLoss()",
        ),
        (lambda net: {"loss_fn": "mse"}, InputError, "loss_fn must be a function (outputs, targ"),
        (
            lambda net: {"metrics": {"a": 3}},
            InputError,
            "metrics['a'] must be a function (outputs, targets), got 3",
        ),
        (lambda net: {"metrics": [len]}, InputError, "metrics must be a dict of functions by name"),
        (lambda net: {"metrics": {1: len}}, InputError, "a name in metrics must be a string"),
        (
            lambda net: {"monitor": "val_acc"},
            InputError,
            "monitor 'val_acc' is measured on validation data, and there is none",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(
    tmp_path: Path, changes: Any, kind: type[CyclrError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        _fit(changes, tmp_path / "run")
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_of_some_of_the_parameters_trains_those() -> None:
    net = _net()
    before = [p.clone() for p in net.parameters()]
    half = torch.optim.SGD(net[0].parameters(), lr=0.1)
    assert _fit(lambda _: {"model": net, "optimizer": half}).steps == 4
    same = [torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)]
    assert same == [False, False, True, True]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [
        (nn.CrossEntropyLoss(reduction="none"), r"a loss of shape \(16,\); make it one number, a"),
        (lambda o, t: LOSS(o, t).item(), "gave float instead of a tensor, and no gradient can be"),
        (lambda o, t: LOSS(o, t).detach(), "the loss does not depend on any parameter that requ"),
    ],
    ids=["vector", "float", "detached"],
)
def test_a_loss_without_a_gradient_is_refused(loss_fn: Any, words: str, accumulate: int) -> None:
    with pytest.raises(InputError, match=words):
        _fit(lambda _: {"loss_fn": loss_fn, "accumulate": accumulate})


def test_an_error_of_the_backward_pass_itself_is_left_as_it_is() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("the kernel is broken")

    with pytest.raises(RuntimeError, match="the kernel is broken"):
        _fit(lambda _: {"loss_fn": lambda o, t: Broken.apply(LOSS(o, t))})


def test_a_loss_of_one_element_may_have_an_axis() -> None:
    losses: list[float] = []
    _fit(
        lambda _: {
            "loss_fn": lambda o, t: LOSS(o, t).reshape(1),
            "on_step": lambda line: losses.append(line["loss"]),
        }
    )
    plain: list[float] = []
    _fit(lambda _: {"on_step": lambda line: plain.append(line["loss"])})
    assert losses == plain
    assert len(losses) == 4


# One batch of the validation data is tried before training.


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"metrics": {"m": _failing}}, ZeroDivisionError, "division by zero"),
        (
            {"metrics": {"m": lambda o, t: "x"}},
            InputError,
            r"what metrics\['m'\] gives must be a number, or one for each example, got 'x'; have",
        ),
        ({"validation": _foreign_labels()}, IndexError, "Target .* is out of bounds"),
        ({"validation": [_batches()[0][0]]}, DataError, r"batches must give \(inputs, targets\)"),
        (
            {"monitor": "val_f1"},
            InputError,
            "monitor must be one of val_loss, val_accuracy, got 'v",
        ),
        (
            {"loss_fn": nn.CrossEntropyLoss(reduction="none")},
            InputError,
            r"a loss of shape \(16,\); make it one number",
        ),
    ],
    ids=["metric fails", "metric gives words", "labels", "no pairs", "monitor", "vector"],
)
def test_what_an_evaluation_would_fail_at_is_heard_of_before_training(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    steps: list[Any] = []
    net = _net()
    before = [p.clone() for p in net.parameters()]
    pieces = {"model": net, "optimizer": _sgd(net), "validation": _batches()}
    with pytest.raises(kind, match=words) as caught:
        _fit(lambda _: {**pieces, "on_step": steps.append, **options}, tmp_path / "run")
    assert steps == []
    assert list(tmp_path.iterdir()) == []
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    if kind is ZeroDivisionError:
        assert caught.value.__notes__ == [
            "This is metrics['m'], tried on one batch before training."
        ]


class Counting:
    """A metric that remembers its calls."""

    def __init__(self) -> None:
        self.calls, self.seen = 0, torch.zeros(1)

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen += len(targets)
        return outputs.mean()


def test_the_trial_leaves_no_trace() -> None:
    """Random numbers in model, loss and order, BatchNorm, and a metric that counts."""
    inputs, targets = (torch.cat(parts) for parts in zip(*_batches(), strict=True))
    held = torch.utils.data.DataLoader(TensorDataset(inputs, targets), 16, shuffle=True)

    def noisy(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return LOSS(outputs, wanted) * (1 + random.random() + torch.rand(()))

    curves, counting = [], Counting()
    for validation in (None, held):
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
        random.seed(0)
        torch.manual_seed(0)
        for layer in (net[0], net[3]):
            layer.reset_parameters()
        losses: list[float] = []
        options = {
            "model": net,
            "optimizer": _sgd(net),
            "loss_fn": noisy,
            "batches": torch.utils.data.DataLoader(
                TensorDataset(inputs, targets), 16, shuffle=True
            ),
            "validation": validation,
            "metrics": {"count": counting},
            "on_step": lambda line, losses=losses: losses.append(line["loss"]),
        }
        _fit(lambda _, options=options: options)
        curves.append((losses, net[1].running_mean))
    assert curves[0][0] == curves[1][0]
    assert torch.equal(curves[0][1], curves[1][1])
    assert (counting.calls, float(counting.seen)) == (4, 64)  # of the evaluation at the end alone


def test_snapshots_without_a_folder_are_refused_before_training() -> None:
    steps: list[Any] = []
    with pytest.raises(InputError, match="snapshots are kept in a run folder; pass folder="):
        _fit(lambda _: {"snapshots": True, "on_step": steps.append})
    assert steps == []
