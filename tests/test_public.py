"""The package's face: its names, and what importing it costs."""

import json
import subprocess
import sys

import pytest

import cyclr


def _in_fresh_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_all_is_sorted_without_repeats() -> None:
    assert cyclr.__all__ == sorted(set(cyclr.__all__))


def test_every_public_name_has_a_home_and_a_docstring() -> None:
    for name in cyclr.__all__:
        assert (getattr(cyclr, name).__doc__ or "").strip(), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Triangle'"):
        _ = cyclr.Triangle


def test_dir_lists_the_public_names() -> None:
    assert set(cyclr.__all__) <= set(dir(cyclr))


def test_importing_loads_no_framework_and_schedules_need_only_numpy() -> None:
    code = """
import json, sys
before = set(sys.modules)
import cyclr
at_import = set(sys.modules) - before
import numpy as np
cyclr.Triangular(base_lr=0.1, max_lr=1, stepsize=5)(np.arange(9))
test = cyclr.RangeTest()
for lr in test: test.tell(loss=lr)
test.record
third_party = {m.split('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(json.dumps([sorted(m for m in at_import if 'numpy' in m), sorted(third_party)]))
"""
    at_import, third_party = json.loads(_in_fresh_python(code))
    assert at_import == []  # not even NumPy until a schedule is touched
    assert [name for name in third_party if not name.startswith(("_", "numpy", "cyclr"))] == []


def test_the_command_s_help_loads_no_framework() -> None:
    code = """
import sys
sys.argv = ["cyclr", "--help"]
import cyclr.cli
try:
    cyclr.cli.main()
except SystemExit:
    pass
heavy = {"torch", "accelerate", "datasets", "sklearn", "matplotlib"} & set(sys.modules)
print("\\nHEAVY", sorted(heavy))
"""
    assert _in_fresh_python(code).splitlines()[-1] == "HEAVY []"
