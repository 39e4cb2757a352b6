"""The experiments' images: whole sets in memory as bytes, decoded once and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from cyclr.errors import DataError, InputError, complaint
from cyclr.experiments.data import Images, digits, image_dataset
from cyclr.experiments.store import cache_home

# Folder under the data directory, name on the hub, size, classes.
_SETS = {
    "cifar10": ("cifar10", "uoft-cs/cifar10", 32),
    "tiny-imagenet-100": ("tiny-imagenet-100", "zh-plus/tiny-imagenet", 64),
}
_KEYS = {"name", "size", "train", "channels", "classes"}


@dataclass(frozen=True, kw_only=True)
class Data:
    """Training and test images, and a fingerprint of them.

    Attributes:
        train: What to train on, ``(n, channels, h, w)`` in bytes, channels last in memory.
        test: What to measure accuracy on.
        fingerprint: The first 16 hexadecimal digits of the SHA-256 of all images and labels.
    """

    train: Images
    test: Images
    fingerprint: str


def load_data(settings: Mapping[str, Any], data_dir: str | os.PathLike[str] | None = None) -> Data:
    """Load the images of an experiment.

    Args:
        settings: ``name``: ``cifar10``, ``tiny-imagenet-100``, ``digits`` or ``synthetic``;
            ``size``: height and width to scale to, by averaging; ``train``: how many training
            images to keep, the first ones. Synthetic images also take ``channels`` and ``classes``.
        data_dir: The folder that holds the folders ``cifar10`` and ``tiny-imagenet-100``; None to
            ask the Hugging Face hub.

    Raises:
        InputError: A setting is unknown.
        DataError: The data cannot be read, or holds fewer training images than asked for.
    """
    if unknown := sorted(set(settings) - _KEYS):
        raise InputError(f"data.{unknown[0]} is not a setting; the settings: {sorted(_KEYS)}")
    name, size, count = settings.get("name"), settings.get("size"), settings.get("train")
    if name == "synthetic":
        train, test = _synthetic(size or 32, settings)
    elif name == "digits":
        train, test = digits()
    elif name in _SETS:
        train, test = _decoded(name, data_dir)
    else:
        known = "one of " + ", ".join(sorted([*_SETS, "digits", "synthetic"]))
        raise InputError(complaint("data.name", known, name, "pick one"))
    if size is not None and size != train.images.shape[-1]:
        train, test = _resized(train, size), _resized(test, size)
    if count is not None:
        if count > len(train.images):
            raise DataError(f"data.train is {count}, and {name} has {len(train.images)} images")
        train = Images(train.images[:count], train.labels[:count])
    train, test = _channels_last(train), _channels_last(test)
    return Data(train=train, test=test, fingerprint=_fingerprint(train, test))


def _decoded(name: str, data_dir: str | os.PathLike[str] | None) -> tuple[Images, Images]:
    """Decode a data set, or take it from the cache if its files have not changed since."""
    folder, hub, size = _SETS[name]
    source = hub if data_dir is None else str(Path(data_dir) / folder)
    if data_dir is None:
        return image_dataset(source, size=size)
    if not Path(source).is_dir():
        raise DataError(f"there is no folder {source}; pass --data-dir with the folder it is in")
    files = sorted(Path(source).glob("*.parquet"))
    stamp = repr([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])
    key = hashlib.sha256(f"{Path(source).resolve()} {stamp}".encode()).hexdigest()[:16]
    cached = cache_home() / "images" / f"{name}-{key}.pt"
    if cached.is_file():
        parts = torch.load(cached, weights_only=True)
        return Images(*parts[:2]), Images(*parts[2:])
    train, test = image_dataset(source, size=size)
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}")
    torch.save([*train, *test], partial)
    partial.replace(cached)
    return train, test


def _synthetic(size: int, settings: Mapping[str, Any]) -> tuple[Images, Images]:
    """Make noise with a pattern per class in it: something to learn, and nothing to download."""
    channels, classes = settings.get("channels", 3), settings.get("classes", 10)
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(0, 128, (classes, channels, size, size), generator=generator)

    def draw(count: int) -> Images:
        labels = torch.randint(0, classes, (count,), generator=generator)
        noise = torch.randint(0, 128, (count, channels, size, size), generator=generator)
        return Images((pattern[labels] + noise).to(torch.uint8), labels)

    return draw(settings.get("train", 400)), draw(100)


def _resized(part: Images, size: int) -> Images:
    """Scale by averaging over the pixels that fall together (or repeating them)."""
    pieces = [
        F.interpolate(piece.float(), (size, size), mode="area").round().to(torch.uint8)
        for piece in part.images.split(1000)
    ]
    return Images(torch.cat(pieces), part.labels)


def _channels_last(part: Images) -> Images:
    return Images(part.images.contiguous(memory_format=torch.channels_last), part.labels)


def _fingerprint(*parts: Images) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        digest.update(part.labels.numpy().tobytes())
    return digest.hexdigest()[:16]
