"""Training one task to its full budget, and the score that a result gets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

import cyclr
from benchmarks.finders.problem import Problem
from cyclr.integrations.torch import Scheduler
from cyclr.integrations.torch.groups import describe
from cyclr.planning import auto_momentum
from cyclr.rangetest import Outcome, Reading

Result = dict[str, float]


def begin(problem: Problem, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Make a task's net and optimizer, as every finder and every training finds them."""
    split = problem.split()  # may train what is fine-tuned, from a seed of its own
    assert len(split.inputs)
    problem.model()
    torch.manual_seed(1000 + seed)
    model = problem.model()
    return model, problem.optimizer(model.parameters())


class Batches:
    """Re-iterable batches in an order drawn from the seed and the pass."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.split, self.size = problem.split(), problem.batch_size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Count the batches of a pass; a smaller last one is left out."""
        return max(1, len(self.split.inputs) // self.size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Go through the data in a new order."""
        order = torch.randperm(len(self.split.inputs), generator=self.generator)
        for i in range(len(self)):
            pick = order[i * self.size : (i + 1) * self.size]
            yield self.split.inputs[pick], self.split.targets[pick]


def endless(batches: Any) -> Iterator[Any]:
    """Go round and round."""
    while True:
        yield from batches


def reference(max_lr: float, problem: Problem, optimizer: Any) -> cyclr.Recipe:
    """Make the one policy that every rate is judged under: ``plan``'s one-cycle, at that rate."""
    reading = Reading(
        base_lr=max_lr / 10, max_lr=max_lr, rule="given", outcome=Outcome.COMPLETED,
        optimizer=describe(optimizer),
    )  # fmt: skip
    momentum = auto_momentum(reading.optimizer)
    return cyclr.plan(reading, total_steps=problem.steps, momentum=momentum)


def train(problem: Problem, seed: int, max_lr: float) -> Result:
    """Train to the full budget under the reference policy with its peak at max_lr."""
    model, optimizer = begin(problem, seed)
    scheduler = Scheduler(optimizer, reference(max_lr, problem, optimizer))
    return run(problem, seed, model, optimizer, scheduler.step)


def run(
    problem: Problem, seed: int, model: nn.Module, optimizer: Any, after: Callable[[], Any]
) -> Result:
    """Train for the budget, calling ``after`` behind each update, and measure."""
    model.train()
    stream = endless(Batches(problem, seed))
    for step in range(problem.steps):
        inputs, targets = next(stream)
        optimizer.zero_grad()
        loss = problem.loss_fn(model(inputs), targets)
        loss.backward()
        if problem.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), problem.clip)
        optimizer.step()
        after()
        if step % 50 == 0 and not math.isfinite(loss.item()):
            break  # no way back
    return measure(problem, model)


def measure(problem: Problem, model: nn.Module) -> Result:
    """Give validation loss, and accuracy where there is one."""
    split = problem.split()
    model.eval()
    losses, right = [], []
    with torch.no_grad():
        for x, y in zip(split.val_inputs.split(500), split.val_targets.split(500), strict=True):
            outputs = model(x)
            losses.append(float(problem.loss_fn(outputs, y)) * len(x))
            if problem.measure == "accuracy":
                right.append(int((outputs.argmax(1) == y).sum()))
    result = {"loss": sum(losses) / len(split.val_inputs)}
    if problem.measure == "accuracy":
        result["accuracy"] = sum(right) / len(split.val_inputs)
    return result


def quality(problem: Problem, result: Result, floor: float, start: Result) -> float:
    """Turn a result into what is compared with the oracle's.

    Accuracy as it is; of losses, the fall in log loss since the start. A likelihood, whose loss may
    be negative, falls in ``log(loss − floor)``, ``floor`` being one below the best loss that any
    training reached. A diverged training has fallen by nothing.
    """
    if problem.measure == "accuracy":
        return result["accuracy"]
    if not math.isfinite(result["loss"]):
        return 0.0
    return max(0.0, math.log(start["loss"] - floor) - math.log(result["loss"] - floor))
