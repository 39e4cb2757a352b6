"""torch: a learning rate scheduler and a range test that leaves no trace."""

from cyclr.extras import require

require("torch", caller="cyclr.integrations.torch", extra="torch")

from cyclr.integrations.torch.confirm import confirm  # noqa: E402 -- after the check for torch
from cyclr.integrations.torch.range_test import range_test  # noqa: E402
from cyclr.integrations.torch.scheduler import Scheduler  # noqa: E402
from cyclr.integrations.torch.snapshot import Snapshot  # noqa: E402

__all__ = ["Scheduler", "Snapshot", "confirm", "range_test"]
