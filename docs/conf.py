"""How Sphinx builds the documentation; `make docs` runs it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ipckit._core.version import __version__

sys.path.insert(0, str(Path(__file__).parent))
from api_pages import BASES, PYTHON  # the folder is not a package

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ipckit"
author = "The ipckit developers"
copyright = "The ipckit developers"  # noqa: A001 - Sphinx chose the name
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "api_pages",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ipckit {__version__}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]

myst_heading_anchors = 4
default_role = "py:obj"

autodoc_member_order = "groupwise"  # factories, methods, properties
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {
    "members": True,
    "inherited-members": ",".join([*BASES, *PYTHON]),
}
python_display_short_literal_types = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Class keywords", "params_style")]
napoleon_use_ivar = True  # autodoc describes the fields of a tuple or dataclass too
copybutton_exclude = ".linenos, .gp, .go"

# Pages link to these files, which stand above docs/; the site has pages for them.
ABOVE = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
    "../SECURITY.md": "security.md",
}


def link_within_the_site(app: Sphinx, page: str, source: list[str]) -> None:  # noqa: ARG001
    """Let links to files above docs/ lead to their pages on the site, and show titles of pages."""
    for file, name in ABOVE.items():
        source[0] = source[0].replace(f"]({file}", f"]({name}")
    source[0] = re.sub(r"\[[\w-]+\.md\]\(", "[](", source[0])  # MyST adds the title


def setup(app: Sphinx) -> None:
    """Register what is more than configuration."""
    app.connect("source-read", link_within_the_site)
