"""The reference training loop, on Hugging Face Accelerate."""

from cyclr.extras import require

for _module in ("torch", "accelerate", "torchdata", "safetensors"):
    require(_module, caller="cyclr.training", extra="training")

from cyclr.training.data import Batch, EpochBatches, InMemory, Pass, make_loader  # noqa: E402 -- after the check
from cyclr.training.fit import fit  # noqa: E402
from cyclr.training.folder import RunFolder  # noqa: E402
from cyclr.training.run import Run  # noqa: E402
from cyclr.training.settings import Settings  # noqa: E402

__all__ = [
    "Batch",
    "EpochBatches",
    "InMemory",
    "Pass",
    "Run",
    "RunFolder",
    "Settings",
    "fit",
    "make_loader",
]
