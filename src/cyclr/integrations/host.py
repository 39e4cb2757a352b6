"""The random generators of this process, whatever the framework.

Nothing here imports torch; it is only looked at where something else has loaded it.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np


@contextmanager
def host_random(*things: Any) -> Iterator[None]:
    """Put the random generators of this process back, however the block is left.

    Python's and NumPy's; with torch loaded also torch's, and what torch's ``Snapshot`` remembers of
    the given things (modules, and the samplers and generators of data loaders).
    """
    with ExitStack() as stack:
        if "torch" in sys.modules:
            from cyclr.integrations.torch.snapshot import Snapshot

            stack.enter_context(Snapshot(*things))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        yield
