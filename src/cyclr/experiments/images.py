"""The experiments' images: whole sets as bytes, decoded once to disk and mapped into memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cyclr.errors import DataError, InputError, complaint
from cyclr.experiments.data import Images, digits, fashion_mnist, load_splits, pictures
from cyclr.experiments.store import cache_home

# Name on the hub, and the height and width that images are brought to.
_SETS = {
    "cifar10": ("uoft-cs/cifar10", 32),
    "imagenet": ("ILSVRC/imagenet-1k", 224),
    "tiny-imagenet-100": ("zh-plus/tiny-imagenet", 64),
}
_BUILT_IN = ("digits", "fashion-mnist", "synthetic")
_KEYS = {"name", "size", "train", "channels", "classes"}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test images, and a fingerprint of them.

    Attributes:
        train: What to train on, ``(n, channels, h, w)`` in bytes, channels last in memory.
        test: What to measure accuracy on.
        fingerprint: 16 hexadecimal digits that change with any label, and with any image of up to
            200,000.
    """

    train: Images
    test: Images
    fingerprint: str


def check_data(settings: Mapping[str, Any]) -> None:
    """Check what a grid says of its data, without loading it.

    Raises:
        InputError: A setting is unknown, or the name is.
    """
    if unknown := sorted(set(settings) - _KEYS):
        raise InputError(f"data.{unknown[0]} is not a setting; the settings: {sorted(_KEYS)}")
    if settings.get("name") not in (*_SETS, *_BUILT_IN):
        known = "one of " + ", ".join(sorted([*_SETS, *_BUILT_IN]))
        raise InputError(complaint("data.name", known, settings.get("name"), "pick one"))


def load_data(settings: Mapping[str, Any], data_dir: str | os.PathLike[str] | None = None) -> Data:
    """Load the images of an experiment.

    Args:
        settings: ``name``: ``cifar10``, ``tiny-imagenet-100``, ``imagenet``, ``fashion-mnist``,
            ``digits`` or ``synthetic``; ``size``: height and width to scale to, by averaging;
            ``train``: how many training images to keep, the first ones. Synthetic images also take
            ``channels`` and ``classes``.
        data_dir: The folder that holds folders of those names; None to ask the Hugging Face hub.

    Raises:
        InputError: A setting is unknown.
        DataError: The data cannot be read, or holds fewer training images than asked for.
    """
    check_data(settings)
    name, size, count = settings["name"], settings.get("size"), settings.get("train")
    train, test = _load(name, size, settings, data_dir)
    if size is not None and size != train.images.shape[-1]:
        train, test = _resized(train, size), _resized(test, size)
    if count is not None:
        if count > len(train.images):
            raise DataError(f"data.train is {count}, and {name} has {len(train.images)} images")
        train = Images(train.images[:count], train.labels[:count])
    train, test = _channels_last(train), _channels_last(test)
    return Data(train=train, test=test, fingerprint=_fingerprint(train, test))


def _load(
    name: str, size: int | None, settings: Mapping[str, Any], data_dir: Any
) -> tuple[Images, Images]:
    if name == "synthetic":
        return _synthetic(size or 32, settings)
    if name == "digits":
        return digits()
    if name == "fashion-mnist":
        return fashion_mnist(None if data_dir is None else str(Path(data_dir) / name))
    return _decoded(name, data_dir)


def _decoded(name: str, data_dir: Any) -> tuple[Images, Images]:
    """Decode a data set to disk, unless that has been done and its files have not changed since."""
    hub, size = _SETS[name]
    if data_dir is None:
        source = stamp = hub
    else:
        source = str(Path(data_dir) / name)
        if not Path(source).is_dir():
            raise DataError(
                f"there is no folder {source}; pass --data-dir with the folder it is in"
            )
        files = sorted(Path(source).glob("*.parquet"))
        facts = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        stamp = f"{Path(source).resolve()} {facts}"
    key = hashlib.sha256(f"{stamp} {size}".encode()).hexdigest()[:16]
    home = cache_home() / "images" / f"{name}-{key}"
    if not (home / "test").is_dir():
        for part, split in zip(("train", "test"), load_splits(source), strict=True):
            _decode(split, source, size, home / part)
    return _mapped(home / "train"), _mapped(home / "test")


def _decode(split: Any, source: str, size: int, folder: Path) -> None:
    """Write a split's images and labels; the folder appears when it is complete."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.{uuid.uuid4().hex}")
    partial.mkdir(parents=True)
    try:
        decoded, labels = pictures(split, source)
        shape = (len(labels), size, size, 3)
        pixels = np.lib.format.open_memmap(partial / "images.npy", "w+", np.uint8, shape)
        for i, picture in enumerate(decoded):
            pixels[i] = np.asarray(_fitted(picture, size))
        pixels.flush()
        np.save(partial / "labels.npy", labels.numpy())
        _publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _publish(partial: Path, folder: Path) -> None:
    """Give the finished folder its name, unless another process was first with the same images."""
    try:
        partial.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _fitted(picture: Any, size: int) -> Any:
    """Bring a photograph to its size: the shorter side to 8/7 of it, then the middle."""
    if picture.size == (size, size):
        return picture
    scale = size * 8 / 7 / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    left, top = (width - size) // 2, (height - size) // 2
    return picture.resize((width, height)).crop((left, top, left + size, top + size))


def _mapped(folder: Path) -> Images:
    # Copy on write: torch wants memory that may be written to, the file stays as it is.
    pixels = np.load(folder / "images.npy", mmap_mode="c")
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    return Images(torch.from_numpy(pixels).permute(0, 3, 1, 2), labels)


def _synthetic(size: int, settings: Mapping[str, Any]) -> tuple[Images, Images]:
    """Make noise with a pattern per class in it: something to learn, and nothing to download."""
    channels, classes = settings.get("channels", 3), settings.get("classes", 10)
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(0, 128, (classes, channels, size, size), generator=generator)

    def draw(count: int) -> Images:
        labels = torch.randint(0, classes, (count,), generator=generator)
        noise = torch.randint(0, 128, (count, channels, size, size), generator=generator)
        return Images((pattern[labels] + noise).to(torch.uint8), labels)

    train = settings.get("train", 400)
    return draw(train), draw(max(20, train // 4))


def _resized(part: Images, size: int) -> Images:
    """Scale by averaging over the pixels that fall together (or repeating them)."""
    pieces = [
        nn.functional.interpolate(piece.float(), (size, size), mode="area").round()
        for piece in torch.split(part.images, 1000)
    ]
    return Images(torch.cat([piece.to(torch.uint8) for piece in pieces]), part.labels)


def _channels_last(part: Images) -> Images:
    return Images(part.images.contiguous(memory_format=torch.channels_last), part.labels)


def _fingerprint(*parts: Images) -> str:
    digest = hashlib.sha256()
    for part in parts:
        # All of a usual set; of ImageNet every twelfth image, or it would take minutes.
        images = part.images[:: max(1, len(part.images) // 100_000)]
        for piece in torch.split(images, 5000):
            digest.update(piece.permute(0, 2, 3, 1).contiguous().numpy().data)
        digest.update(part.labels.numpy().tobytes())
    return digest.hexdigest()[:16]
