"""Sphinx's settings for `make docs`. The source folder is the repository, so that links between its pages hold."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

project = "regicomp"
author = "the regicomp authors"
copyright = author
root_doc = "docs/index"
include_patterns = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**.md", "experiments/**.md", "bench/**.md"]
exclude_patterns = [".*", "outputs", "multirun", "data", "dist", "regicomp", "tests", "conf"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "repository_pages",
    "mathml",
]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints_format = "short"
default_role = "code"
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries = False

nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!regicomp).*"),  # types of other projects, whose pages are not at hand
    ("py:.*", r"regicomp(\.\w+)*\.(_\w+|T)"),  # private types and type variables, in signatures
]

html_theme = "furo"
html_title = "regicomp"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
