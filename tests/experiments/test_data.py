"""Data: the embedded digits, IDX files and parquet folders, good and damaged."""

import gzip
import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cyclr.errors import DataError, MissingExtraError
from cyclr.experiments import data

REPOSITORY = Path(__file__).parents[2]
CIFAR10 = REPOSITORY.parent / "shared" / "data" / "cifar10"


# Digits


def test_digits_are_split_by_fifths() -> None:
    (train, labels), (held, held_labels) = data.digits()
    assert train.shape == (1438, 1, 8, 8)
    assert held.shape == (359, 1, 8, 8)
    assert train.dtype == held.dtype == torch.uint8
    assert labels.dtype == held_labels.dtype == torch.int64
    assert (int(train.min()), int(train.max())) == (0, 16)
    assert labels.bincount().min() > 100
    # scikit-learn's examples begin 0, 1, 2, …, 9; the fifth of every five is held out.
    assert labels[:8].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert held_labels[:2].tolist() == [4, 9]


def test_digits_without_scikit_learn_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"digits task needs sklearn.*'cyclr\[training\]'"):
        data.digits()


# IDX files


def _idx_bytes(array: np.ndarray[Any, Any]) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _write_idx(folder: Path, *, zipped: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, n in (("train", 6), ("t10k", 3)):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 4, 5), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = rng.integers(0, 10, n, dtype=np.uint8)
    for name, array in arrays.items():
        raw = _idx_bytes(array)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)
    return arrays


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read(tmp_path: Path, zipped: bool) -> None:
    arrays = _write_idx(tmp_path, zipped=zipped)
    splits = data.fashion_mnist(str(tmp_path))
    for (images, labels), prefix in zip(splits, ("train", "t10k"), strict=True):
        expected = arrays[f"{prefix}-images-idx3-ubyte"]
        assert images.shape == (len(expected), 1, 4, 5)
        assert images.dtype == torch.uint8
        assert np.array_equal(images[:, 0].numpy(), expected)
        assert labels.dtype == torch.int64
        assert labels.tolist() == arrays[f"{prefix}-labels-idx1-ubyte"].tolist()
        images[0] = 7  # writable


