"""The tests of this folder once more, in a process of its own for each other backend of Keras."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
BACKENDS = [b for b in ("torch", "jax", "tensorflow") if b != os.environ["KERAS_BACKEND"]]

CI = os.environ.get("CI") == "true"  # there nothing may be left out silently

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("keras") is None and not CI,
    reason="needs the extra keras",
)


def run_on(backend: str, *arguments: str) -> None:
    if importlib.util.find_spec(backend) is None:
        if CI:
            pytest.fail(f"CI installs every backend, and {backend} cannot be found")
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=FOLDER.parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_conformance_on(backend) -> None:
    run_on(backend, f"{FOLDER / 'test_conformance.py'}::test_follow_conforms")


@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=[] if CI else pytest.mark.slow) for b in BACKENDS]
)
def test_everything_on(backend) -> None:
    run_on(backend, str(FOLDER), f"--ignore={__file__}")
