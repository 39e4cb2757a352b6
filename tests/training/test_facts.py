"""What is noted of data and optimizer: what they tell themselves, and nothing the recipe sets."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from cyclr import Constant, Recipe
from cyclr.training import make_loader
from cyclr.training.assembly import Work
from cyclr.training.facts import differences, facts_of

PLAIN = Recipe(lr=Constant(value=0.1), total_steps=4)
FULL = PLAIN.replace(momentum=Constant(value=0.9), weight_decay=Constant(value=0.01))
DATA = (torch.zeros(50, 3), torch.zeros(50, dtype=torch.long))


class Endless(IterableDataset[Any]):
    """Data that does not know its length."""

    def __iter__(self) -> Iterator[Any]:
        yield from zip(*DATA, strict=True)


def _facts(batches: Any = (), make: Any = torch.optim.SGD, recipe: Recipe = PLAIN) -> Any:
    model = nn.Linear(3, 2)
    optimizer = make(model.parameters())
    work = Work(
        model=model,
        optimizer=optimizer,
        batches=batches,
        loss_fn=nn.functional.cross_entropy,
        recipe=recipe,
        validation=None,
        metrics=None,
    )
    return json.loads(json.dumps(facts_of(work)))


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        (make_loader(DATA, 16), (16, 3, 50)),
        (make_loader(TensorDataset(*DATA), 16), (16, 3, 50)),
        (DataLoader(TensorDataset(*DATA), batch_size=16), (16, 4, 50)),
        (DataLoader(Endless(), batch_size=16), (16, None, None)),
        (list(zip(*(t.split(16) for t in DATA), strict=True)), (16, 4, 50)),
        ([(DATA[0], {"a": DATA[1]})], (None, 1, None)),
        (Endless(), (None, None, None)),
    ],
    ids=["in memory", "data set", "torch's", "endless", "list", "of dicts", "bare"],
)
def test_the_data_is_described_as_far_as_it_tells(batches: Any, expected: tuple[Any, ...]) -> None:
    facts = _facts(batches)
    names = ("batch_size", "batches_per_epoch", "training_examples")
    assert tuple(facts.get(name) for name in names) == expected


def test_what_the_recipe_schedules_is_no_setting_of_the_optimizer() -> None:
    (group,) = _facts(make=torch.optim.AdamW)["optimizer"]["groups"]
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.01, [0.9, 0.999], 1e-8)
    assert "lr" not in group
    (group,) = _facts(make=torch.optim.AdamW, recipe=FULL)["optimizer"]["groups"]
    assert group["betas"] == [0.999]
    assert "weight_decay" not in group
    (group,) = _facts(recipe=FULL)["optimizer"]["groups"]
    assert {"momentum", "weight_decay", "lr"} & set(group) == set()
    assert group["nesterov"] is False


def _groups(share: float, decay: float) -> Any:
    def make(parameters: Any) -> torch.optim.Optimizer:
        weight, bias = parameters
        bias_group = {"params": [bias], "lr": share, "weight_decay": decay}
        return torch.optim.SGD([{"params": [weight]}, bias_group], lr=1.0)

    return make


def test_differences_name_the_field_and_the_group() -> None:
    begun = _facts(make=_groups(0.1, 0.0))
    assert differences(begun, _facts(make=_groups(0.1, 0.0))) == []
    assert differences(begun, _facts(make=_groups(0.5, 0.2))) == [
        "share_of_lr of group 1 of the optimizer was 0.1 and is now 0.5",
        "weight_decay of group 1 of the optimizer was 0.0 and is now 0.2",
    ]
    assert differences(begun, _facts()) == ["the optimizer's parameter groups were 2 and are now 1"]
    assert differences(_facts(make_loader(DATA, 16)), _facts(make_loader(DATA, 8))) == [
        "batch_size was 16 and is now 8",
        "batches_per_epoch was 3 and is now 6",
    ]


def test_what_either_does_not_know_is_no_difference() -> None:
    known, unknown = _facts(make_loader(DATA, 16)), _facts(Endless())
    assert differences(known, unknown) == differences(unknown, known) == []
    assert differences({}, known) == []
    del known["optimizer"]["groups"][0]["nesterov"]
    assert differences(known, _facts(make_loader(DATA, 16))) == []
