"""Sphinx configuration."""

import os
import sys
from pathlib import Path

# Keras imports its backend, and its own choice need not be installed.
os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "cyclr"
author = "The cyclr authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = "cyclr"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_use_ivar = True
# Types of other packages are named, not linked: the build needs no network.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|numpy|nn|np|npt|collections|accelerate|os|pathlib|enum|abc|typing|T)\b.*"),
    ("py:.*", r"(optional|Any|Undo|Loss|TrainStep|Validate|Plan|Step|Value|Floats|module|Path)"),
    ("py:.*", r"(jax|keras|optax|cyclr\.integrations\.optax\.State)\b.*"),
    ("py:.*", r"cyclr\.schedules\.(arrays|fields|cyclical\._|ramps\._|compose\._).*"),
    ("py:class", r"cyclr\.training\.settings\.SettingsFields"),
    ("py:.*", r"(Mapping|Iterable|Sequence|Callable|Optimizer|Schedule|Recipe|Outcome|Series).*"),
]
