"""Training batches without end, which can say where they are and be put there again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from cyclr.errors import DataError
from cyclr.integrations.torch.batches import pair, to_device
from cyclr.training.distributed import Processes
from cyclr.training.randomness import random_state, set_random_state

_FORM = "make the loader give pairs"
_END = object()


Mark = tuple[int, int, dict[str, Any] | None]  # epoch, batches taken, generators at its start


class Stream(Iterator[tuple[Any, Any, float]]):
    """Goes round and round the training data; gives ``(inputs, targets, weight)`` on the device.

    A loader with ``state_dict`` and ``load_state_dict`` (such as torchdata's StatefulDataLoader)
    is asked for its position. Any other re-iterable is begun again with the random generators as
    they were when the pass began, and read up to where it was.

    Args:
        batches: A re-iterable of ``(inputs, targets)``.
        device: Where batches are moved to.
        processes: Who shares the batches.
        prepare: Applied to each batch's inputs on the device, such as a change of memory format.
    """

    def __init__(
        self,
        batches: Any,
        device: torch.device,
        processes: Processes,
        prepare: Callable[[Any], Any] | None = None,
    ) -> None:
        self._batches, self._device, self._processes = batches, device, processes
        self._prepare = prepare
        self._stateful = hasattr(batches, "state_dict") and hasattr(batches, "load_state_dict")
        self._iterator: Iterator[Any] | None = None
        self._begun: dict[str, Any] | None = None  # the generators at the start of this pass
        self.epoch, self.taken = 0, 0

    def __next__(self) -> tuple[Any, Any, float]:
        """Give the next batch, or this process's part of it.

        Raises:
            DataError: There is no batch, or it is not a pair.
        """
        batch = next(self._iterator, _END) if self._iterator is not None else _END
        if batch is _END:
            batch = self._next_pass()
        self.taken += 1
        part, weight = self._processes.share(pair(batch, remedy=_FORM))
        inputs, targets = to_device(part, self._device)
        return (inputs if self._prepare is None else self._prepare(inputs)), targets, weight

    def _next_pass(self) -> Any:
        if self._iterator is not None:
            self.epoch, self.taken = self.epoch + 1, 0
        if not self._stateful:
            self._begun = {
                "random": random_state(),
                "own": self._own_generators(),
                "running": getattr(self._batches, "_iterator", None) is not None,
            }
        self._iterator = iter(self._batches)
        batch = next(self._iterator, _END)
        if batch is _END:
            raise DataError("the training data is empty: there is not a single batch")
        return batch

    def mark(self) -> Mark:
        """Note which batch comes next, for :meth:`back_to`."""
        return self.epoch, self.taken, self._begun

    def back_to(self, mark: Mark) -> None:
        """Say that the batches given since a mark were not used, when no more are to come.

        A loader with a position of its own has gone on, and must not have given any.

        Raises:
            RuntimeError: It has.
        """
        if self._stateful and mark[:2] != (self.epoch, self.taken):
            raise RuntimeError(
                "the loader's workers ended in the middle of an update; go on from the last "
                "checkpoint with resume=True"
            )
        self.epoch, self.taken, self._begun = mark

    def state_dict(self) -> dict[str, Any]:
        """Say which batch comes next."""
        begun = self._iterator is not None
        return {
            "epoch": self.epoch,
            "taken": self.taken,
            "loader": self._batches.state_dict() if self._stateful and begun else None,
            "begun": self._begun,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a saved position. Draws random numbers: put the generators back afterwards.

        Raises:
            DataError: The data has become shorter than the position, or its order comes from
                elsewhere.
        """
        self.epoch, self.taken = state["epoch"], state["taken"]
        self._begun = state["begun"]
        if self.taken == 0:
            return  # nothing had been drawn yet
        if state["loader"] is not None:
            self._batches.load_state_dict(state["loader"])
            self._iterator = iter(self._batches)
            return
        if self._begun is None:
            raise DataError(
                "the run was trained with a loader that keeps its own position, and this one does "
                "not; pass the same kind of loader"
            )
        if self._begun.get("running"):
            # Persistent workers were running already, and their first start draws a number.
            iter(self._batches)
        set_random_state(self._begun["random"])
        generators, states = self._generators(), self._begun["own"]
        if len(generators) != len(states):
            raise DataError(
                f"the run's loader drew its order from {len(states)} generators of its own, and "
                f"this one has {len(generators)}; pass a loader made as that was, with generator="
            )
        for generator, saved in zip(generators, states, strict=True):
            generator.set_state(saved)
        self._iterator = iter(self._batches)
        for number in range(self.taken):
            if next(self._iterator, _END) is _END:
                raise DataError(
                    f"the run stopped after {self.taken} batches of an epoch, and the data now has "
                    f"{number}; resume with the data it was trained on"
                )

    def _own_generators(self) -> list[torch.Tensor]:
        return [generator.get_state() for generator in self._generators()]

    def _generators(self) -> list[torch.Generator]:
        """List the generators that a torch loader draws its order from, each once."""
        batch_sampler = getattr(self._batches, "batch_sampler", None)
        owners = [self._batches, getattr(self._batches, "sampler", None)]
        # Last, so that the order is the one that earlier checkpoints have.
        owners += [getattr(batch_sampler, "sampler", None), batch_sampler]
        found = [getattr(owner, "generator", None) for owner in owners]
        unique = {id(g): g for g in found if isinstance(g, torch.Generator)}
        return list(unique.values())