NAME = "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"x",
        lambda raw: raw[:6],  # within the sizes
        lambda raw: raw[:3],
        lambda raw: b"",
        lambda raw: b"\x00\x00\x0d" + raw[3:],  # floats, not bytes
        lambda raw: b"hello, this is text",
    ],
    ids=["cut", "too long", "cut in the header", "cut in the magic", "empty", "floats", "text"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_idx_file_is_named(
    tmp_path: Path, damage: Callable[[bytes], bytes], zipped: bool
) -> None:
    arrays = _write_idx(tmp_path, zipped=zipped)
    raw = damage(_idx_bytes(arrays[NAME]))
    path = tmp_path / (f"{NAME}.gz" if zipped else NAME)
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(DataError, match=f"{NAME}.* is not an IDX file of bytes, or is cut off"):
        data.fashion_mnist(str(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-9],
        lambda packed: packed[:12] + bytes([packed[12] ^ 0xFF]) + packed[13:],
        lambda packed: b"not gzip at all",
    ],
    ids=["cut", "flipped", "not gzip"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    _write_idx(tmp_path, zipped=True)
    path = tmp_path / f"{NAME}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"{NAME}"):
        data.fashion_mnist(str(tmp_path))


def test_a_missing_idx_file_names_folder_and_remedies(tmp_path: Path) -> None:
    _write_idx(tmp_path)
    (tmp_path / NAME).unlink()
    with pytest.raises(DataError) as caught:
        data.fashion_mnist(str(tmp_path))
    message = str(caught.value)
    assert message.startswith(f"cannot read {NAME}[.gz] in {tmp_path}: ")
    assert message.endswith(
        "install Debian's package dataset-fashion-mnist, or pass --data-dir with the folder of "
        "the four IDX files"
    )


@pytest.mark.parametrize("below", ["none", "file"])
def test_an_idx_folder_that_is_none_is_a_data_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot read train-images-idx3-ubyte"):
        data.fashion_mnist(str(tmp_path / below))


# Parquet folders


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The datasets library, with its cache in the test's own folder."""
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return module


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _table(datasets: Any, encoded: list[bytes], labels: list[int]) -> Any:
    return datasets.Dataset.from_dict(
        {"img": [{"bytes": b, "path": None} for b in encoded], "label": labels},
        features=datasets.Features(
            {"img": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
        ),
    )


def _pixels(n: int, *, size: int = 4, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def _write_parquet(
    datasets: Any, folder: Path, names: tuple[str, ...], **options: Any
) -> list[np.ndarray[Any, Any]]:
    folder.mkdir()
    written = []
    for seed, name in enumerate(names):
        pixels = _pixels(5 - seed, seed=seed, **options)
        table = _table(datasets, list(map(_png, pixels)), [i % 3 for i in range(len(pixels))])
        table.to_parquet(str(folder / name))
        written.append(pixels)
    return written


@pytest.mark.parametrize("held", ["test", "validation", "val"])
def test_a_folder_of_parquet_is_read(tmp_path: Path, datasets: Any, held: str) -> None:
    folder = tmp_path / "images"
    written = _write_parquet(datasets, folder, ("train.parquet", f"{held}.parquet"))
    splits = data.image_dataset(str(folder), size=4)
    for (images, labels), pixels in zip(splits, written, strict=True):
        assert images.dtype == torch.uint8
        assert images.is_contiguous()
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), pixels)
        assert labels.tolist() == [i % 3 for i in range(len(pixels))]


def test_several_files_of_a_split_are_joined_in_order(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "images"
    names = ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet")
    written = _write_parquet(datasets, folder, names)
    (images, _), (held, _) = data.image_dataset(str(folder), size=4)
    joined = np.concatenate(written[:2])
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), joined)
    assert len(held) == 3


def test_grey_images_become_three_channels(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    grey = _pixels(2)[..., 0]
    for name in ("train", "test"):
        table = _table(datasets, list(map(_png, grey)), [0, 1])
        table.to_parquet(str(folder / f"{name}.parquet"))
    (images, _), _ = data.image_dataset(str(folder), size=4)
    assert all(np.array_equal(images[:, c].numpy(), grey) for c in range(3))


def test_images_of_another_size_are_refused(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "images"
    _write_parquet(datasets, folder, ("train.parquet", "test.parquet"), size=6)
    with pytest.raises(DataError) as caught:
        data.image_dataset(str(folder), size=4)
    assert str(caught.value) == f"{folder}: image 0 is (6, 6), expected 4×4"


@pytest.mark.parametrize(
    "encoded", [b"not a picture", _png(_pixels(1)[0])[:50]], ids=["text", "cut"]
)
def test_an_image_that_cannot_be_decoded_is_named(
    tmp_path: Path, datasets: Any, encoded: bytes
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    good = _png(_pixels(1)[0])
    _table(datasets, [good, encoded], [0, 1]).to_parquet(str(folder / "train.parquet"))
    _table(datasets, [good], [0]).to_parquet(str(folder / "test.parquet"))
    with pytest.raises(DataError, match="image 1"):
        data.image_dataset(str(folder), size=4)


def test_a_missing_split_is_named(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "images"
    _write_parquet(datasets, folder, ("train.parquet",))
    with pytest.raises(DataError, match=r"must have the splits train and test .*got \['train'\]"):
        data.image_dataset(str(folder), size=4)


def test_a_table_without_images_is_refused(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("train", "test"):
        table = datasets.Dataset.from_dict({"x": [1, 2], "y": [3, 4]})
        table.to_parquet(str(folder / f"{name}.parquet"))
    with pytest.raises(DataError, match=r"an image and a class label column, got \['x', 'y'\]"):
        data.image_dataset(str(folder), size=4)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, datasets: Any) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("train", "test"):
        (folder / f"{name}.parquet").write_bytes(b"this is not parquet")
    with pytest.raises(DataError) as caught:
        data.image_dataset(str(folder), size=4)
    assert str(caught.value).startswith(f"cannot read the parquet files in {folder}: ")


def test_a_folder_without_parquet_is_refused(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError) as caught:
        data.image_dataset(str(tmp_path), size=4)
    assert str(caught.value) == f"{tmp_path} holds no train*.parquet; pass the folder that does"


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, datasets: Any) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "none"):
        with pytest.raises(DataError, match=f"{name} is not a readable folder; pass one with parq"):
            data.image_dataset(str(tmp_path / name), size=4)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, datasets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:  # modes do not stop root, so chmod would not do in a container
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError) as caught:
        data.image_dataset(str(tmp_path), size=4)
    assert str(caught.value) == f"cannot read the folder {tmp_path}: Permission denied"


def test_without_the_datasets_library_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        MissingExtraError, match=r"an image data set needs datasets.*'cyclr\[training\]"
    ):
        data.image_dataset(str(tmp_path), size=4)


@pytest.mark.slow
def test_cifar10_is_whole(datasets: Any) -> None:
    if not CIFAR10.is_dir():
        pytest.skip("the folder ../shared/data/cifar10 beside the repository does not exist")
    (train, labels), (held, held_labels) = data.image_dataset(str(CIFAR10), size=32)
    assert train.shape == (50_000, 3, 32, 32)
    assert held.shape == (10_000, 3, 32, 32)
    assert labels.bincount().tolist() == [5000] * 10
    assert held_labels.bincount().tolist() == [1000] * 10
    means = [train[:, c].double().mean().item() for c in range(3)]
    assert means == pytest.approx([125.3, 123.0, 113.9], abs=0.1)
