"""Optional dependencies: found, or missed with the pip command."""

import math
import sys
from pathlib import Path

import pytest

from cyclr.errors import MissingExtraError
from cyclr.extras import require


def test_an_installed_module_is_given_as_it_is() -> None:
    assert require("math", caller="a test", extra="cli") is math


def test_a_missing_module_names_caller_package_and_pip_command() -> None:
    with pytest.raises(MissingExtraError) as caught:
        require("no_such_package_anywhere.part", caller="cyclr.thing", extra="training")
    assert str(caught.value) == (
        "cyclr.thing needs no_such_package_anywhere, which is not installed; "
        "run: pip install 'cyclr[training]'"
    )


def test_a_module_that_is_blocked_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "colorsys", None)
    with pytest.raises(MissingExtraError, match=r"cyclr\.thing needs colorsys"):
        require("colorsys", caller="cyclr.thing", extra="cli")


def test_a_module_whose_own_dependency_is_missing_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_installed.py").write_text("import its_own_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="its_own_dependency") as caught:
        require("half_installed", caller="cyclr.thing", extra="cli")
    assert not isinstance(caught.value, MissingExtraError)
