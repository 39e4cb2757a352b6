"""The built-in tasks' data as tensors: images ``(n, channels, h, w)`` in bytes, labels in int64."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cyclr.errors import DataError
from cyclr.extras import require

_FASHION_HOME = Path("/usr/share/datasets/fashion-mnist")
_SPLITS = {"train": "train", "validation": "t10k"}
_VALIDATION_NAMES = ("test", "validation", "val", "valid")


class Images(NamedTuple):
    """Images in bytes and their labels."""

    images: torch.Tensor
    labels: torch.Tensor


def digits() -> tuple[Images, Images]:
    """Load scikit-learn's handwritten digits: 1,438 to train on and 359 to validate, 1×8×8.

    Every fifth example validates; the pixel values run from 0 to 16.
    """
    load = require("sklearn.datasets", caller="the digits task", extra="training").load_digits
    inputs, labels = load(return_X_y=True)
    images = torch.from_numpy(inputs.astype(np.uint8)).reshape(-1, 1, 8, 8)
    targets = torch.from_numpy(labels.astype(np.int64))
    held = torch.arange(len(images)) % 5 == 4
    return Images(images[~held], targets[~held]), Images(images[held], targets[held])


def fashion_mnist(folder: str | None = None) -> tuple[Images, Images]:
    """Load Fashion-MNIST from the four IDX files: 60,000 to train on, 10,000 to validate, 1×28×28.

    Args:
        folder: Where the files are, gzipped or not; by default where Debian's package
            dataset-fashion-mnist puts them.

    Raises:
        DataError: A file is missing, unreadable or not an IDX file.
    """
    home = _FASHION_HOME if folder is None else Path(folder)
    train, validation = (
        Images(
            torch.from_numpy(_idx(home, f"{prefix}-images-idx3-ubyte")).unsqueeze(1),
            torch.from_numpy(_idx(home, f"{prefix}-labels-idx1-ubyte").astype(np.int64)),
        )
        for prefix in _SPLITS.values()
    )
    return train, validation


def _idx(folder: Path, name: str) -> Any:
    """Read one file of LeCun's IDX format: a magic number, the sizes, then bytes."""
    try:
        if (folder / f"{name}.gz").is_file():
            raw = gzip.decompress((folder / f"{name}.gz").read_bytes())
        else:
            raw = (folder / name).read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot read {name}[.gz] in {folder}: {error}; install Debian's package "
            "dataset-fashion-mnist, or pass --data-dir with the folder of the four IDX files"
        ) from error
    dimensions = raw[3] if len(raw) > 4 and raw[:3] == b"\x00\x00\x08" else 0
    header = 4 + 4 * dimensions
    if len(raw) < header:
        dimensions = 0
    shape = np.frombuffer(raw[4:header], dtype=">u4") if dimensions else np.empty(0)
    if dimensions == 0 or len(raw) - header != int(np.prod(shape)):
        raise DataError(f"{folder / name} is not an IDX file of bytes, or is cut off; get it anew")
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(shape.astype(int)).copy()


def image_dataset(source: str, *, size: int) -> tuple[Images, Images]:
    """Load an image data set in the Hugging Face format.

    Args:
        source: A folder of parquet files named by split (``train*.parquet``, and ``test``,
            ``validation`` or ``val``), or the name of a data set on the hub.
        size: Height and width that the images must have.

    Raises:
        DataError: The folder cannot be read, holds no such files, or they hold no images of that
            size with labels.
    """
    train, held = load_splits(source)
    return _images(train, source, size), _images(held, source, size)


def load_splits(source: str) -> tuple[Any, Any]:
    """Open a data set in the Hugging Face format, without decoding anything.

    Args:
        source: A folder of parquet files named by split, or the name of a data set on the hub.

    Returns:
        The training split and the one held out.

    Raises:
        DataError: It cannot be read, or has no such splits.
    """
    datasets = require("datasets", caller="an image data set", extra="training")
    datasets.disable_progress_bars()
    splits = _load(datasets, source)
    held = next((name for name in _VALIDATION_NAMES if name in splits), None)
    if "train" not in splits or held is None:
        raise DataError(
            f"{source} must have the splits train and test (or validation), got {sorted(splits)}; "
            "name the files after the splits, such as train.parquet and test.parquet"
        )
    return splits["train"], splits[held]


def _load(datasets: Any, source: str) -> Any:
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists() or source.startswith((".", "/", "~")):
            raise DataError(f"{source} is not a readable folder; pass one with parquet files")
        try:
            return datasets.load_dataset(source)
        except Exception as error:
            raise DataError(
                f"cannot load {source!r}: no folder of that name, and the hub said: {error}; "
                "check the name, or pass --data-dir with a folder of parquet files"
            ) from error
    try:
        names = sorted(path.name for path in folder.iterdir() if path.suffix == ".parquet")
    except OSError as error:
        raise DataError(f"cannot read the folder {source}: {error.strerror}") from error
    files = {
        split: [str(folder / name) for name in names if name.startswith(split)]
        for split in ("train", *_VALIDATION_NAMES)
    }
    files = {split: paths for split, paths in files.items() if paths}
    if not files:
        raise DataError(f"{source} holds no train*.parquet; pass the folder that does")
    try:
        return datasets.load_dataset("parquet", data_files=files)
    except Exception as error:
        raise DataError(f"cannot read the parquet files in {source}: {error}") from error


def pictures(split: Any, source: str) -> tuple[Iterator[Any], torch.Tensor]:
    """Decode a split's images one by one.

    Args:
        split: A split of a Hugging Face data set.
        source: What to call the data set in an error.

    Returns:
        An iterator of Pillow images in RGB, and the labels.

    Raises:
        DataError: There is no image or no class label column, or an image cannot be decoded.
    """
    datasets = require("datasets", caller="an image data set", extra="training")
    open_image = require("PIL.Image", caller="an image data set", extra="training").open
    features = split.features
    image = next((n for n, f in features.items() if type(f).__name__ == "Image"), None)
    label = next((n for n, f in features.items() if type(f).__name__ == "ClassLabel"), None)
    if image is None or label is None:
        raise DataError(
            f"{source} must have an image and a class label column, got {sorted(features)}; "
            "use the Hugging Face image format"
        )

    def decode() -> Iterator[Any]:
        # Decoding here costs half of what the data set's own decoding does.
        for i, row in enumerate(split.cast_column(image, datasets.Image(decode=False))[image]):
            try:
                yield open_image(io.BytesIO(row["bytes"])).convert("RGB")
            except Exception as error:  # Pillow's decoders raise whatever they meet
                raise DataError(f"{source}: image {i} cannot be decoded: {error}") from error

    return decode(), torch.tensor(np.asarray(split[label], dtype=np.int64))


def _images(split: Any, source: str, size: int) -> Images:
    decoded, labels = pictures(split, source)
    pixels = np.empty((len(split), size, size, 3), dtype=np.uint8)
    for i, picture in enumerate(decoded):
        if picture.size != (size, size):
            raise DataError(f"{source}: image {i} is {picture.size}, expected {size}×{size}")
        pixels[i] = np.asarray(picture)
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels)
