"""Batches whose order and augmentation are functions of (seed, epoch, batch), hence resumable."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader

from cyclr.errors import DataError, complaint
from cyclr.schedules.fields import Constraint


class Batch:
    """Which examples make a batch, and the seed of its randomness.

    Args:
        indices: Of the examples.
        seed: A seed, or what to draw it from when it is asked for.
    """

    __slots__ = ("_seed", "indices")

    def __init__(self, indices: torch.Tensor, seed: int | tuple[int, ...]) -> None:
        self.indices, self._seed = indices, seed

    @property
    def seed(self) -> int:
        """The seed of the batch's randomness, ≥ 0."""
        if isinstance(self._seed, tuple):
            words = np.random.SeedSequence(self._seed).generate_state(1, np.uint64)
            self._seed = int(words[0] >> 1)
        return self._seed


class EpochBatches:
    """A sampler of whole batches: each pass over it is one epoch, in an order of its own.

    Epoch ``e`` has the permutation drawn from ``(seed, e)``, and batch ``b`` of it the random seed
    drawn from ``(seed, e, b)``; nothing else has any influence, so whoever counts batches can begin
    a pass anywhere, with ``load_state_dict({"epoch": e, "next": b})``. The sampler's state is where
    the *next* pass begins; a pass that has begun goes on undisturbed.

    A batch that would be smaller than the others is left out, unless it is the only one or
    shuffling is off.

    Args:
        size: Number of examples, ≥ 1.
        batch_size: Examples in a batch, ≥ 1.
        seed: Seed of all randomness, ≥ 0.
        shuffle: Whether to permute; without, every epoch is in the data's order and keeps its last,
            smaller batch.

    Raises:
        DataError: There are no examples.
        SpecError: An argument breaks its constraint.
    """

    def __init__(self, size: int, batch_size: int, *, seed: int = 0, shuffle: bool = True) -> None:
        if size < 1:
            raise DataError("the data set is empty: there is not a single example to train on")
        self.size = size
        self.batch_size: int = Constraint(kind="integer", ge=1).check("batch_size", batch_size)
        self.seed: int = Constraint(kind="integer", ge=0).check("seed", seed)
        self.shuffle = shuffle
        self.epoch = 0
        self._next = 0
        self._drawn: tuple[int, Any] | None = None  # the last epoch's order, not to redo it

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        if self.shuffle:
            return max(1, self.size // self.batch_size)
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Pass:
        """Go through an epoch from where the state says; the next pass is the next epoch."""
        begun = Pass(self, self.epoch, self._next)
        self.epoch, self._next = self.epoch + 1, 0
        return begun

    def batch(self, epoch: int, number: int) -> Batch:
        """Give one batch of one epoch."""
        first = number * self.batch_size
        indices = self._order(epoch)[first : first + self.batch_size]
        return Batch(torch.from_numpy(indices), (self.seed, epoch, number))

    def _order(self, epoch: int) -> Any:
        if self._drawn is None or self._drawn[0] != epoch:
            order = np.arange(self.size)
            if self.shuffle:
                order = np.random.default_rng((self.seed, epoch)).permutation(self.size)
            self._drawn = (epoch, order)
        return self._drawn[1]

    def state_dict(self) -> dict[str, int]:
        """Say where the next pass begins: its epoch, and its first batch."""
        return {"epoch": self.epoch, "next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass at a saved position."""
        self.epoch, self._next = state["epoch"], state["next"]


class Pass(Iterator[Batch]):
    """One pass over the batches of an epoch, which can say where it is and be put there."""

    def __init__(self, batches: EpochBatches, epoch: int, first: int) -> None:
        self._batches, self._epoch, self._next = batches, epoch, first

    def __next__(self) -> Batch:
        """Give the next batch."""
        if self._next >= len(self._batches):
            raise StopIteration
        self._next += 1
        return self._batches.batch(self._epoch, self._next - 1)

    def state_dict(self) -> dict[str, int]:
        """Say which batch comes next."""
        return {"epoch": self._epoch, "next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a saved position; the pass after this one is then the next epoch."""
        self._epoch, self._next = state["epoch"], state["next"]
        self._batches.load_state_dict({"epoch": self._epoch + 1, "next": 0})


class InMemory(Dataset[Any]):
    """Inputs and targets held as tensors and handed out a batch at a time.

    Args:
        inputs: One entry per example along the first axis.
        targets: As long as inputs.
        prepare: Applied to each batch of inputs.
        augment: ``augment(inputs, generator)``, applied after prepare.

    Raises:
        DataError: The lengths differ, or there are no examples.
    """

    def __init__(
        self,
        inputs: torch.Tensor,
        targets: torch.Tensor,
        *,
        prepare: Callable[[Any], Any] | None = None,
        augment: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise DataError(
                f"the data set is empty or uneven: there are {len(inputs)} inputs and "
                f"{len(targets)} targets; give at least one example, and a target for each"
            )
        self.inputs, self.targets = inputs, targets
        self.prepare, self.augment = prepare, augment

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.inputs)

    def __getitem__(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the inputs and targets of a batch."""
        inputs, targets = self.inputs[batch.indices], self.targets[batch.indices]
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        if self.augment is not None:
            inputs = self.augment(inputs, torch.Generator().manual_seed(batch.seed))
        return inputs, targets


def make_loader(
    data: Any,
    batch_size: int,
    *,
    seed: int = 0,
    train: bool = True,
    prepare: Callable[[Any], Any] | None = None,
    augment: Callable[[Any, Any], Any] | None = None,
) -> Any:
    """Make a resumable loader over tensors or a map-style data set.

    Args:
        data: ``(inputs, targets)`` tensors, or a data set with a length whose items are pairs.
        batch_size: Examples in a batch, ≥ 1.
        seed: Seed of order and augmentation, ≥ 0.
        train: Whether to shuffle and augment.
        prepare: Applied to each batch of inputs of in-memory data.
        augment: Applied to each training batch of in-memory data.

    Raises:
        DataError: The data is empty, or neither of the two forms.
    """
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], torch.Tensor):
        held = InMemory(*data, prepare=prepare, augment=augment if train else None)
        sampler = EpochBatches(len(held), batch_size, seed=seed, shuffle=train)
        return _loader(held, sampler=sampler, batch_size=None)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, tuple):
        if prepare is not None or augment is not None:
            raise DataError(
                "prepare and augment are for in-memory tensors; do both in your data set's "
                "__getitem__"
            )
        sampler = EpochBatches(len(data), batch_size, seed=seed, shuffle=train)
        return _loader(data, batch_sampler=_Indices(sampler))
    remedy = "pass two tensors of equal length, or a map-style data set"
    if isinstance(data, tuple) and len(data) == 2 and hasattr(data[0], "__array__"):
        kind = type(data[0]).__name__
        raise DataError(
            f"data must be tensors or a data set, got a pair that begins with {kind}; make each a "
            "tensor, with torch.as_tensor(…)"
        )
    raise DataError(complaint("data", "(inputs, targets) or a data set", type(data), remedy))


def _loader(data: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        # torchdata calls a function that torch 2.13 deprecates; nothing a user could do about it.
        warnings.filterwarnings("ignore", message=".*set_vital.*")
        return StatefulDataLoader(data, **options)


class _Indices:
    """The same sampler for data sets that know nothing of batches: lists of indices."""

    def __init__(self, batches: EpochBatches) -> None:
        self._batches = batches
        self.batch_size = batches.batch_size
        self.state_dict = batches.state_dict
        self.load_state_dict = batches.load_state_dict

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> _IndexPass:
        return _IndexPass(iter(self._batches))


class _IndexPass(Iterator[list[int]]):
    def __init__(self, inner: Pass) -> None:
        self._inner = inner
        self.state_dict = inner.state_dict
        self.load_state_dict = inner.load_state_dict

    def __next__(self) -> list[int]:
        indices: list[int] = next(self._inner).indices.tolist()
        return indices
