"""What several processes share and agree on; a single process agrees with itself at no cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import nn

from cyclr.errors import DataError


class Share(NamedTuple):
    """A process's part of a batch.

    Attributes:
        batch: The part.
        weight: What to multiply its mean loss by, so that the mean over the processes is the mean
            over the whole batch's examples.
    """

    batch: Any
    weight: float


def on_cpus() -> bool:
    """Whether several processes were started that have nothing but CPUs; Accelerate must be told.

    Left to itself, it would take each of them for one that is alone.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and not torch.accelerator.is_available()


def together() -> Processes:
    """Give the processes that torchrun or ``accelerate launch`` started; mostly this one alone."""
    return Processes(PartialState(cpu=on_cpus()))


class Processes:
    """The processes of one training, as torchrun or ``accelerate launch`` started them.

    Every method that speaks of all processes is to be called by all of them.

    Args:
        accelerator: Accelerate's; None for a single process.
        split_batches: Whether every process is given the whole batch and takes its part. Otherwise
            each is given batches of its own.
    """

    def __init__(self, accelerator: Any = None, *, split_batches: bool = True) -> None:
        self.count: int = 1 if accelerator is None else accelerator.num_processes
        self.index: int = 0 if accelerator is None else accelerator.process_index
        self._device = torch.device("cpu") if accelerator is None else accelerator.device
        self._split = split_batches
        self._compared = False

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.index == 0

    def share(self, pair: Any) -> Share:
        """Take this process's part of a training batch of ``(inputs, targets)``.

        Raises:
            DataError: The batch has fewer examples than there are processes, or the processes
                were given different batches.
        """
        if self.count == 1 or not self._split:
            return Share(pair, 1.0)
        if not self._compared:
            self._compare(pair)
        size = _size(pair)
        if size < self.count:
            raise DataError(
                f"a batch of {size} examples cannot be shared among {self.count} processes; make "
                "the batches larger, or start fewer processes"
            )
        first, end = self._range(size)
        return Share(_cut(pair, slice(first, end)), (end - first) * self.count / size)

    def share_for_evaluation(self, pair: Any) -> tuple[Any, int]:
        """Take this process's part of a batch, and say how many of its examples count.

        A process for which nothing is left evaluates one example that does not count: all make the
        same number of calls, which sharded models rely on.
        """
        size = _size(pair)
        if self.count == 1 or not self._split:
            return pair, size
        first, end = self._range(size)
        part = slice(first, end) if end > first else slice(0, 1)
        return _cut(pair, part), end - first

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average a tensor over all processes."""
        return self._reduce(values, dist.ReduceOp.SUM) / self.count if self.count > 1 else values

    def total(self, values: Sequence[float]) -> list[float]:
        """Add numbers up over all processes."""
        if self.count == 1:
            return list(values)
        sums: list[float] = self._reduce(self._tensor(values), dist.ReduceOp.SUM).tolist()
        return sums

    def largest(self, *values: float) -> list[float]:
        """Give the largest of each number over all processes, the same on all of them."""
        if self.count == 1:
            return list(values)
        found: list[float] = self._reduce(self._tensor(values), dist.ReduceOp.MAX).tolist()
        return found

    def average_gradients(self, model: nn.Module) -> None:
        """Average the gradients of a model that is not wrapped for several processes."""
        if self.count == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
        parts: Sequence[torch.Tensor] = torch.split(flat, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def align_buffers(self, model: nn.Module) -> None:
        """Give all processes the buffers of the first, such as BatchNorm's statistics."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def gather(self, value: Any) -> list[Any]:
        """Collect a plain value from every process, in their order."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = gather_object([value])
        return gathered

    def first_says(self, value: Any) -> Any:
        """Give all processes the first one's value."""
        if self.count == 1:
            return value
        box = [value]
        broadcast_object_list(box)
        return box[0]

    def _range(self, size: int) -> tuple[int, int]:
        return self.index * size // self.count, (self.index + 1) * size // self.count

    def _tensor(self, values: Sequence[float]) -> torch.Tensor:
        # Not every device has double precision.
        wide = torch.float64 if self._device.type in ("cpu", "cuda") else torch.float32
        return torch.tensor(values, dtype=wide, device=self._device)

    def _reduce(self, values: torch.Tensor, operation: Any) -> torch.Tensor:
        values = values.clone()
        dist.all_reduce(values, operation)
        return values

    def _compare(self, pair: Any) -> None:
        """Make sure once that all were given the same batch, and do not train on a mix."""
        self._compared = True
        _, targets = pair
        seen = _first_tensor(targets).double().flatten()
        at = torch.arange(1, len(seen) + 1, dtype=torch.float64, device=seen.device)
        marks = self.gather([len(seen), float((seen * at).sum())])
        if any(mark != marks[0] for mark in marks):
            raise DataError(
                "the processes were given different batches, and each was to take its part of the "
                "same one; seed all processes alike, or pass split_batches=False if each loads "
                "batches of its own"
            )


def _size(pair: Any) -> int:
    _, targets = pair
    return len(_first_tensor(targets))


def _first_tensor(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value if value.dim() else value.unsqueeze(0)
    entries = value.values() if isinstance(value, Mapping) else value
    return _first_tensor(next(iter(entries)))


def _cut(value: Any, part: slice) -> Any:
    """Cut tensors, however nested in mappings, tuples and lists, along their first axis."""
    if isinstance(value, torch.Tensor):
        return value[part] if value.dim() else value
    if isinstance(value, Mapping):
        return {key: _cut(entry, part) for key, entry in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_cut(entry, part) for entry in value))
    if isinstance(value, tuple | list):
        return type(value)(_cut(entry, part) for entry in value)
    return value
