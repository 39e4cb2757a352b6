"""Images in memory: decoded once, scaled, cut, and recognised."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from cyclr.errors import DataError, InputError
from cyclr.experiments import images
from cyclr.experiments.images import load_data


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _pictures(folder: Path, name: str, sizes: list[tuple[int, int]]) -> Path:
    """Two splits of pictures, of one colour each: picture i is (10 i, 20, 30)."""
    (folder / name).mkdir()
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    )
    rows = {
        "img": [Image.new("RGB", size, (10 * i, 20, 30)) for i, size in enumerate(sizes)],
        "label": [i % 2 for i in range(len(sizes))],
    }
    for split in ("train", "test"):
        data = datasets.Dataset.from_dict(rows, features=features)
        data.to_parquet(str(folder / name / f"{split}.parquet"))
    return folder


def test_a_data_set_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _pictures(tmp_path, "cifar10", [(32, 32)] * 4)
    first = load_data({"name": "cifar10"}, home)
    assert first.train.images.shape == (4, 3, 32, 32)
    assert first.train.images.dtype == torch.uint8
    assert first.train.images.is_contiguous(memory_format=torch.channels_last)
    assert first.train.images[3, :, 0, 0].tolist() == [30, 20, 30]
    assert first.train.labels.tolist() == [0, 1, 0, 1]

    def fail(*_: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr("cyclr.experiments.images.load_splits", fail)
    again = load_data({"name": "cifar10"}, home)
    assert torch.equal(again.train.images, first.train.images)
    assert again.fingerprint == first.fingerprint


def test_processes_that_decode_at_once_share_what_was_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _pictures(tmp_path, "cifar10", [(32, 32)] * 4)
    published = images._publish
    others: list[str] = []

    def second(partial: Path, folder: Path) -> None:
        # While this process decoded, another one did all of it.
        monkeypatch.setattr(images, "_publish", published)
        others.append(load_data({"name": "cifar10"}, home).fingerprint)
        published(partial, folder)

    monkeypatch.setattr(images, "_publish", second)
    data = load_data({"name": "cifar10"}, home)
    assert others == [data.fingerprint]
    (cache,) = (tmp_path / "cache" / "cyclr" / "images").iterdir()
    assert sorted(path.name for path in cache.iterdir()) == ["test", "train"]


def test_what_cannot_be_decoded_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = _pictures(tmp_path, "cifar10", [(32, 32)] * 4)

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(images, "_publish", full)
    with pytest.raises(OSError, match="no space left"):
        load_data({"name": "cifar10"}, home)
    (cache,) = (tmp_path / "cache" / "cyclr" / "images").iterdir()
    assert list(cache.iterdir()) == []


def test_changed_files_are_decoded_anew(tmp_path: Path) -> None:
    home = _pictures(tmp_path, "cifar10", [(32, 32)] * 4)
    before = load_data({"name": "cifar10"}, home)
    for path in (home / "cifar10").iterdir():
        path.unlink()
    (home / "cifar10").rmdir()
    _pictures(tmp_path, "cifar10", [(32, 32)] * 5)
    after = load_data({"name": "cifar10"}, home)
    assert len(after.train.labels) == 5
    assert after.fingerprint != before.fingerprint


def test_writing_to_images_leaves_the_cache_alone(tmp_path: Path) -> None:
    home = _pictures(tmp_path, "cifar10", [(32, 32)] * 2)
    load_data({"name": "cifar10"}, home).train.images.fill_(7)
    assert load_data({"name": "cifar10"}, home).train.images[1, 0, 0, 0] == 10


def test_photographs_are_brought_to_size(tmp_path: Path) -> None:
    home = _pictures(tmp_path, "imagenet", [(300, 400), (224, 224), (100, 60)])
    images = load_data({"name": "imagenet"}, home).train.images
    assert images.shape == (3, 3, 224, 224)
    assert images[2].amin((1, 2)).tolist() == images[2].amax((1, 2)).tolist() == [20, 20, 30]


def test_the_middle_of_a_photograph_is_kept() -> None:
    from cyclr.experiments.images import _fitted

    wide = np.zeros((256, 512, 3), dtype=np.uint8)
    wide[:, 256:] = 200
    kept = np.asarray(_fitted(Image.fromarray(wide), 224))
    assert kept.shape == (224, 224, 3)
    assert (kept[:, :110].max(), kept[:, 114:].min()) == (0, 200)


def test_scaling_takes_means() -> None:
    whole = load_data({"name": "synthetic", "size": 8}).train.images.float()
    half = load_data({"name": "digits", "size": 4})
    assert half.train.images.shape == (1438, 1, 4, 4)
    digits = load_data({"name": "digits"}).train.images.float()
    means = digits.view(-1, 1, 4, 2, 4, 2).mean((3, 5)).round()
    assert torch.equal(half.train.images.float(), means)
    assert whole.shape == (400, 3, 8, 8)


def test_the_first_images_are_kept() -> None:
    whole, part = load_data({"name": "digits"}), load_data({"name": "digits", "train": 10})
    assert torch.equal(part.train.images, whole.train.images[:10])
    assert len(part.test.labels) == len(whole.test.labels)
    assert part.fingerprint != whole.fingerprint


def test_synthetic_images_can_be_learned_and_are_always_the_same() -> None:
    settings = {"name": "synthetic", "size": 8, "channels": 1, "classes": 4, "train": 40}
    data = load_data(settings)
    assert data.train.images.shape == (40, 1, 8, 8)
    assert set(data.train.labels.tolist()) <= {0, 1, 2, 3}
    assert load_data(settings).fingerprint == data.fingerprint
    means = [data.train.images[data.train.labels == k].float().mean(0) for k in range(4)]
    distance = [[float((x.float() - m).abs().sum()) for m in means] for x in data.test.images]
    right = torch.tensor(distance).argmin(1) == data.test.labels
    assert float(right.float().mean()) > 0.9


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"name": "svhn"}, InputError, "data.name must be one of cifar10, digits, "),
        ({"name": "digits", "crop": 4}, InputError, r"data\.crop is not a setting"),
        ({"name": "digits", "train": 10_000}, DataError, "data.train is 10000, and digits has"),
        ({"name": "cifar10"}, DataError, "there is no folder /nowhere/cifar10; pass --data-dir"),
    ],
)
def test_what_is_no_data_is_refused(
    settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        load_data(settings, "/nowhere")
