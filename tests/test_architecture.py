"""Data flows one way: nothing on the left imports what is on its right."""

import ast
from pathlib import Path

import pytest

import cyclr

SRC = Path(cyclr.__file__).parent
# From left to right. A package may import itself and what stands before it.
ORDER = [
    "errors",
    "extras",
    "jsonfile",
    "figures",
    "schedules",
    "rangetest",
    "recipe",
    "planning",
    "integrations",
    "testing",
    "training",
    "experiments",
    "tuning",
    "report",
    "cli",
]
FRAMEWORKS = {
    "torch": "integrations/torch",
    "lightning": "integrations/lightning",
    "transformers": "integrations/transformers",
    "keras": "integrations/keras",
    "jax": "integrations/optax",
    "optax": "integrations/optax",
}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            # `from cyclr import jsonfile` names a module too.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _layer(module: str) -> int | None:
    parts = module.split(".")
    return ORDER.index(parts[1]) if len(parts) > 1 and parts[1] in ORDER else None


MODULES = sorted(
    path
    for path in SRC.rglob("*.py")
    # The package's own face re-exports from everywhere; __main__ only starts the command line.
    if path.relative_to(SRC).as_posix() not in ("__init__.py", "__main__.py")
)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(SRC).as_posix())
def test_imports_point_left(path: Path) -> None:
    own = _layer("cyclr." + path.relative_to(SRC).with_suffix("").as_posix().replace("/", "."))
    assert own is not None, f"{path} is in no layer: add it to ORDER where it belongs"
    to_the_right = {
        name for name in _imports(path) if name.startswith("cyclr.") and (_layer(name) or 0) > own
    }
    assert to_the_right == set()


@pytest.mark.parametrize("framework", sorted(FRAMEWORKS))
def test_a_framework_is_imported_in_its_integration_only(framework: str) -> None:
    # The reference loop and the experiments are torch programs themselves.
    allowed = {FRAMEWORKS[framework]}
    if framework == "torch":
        allowed |= {"training", "experiments", "tuning", "integrations/lightning"}
        allowed |= {"integrations/transformers"}
    importers = {
        path.relative_to(SRC).as_posix()
        for path in MODULES
        if any(name.split(".")[0] == framework for name in _imports(path))
    }
    strangers = {p for p in importers if not any(p.startswith(prefix) for prefix in allowed)}
    assert strangers == set()
