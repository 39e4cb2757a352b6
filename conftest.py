"""What holds for every test, and for the examples in src."""

import importlib.util
import os
import signal

import pytest

# Keras picks its backend when it is first imported, which may be anywhere. The tests of its
# integration run on the other backends in processes of their own.
os.environ.setdefault("KERAS_BACKEND", "torch")

FRAMEWORKS = ("torch", "accelerate", "lightning", "transformers", "keras", "tensorflow", "optax")
FRAMEWORKS += ("optuna", "ray")


def pytest_configure() -> None:
    """In CI nothing is left out silently; and Ctrl-C, which tests send, is heard."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell ran with an &
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("CI") == "true":
        missing = [name for name in FRAMEWORKS if importlib.util.find_spec(name) is None]
        if missing:
            raise pytest.UsageError(f"CI must install {', '.join(missing)}; see the extra dev")
