"""How Sphinx builds the documentation; `make docs` runs it."""

from __future__ import annotations

from ipckit._core.version import VERSION

project = "ipckit"
author = "The ipckit developers"
copyright = "The ipckit developers"  # noqa: A001 - Sphinx chose the name
release = version = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ipckit {VERSION}"
html_static_path = ["_static"]
html_show_sourcelink = False

myst_heading_anchors = 4
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "inherited-members": True, "show-inheritance": False}
napoleon_numpy_docstring = False
copybutton_exclude = ".linenos, .gp, .go"
