"""What fit refuses before it trains: what is wrong and what to do is said, nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

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
