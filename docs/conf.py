"""How Sphinx builds the documentation; `make docs` runs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from ipckit._core.version import VERSION

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "ipckit"
author = "The ipckit developers"
copyright = "The ipckit developers"  # noqa: A001 - Sphinx chose the name
release = version = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "api_pages",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"ipckit {VERSION}"
html_show_sourcelink = False

myst_heading_anchors = 4
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_default_options = {
    "members": True,
    # Members of bases that are documented themselves are a list of links, and those of Python's
    # own classes are left out.
    "inherited-members": "object,Handle,Memory,Face,Primitive,IpcError,Codec,Framing,Struct,"
    "BaseException,Exception,OSError,dict,int,str,tuple,IntFlag,Flag,Enum,Generic,Sequence",
    "special-members": "__iter__,__next__,__aiter__,__anext__,__len__,__getitem__,__call__",
}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
python_display_short_literal_types = True
toc_object_entries_show_parents = "hide"
copybutton_exclude = ".linenos, .gp, .go"

# Pages link to these files, which stand above docs/; the site has pages for them.
ABOVE = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../README.md": "index.md",
}


def link_within_the_site(app: Sphinx, page: str, source: list[str]) -> None:  # noqa: ARG001
    """Let links to files above docs/ lead to their pages on the site."""
    for file, name in ABOVE.items():
        source[0] = source[0].replace(f"]({file}", f"]({name}")


def setup(app: Sphinx) -> None:
    """Register what is more than configuration."""
    app.connect("source-read", link_within_the_site)
