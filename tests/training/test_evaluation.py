"""Evaluation: averages over examples, in eval mode, leaving no trace."""

import pytest
import torch
from torch import nn

from cyclr.errors import DataError
from cyclr.training.evaluation import accuracy, evaluate, suited_metrics


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))


def _data() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(10, 4), torch.randint(0, 3, (10,))


def test_the_average_is_over_examples_however_they_are_batched() -> None:
    net, (inputs, targets) = _net(), _data()
    cut = [slice(0, 7), slice(7, 9), slice(9, 10)]
    found = evaluate(
        net,
        [(inputs[part], targets[part]) for part in cut],
        nn.functional.cross_entropy,
        {"accuracy": accuracy, "mean": lambda outputs, _: outputs.mean()},
    )
    outputs = net.eval()(inputs).detach()
    assert list(found) == ["val_loss", "val_accuracy", "val_mean"]
    assert found["val_loss"] == pytest.approx(
        float(nn.functional.cross_entropy(outputs, targets)), rel=1e-5
    )
    right = sum(int(outputs[i].argmax()) == int(targets[i]) for i in range(10))
    assert found["val_accuracy"] == pytest.approx(right / 10)
    assert found["val_mean"] == pytest.approx(float(outputs.mean()), rel=1e-4)


def test_it_runs_in_eval_mode_without_gradients_and_leaves_buffers_alone() -> None:
    net, (inputs, targets) = _net(), _data()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen = []

    def loss(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        seen.append((net.training, outputs.requires_grad))
        return nn.functional.cross_entropy(outputs, wanted)

    evaluate(net, [(inputs, targets)], loss, {})
    assert seen == [(False, False)]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_every_part_is_put_back(training: bool) -> None:
    net, (inputs, targets) = _net(), _data()
    net.train(training)
    net[1].train(not training)  # such as a frozen BatchNorm
    before = [part.training for part in net.modules()]
    evaluate(net, [(inputs, targets)], nn.functional.cross_entropy, {})
    assert [part.training for part in net.modules()] == before


def test_the_mode_is_put_back_after_an_error() -> None:
    net, (inputs, targets) = _net(), _data()

    def broken(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        raise ArithmeticError("broken")

    with pytest.raises(ArithmeticError, match="broken"):
        evaluate(net, [(inputs, targets)], broken, {})
    assert net.training


def test_no_batch_is_an_error() -> None:
    with pytest.raises(DataError, match="the validation data is empty"):
        evaluate(_net(), [], nn.functional.cross_entropy, {})


def test_accuracy_is_per_example() -> None:
    outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert accuracy(outputs, torch.tensor([1, 1, 1])).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("outputs", "targets", "suited"),
    [
        (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), True),
        (torch.zeros(4, 2, 5, 5), torch.zeros(4, 5, 5, dtype=torch.uint8), True),
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.bool), True),
        (torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), False),  # one logit, or a count
        (torch.zeros(4), torch.zeros(4, dtype=torch.int64), False),
        (torch.zeros(4, 3), torch.zeros(4, 3, dtype=torch.int64), False),  # several labels
        (torch.zeros(4, 3), torch.zeros(4), False),
        ({"logits": torch.zeros(4, 3)}, torch.zeros(4, dtype=torch.int64), False),
        (torch.zeros(4, 3), [0, 1, 2, 0], False),
    ],
)
def test_accuracy_is_measured_where_it_means_something(outputs, targets, suited) -> None:
    assert set(suited_metrics(outputs, targets)) == ({"accuracy"} if suited else set())


def test_one_logit_has_its_loss_only() -> None:
    torch.manual_seed(0)
    net, inputs = nn.Linear(4, 1), torch.randn(10, 4)
    targets = (inputs[:, 0] > 0).long()

    def loss(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], wanted.float())

    found = evaluate(net, [(inputs[:6], targets[:6]), (inputs[6:], targets[6:])], loss)
    assert set(found) == {"val_loss"}
    assert found["val_loss"] == pytest.approx(float(loss(net(inputs), targets).detach()))
