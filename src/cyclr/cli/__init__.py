"""The ``cyclr`` command. Results go to stdout, everything else to stderr.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import sys

from cyclr.errors import CyclrError, InputError, MissingExtraError

# What the [cli] extra installs; anything else that is missing is a bug, and shows as one.
_PACKAGES = {"accelerate", "datasets", "matplotlib", "rich", "safetensors", "sklearn", "torch"}
_PACKAGES |= {"joblib", "ray", "torchdata"}


def main() -> None:
    """Run the command line; turn what cyclr raises into one sentence and an exit code."""
    try:
        from cyclr.cli.app import app
    except ModuleNotFoundError as error:
        missing = MissingExtraError("the cyclr command", error.name or "typer", "cli")
        sys.exit(_fail(missing))
    try:
        app(standalone_mode=True)
    except CyclrError as error:
        sys.exit(_fail(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        sys.exit(_fail(MissingExtraError("this command", package, "cli")))


def _fail(error: CyclrError) -> int:
    sys.stderr.write(f"cyclr: {error}\n")
    return 2 if isinstance(error, InputError | MissingExtraError) else 1
