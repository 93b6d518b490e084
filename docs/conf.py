"""How Sphinx builds the documentation; `make docs` runs it."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

from sphinx.addnodes import pending_xref

from ipckit._core.version import __version__

if TYPE_CHECKING:
    from docutils.nodes import document
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
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ipckit {__version__}"
html_show_sourcelink = False

myst_heading_anchors = 4
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {
    "members": True,
    "inherited-members": "int, str, tuple, IntFlag",  # but not what these builtins have
}
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
    """Let links to files above docs/ lead to their pages on the site."""
    for file, name in ABOVE.items():
        source[0] = source[0].replace(f"]({file}", f"]({name}")


def leave_builtins_alone(app: Sphinx, tree: document) -> None:  # noqa: ARG001
    """Do not let a builtin name, such as ``bytes``, lead to an attribute of the same name."""
    for reference in list(tree.findall(pending_xref)):
        if hasattr(builtins, reference.get("reftarget", "")):
            reference.replace_self(reference.children)


def setup(app: Sphinx) -> None:
    """Register what is more than configuration."""
    app.connect("source-read", link_within_the_site)
    app.connect("doctree-read", leave_builtins_alone)
