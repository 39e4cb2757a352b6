"""Batches: an order that is a function of (seed, epoch), whole batches, exact resumption."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cyclr.errors import DataError, SpecError
from cyclr.training.data import Batch, EpochBatches, InMemory, make_loader

SIZES = st.integers(1, 60)
SEEDS = st.integers(0, 2**63)


def _epoch(batches: EpochBatches) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches]


def _flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


class Squares(torch.utils.data.Dataset[Any]):
    """A map-style data set that knows nothing of batches."""

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor([float(index), float(index**2)]), index


def _loaders(**options: Any) -> list[Any]:
    inputs = torch.arange(23.0).unsqueeze(1)

    def jitter(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return batch + torch.rand(batch.shape, generator=generator)

    return [
        make_loader((inputs, torch.arange(23)), 4, augment=jitter, **options),
        make_loader(Squares(), 4, **options),
    ]


def _pass(loader: Any) -> list[tuple[list[Any], list[int]]]:
    return [(inputs.tolist(), targets.tolist()) for inputs, targets in loader]


@given(size=SIZES, batch_size=SIZES, seed=SEEDS)
def test_an_epoch_is_whole_batches_of_a_permutation(size: int, batch_size: int, seed: int) -> None:
    batches = EpochBatches(size, batch_size, seed=seed)
    for _ in range(3):
        epoch = _epoch(batches)
        assert len(epoch) == len(batches) == max(1, size // batch_size)
        assert {len(batch) for batch in epoch} == {min(size, batch_size)}
        seen = _flat(epoch)
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(size))
        if size % batch_size == 0:
            assert sorted(seen) == list(range(size))


@given(size=SIZES, batch_size=SIZES)
def test_without_shuffling_the_order_is_the_datas_and_complete(size: int, batch_size: int) -> None:
    batches = EpochBatches(size, batch_size, shuffle=False)
    epoch = _epoch(batches)
    assert len(epoch) == len(batches)
    assert _flat(epoch) == list(range(size))
    assert _epoch(batches) == epoch


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    one, two, other = (EpochBatches(40, 8, seed=seed) for seed in (3, 3, 4))
    torch.manual_seed(1)
    first = [_epoch(one) for _ in range(3)]
    torch.manual_seed(2)
    assert [_epoch(two) for _ in range(3)] == first
    assert first[0] != first[1] != first[2]
    assert _epoch(other) != first[0]


def test_every_batch_has_a_seed_of_its_own() -> None:
    batches = EpochBatches(40, 8, seed=3)
    seeds = [batch.seed for _ in range(3) for batch in batches]
    assert len(set(seeds)) == len(seeds) == 15
    torch.Generator().manual_seed(max(seeds))  # fits


@given(size=SIZES, batch_size=st.integers(1, 7), seed=SEEDS, data=st.data())
def test_a_pass_can_begin_anywhere_and_goes_on_as_if_never_cut(
    size: int, batch_size: int, seed: int, data: st.DataObject
) -> None:
    whole = EpochBatches(size, batch_size, seed=seed)
    epoch = data.draw(st.integers(0, 3))
    for _ in range(epoch):
        _epoch(whole)
    assert whole.state_dict() == {"epoch": epoch, "next": 0}
    cut = data.draw(st.integers(0, len(whole) - 1))
    rest = [(batch.indices.tolist(), batch.seed) for batch in whole][cut:]

    resumed = EpochBatches(size, batch_size, seed=seed)
    resumed.load_state_dict({"epoch": epoch, "next": cut})
    assert [(batch.indices.tolist(), batch.seed) for batch in resumed] == rest
    assert _epoch(resumed) == _epoch(whole)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", [0, 1], ids=["tensors", "map-style"])
@pytest.mark.parametrize("cut", [1, 3])
def test_a_loader_resumes_in_the_middle_of_an_epoch(form: int, cut: int, train: bool) -> None:
    loader = _loaders(seed=5, train=train)[form]
    _pass(loader)
    stream = iter(loader)
    for _ in range(cut):
        next(stream)
    state = loader.state_dict()
    rest = [(inputs.tolist(), targets.tolist()) for inputs, targets in stream]
    assert len(rest) == len(loader) - cut
    following = _pass(loader)

    resumed = _loaders(seed=5, train=train)[form]
    resumed.load_state_dict(state)
    assert _pass(resumed) == rest
    assert _pass(resumed) == following


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", [0, 1], ids=["tensors", "map-style"])
def test_looking_at_the_first_batch_takes_nothing_from_the_next_pass(
    form: int, train: bool
) -> None:
    loader = _loaders(seed=5, train=train)[form]
    next(iter(loader))
    seen = [target for _, targets in _pass(loader) for target in targets]
    assert len(seen) == (20 if train else 23)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("form", [0, 1], ids=["tensors", "map-style"])
def test_training_drops_the_partial_batch_and_evaluation_keeps_it(form: int) -> None:
    train = _loaders(seed=5)[form]
    assert [len(targets) for _, targets in _pass(train)] == [4] * 5
    assert len(train) == 5
    held = _loaders(seed=5, train=False)[form]
    assert [len(targets) for _, targets in _pass(held)] == [4] * 5 + [3]
    assert [t for _, targets in _pass(held) for t in targets] == list(range(23))
    assert len(held) == 6


def test_both_forms_give_the_same_order() -> None:
    tensors, mapped = _loaders(seed=5)
    for _ in range(2):
        assert [t for _, t in _pass(tensors)] == [t for _, t in _pass(mapped)]


def test_a_batch_smaller_than_the_batch_size_is_kept_when_it_is_the_only_one() -> None:
    loader = make_loader((torch.zeros(3, 2), torch.arange(3)), 8)
    assert [sorted(targets.tolist()) for _, targets in loader] == [[0, 1, 2]]


def test_inputs_go_with_their_targets_and_are_prepared_then_augmented() -> None:
    inputs = torch.arange(10)
    held = InMemory(
        inputs,
        inputs * 10,
        prepare=lambda batch: batch.float() / 2,
        augment=lambda batch, generator: batch + torch.rand(len(batch), generator=generator),
    )
    batch = Batch(torch.tensor([7, 2]), seed=9)
    given_inputs, targets = held[batch]
    noise = torch.rand(2, generator=torch.Generator().manual_seed(9))
    assert targets.tolist() == [70, 20]
    assert torch.equal(given_inputs, torch.tensor([3.5, 1.0]) + noise)
    assert torch.equal(held[batch][0], given_inputs)


def test_evaluation_is_prepared_and_not_augmented() -> None:
    data = (torch.arange(6), torch.arange(6))
    loader = make_loader(
        data, 4, train=False, prepare=lambda x: x.float() + 1, augment=lambda x, _: x * 0 - 99
    )
    assert [inputs.tolist() for inputs, _ in loader] == [[1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize(
    "data", [(torch.zeros(0, 2), torch.zeros(0)), (torch.zeros(3), torch.zeros(4)), []]
)
def test_empty_or_uneven_data_is_refused(data: Any) -> None:
    with pytest.raises(DataError, match=r"empty|empty or uneven"):
        make_loader(data, 4)


@pytest.mark.parametrize("data", [7, (torch.zeros(3),), iter([1]), ([1, 2], [3, 4])])
def test_data_of_another_form_is_refused_with_the_two_forms(data: Any) -> None:
    with pytest.raises(DataError, match="pass two tensors of equal length, or a map-style"):
        make_loader(data, 4)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, "4"])
def test_a_batch_size_that_is_none_is_refused(batch_size: Any) -> None:
    with pytest.raises(SpecError, match="batch_size must be an int ≥ 1"):
        EpochBatches(10, batch_size)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SpecError, match="seed must be an int ≥ 0, got -1"):
        EpochBatches(10, 2, seed=-1)
