"""The endless stream: where it is, and being put there again, for loaders of every kind."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler, TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from cyclr.errors import DataError
from cyclr.training import make_loader
from cyclr.training.distributed import Processes
from cyclr.training.randomness import random_state, set_random_state
from cyclr.training.stream import Stream

CPU = torch.device("cpu")
INPUTS, TARGETS = torch.arange(20.0).unsqueeze(1), torch.arange(20)
PAIRS = TensorDataset(INPUTS, TARGETS)


class Jittered(torch.utils.data.Dataset[Any]):
    """Draws from the global generators, as many a user's data set does."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = random.random() + float(np.random.rand()) + float(torch.rand(()))
        return INPUTS[index] + noise, TARGETS[index]


MAKERS: dict[str, Callable[[], Any]] = {
    "ours": lambda: make_loader(
        (INPUTS, TARGETS), 4, seed=3, augment=lambda x, g: x + torch.rand(x.shape, generator=g)
    ),
    "ours, map-style": lambda: make_loader(PAIRS, 4, seed=3),
    "torchdata": lambda: StatefulDataLoader(PAIRS, batch_size=4, shuffle=True),
    "torchdata, jittered": lambda: StatefulDataLoader(Jittered(), batch_size=4, shuffle=True),
    "torch": lambda: DataLoader(PAIRS, batch_size=4, shuffle=True),
    "torch, jittered": lambda: DataLoader(Jittered(), batch_size=4, shuffle=True),
    "torch, own generator": lambda: DataLoader(
        PAIRS, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(7)
    ),
    "torch, sampler's generator": lambda: DataLoader(
        PAIRS,
        batch_size=4,
        sampler=RandomSampler(PAIRS, generator=torch.Generator().manual_seed(7)),
    ),
    "list": lambda: list(zip(INPUTS.split(4), TARGETS.split(4), strict=True)),
}

pytestmark = pytest.mark.filterwarnings("ignore:.*set_vital.*:UserWarning")


def _seed() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def _take(stream: Stream, count: int) -> list[tuple[list[Any], list[int], float]]:
    taken = []
    for _ in range(count):
        inputs, targets, _ = next(stream)
        taken.append((inputs.tolist(), targets.tolist(), float(torch.rand(()))))  # as dropout does
    return taken


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("cut", [0, 1, 4, 5, 6, 10, 13])
def test_it_goes_on_where_it_was(kind: str, cut: int) -> None:
    _seed()
    whole = Stream(MAKERS[kind](), CPU, Processes())
    _take(whole, cut)
    position, generators = whole.state_dict(), random_state()
    rest = _take(whole, 12)

    _seed()  # torchdata's sampler draws its seed when it is made
    resumed = Stream(MAKERS[kind](), CPU, Processes())
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    resumed.load_state_dict(position)
    set_random_state(generators)
    assert _take(resumed, 12) == rest
    assert (resumed.epoch, resumed.taken) == (whole.epoch, whole.taken)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_loader_with_workers_goes_on_where_it_was(workers: int) -> None:
    def make() -> Any:
        return StatefulDataLoader(PAIRS, batch_size=4, shuffle=True, num_workers=workers)

    _seed()
    whole = Stream(make(), CPU, Processes())
    _take(whole, 7)
    position, generators = whole.state_dict(), random_state()
    rest = _take(whole, 6)
    resumed = Stream(make(), CPU, Processes())
    resumed.load_state_dict(position)
    set_random_state(generators)
    assert _take(resumed, 6) == rest


def test_epochs_and_batches_are_counted() -> None:
    stream = Stream(MAKERS["list"](), CPU, Processes())
    assert (stream.epoch, stream.taken) == (0, 0)
    _take(stream, 5)
    assert (stream.epoch, stream.taken) == (0, 5)
    _take(stream, 1)
    assert (stream.epoch, stream.taken) == (1, 1)


def test_inputs_are_prepared() -> None:
    stream = Stream(MAKERS["list"](), CPU, Processes(), prepare=lambda x: x + 100)
    assert next(stream)[0].flatten().tolist() == [100, 101, 102, 103]


@pytest.mark.parametrize("empty", [[], iter(())])
def test_no_batch_is_a_data_error(empty: Any) -> None:
    with pytest.raises(DataError, match="the training data is empty"):
        next(Stream(empty, CPU, Processes()))


def test_a_batch_of_another_form_is_a_data_error() -> None:
    with pytest.raises(DataError, match=r"batches must give \(inputs, targets\) pairs, got Tensor"):
        next(Stream([torch.zeros(3)], CPU, Processes()))


def test_data_that_has_become_shorter_is_told() -> None:
    stream = Stream(MAKERS["list"](), CPU, Processes())
    _take(stream, 4)
    with pytest.raises(DataError, match="after 4 batches of an epoch, and the data now has 2"):
        Stream(MAKERS["list"]()[:2], CPU, Processes()).load_state_dict(stream.state_dict())


def test_another_kind_of_loader_is_told() -> None:
    stream = Stream(MAKERS["ours"](), CPU, Processes())
    _take(stream, 2)
    state = {**stream.state_dict(), "loader": None}
    with pytest.raises(DataError, match="a loader that keeps its own position, and this one"):
        Stream(MAKERS["list"](), CPU, Processes()).load_state_dict(state)


def test_the_generators_state_survives_a_file(tmp_path: Any) -> None:
    _seed()
    np.random.standard_normal()  # leaves a second value in store
    torch.save(random_state(), tmp_path / "state.pt")
    drawn = (random.random(), float(np.random.standard_normal()), float(torch.rand(())))
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert drawn == (random.random(), float(np.random.standard_normal()), float(torch.rand(())))


def test_a_loader_whose_order_comes_from_elsewhere_is_refused() -> None:
    data = TensorDataset(torch.zeros(12, 2), torch.zeros(12))
    ours = DataLoader(data, 2, shuffle=True, generator=torch.Generator())
    stream = Stream(ours, CPU, Processes())
    _take(stream, 2)
    other = Stream(DataLoader(data, 2, shuffle=True), CPU, Processes())
    with pytest.raises(DataError, match="from 1 generators of its own, and this one has 0"):
        other.load_state_dict(stream.state_dict())
