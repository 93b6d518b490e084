"""What the API reference shows beside the options of autodoc; an extension of Sphinx.

The public modules only import names, and many classes are made by factories. autodoc would show
constructors that no user calls, and links that lead nowhere.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

from sphinx.addnodes import pending_xref
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import make_refnode

import ipckit
from ipckit.sem import Primitive

if TYPE_CHECKING:
    from docutils.nodes import Element, TextElement, document
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PAGES = [
    *("channel", "topic", "rpc", "pool", "aio", "structs", "codec", "msgq", "shm", "sem"),
    *("unixsock", "framing", "bridge", "keys", "errors", "inventory", "testing"),
]
# Public bases. A class links to their members instead of repeating them. Members that Python's own
# classes define are left out.
BASES = ["Codec", "Face", "Framing", "Handle", "IpcError", "Memory", "Primitive", "Struct"]
PYTHON = [
    *("BaseException", "Enum", "Executor", "Flag", "OSError", "Sequence"),
    *("int", "object", "str", "tuple", "type"),
]
PUBLIC: dict[str, str] = {"Capabilities": "ipckit", "Handle": "ipckit"}  # the page of each name


def read_pages(app: Sphinx) -> None:  # noqa: ARG001
    """Note the public names. Forget overloads: the implementation names each argument."""
    for page in (f"ipckit.{name}" for name in PAGES):
        module = importlib.import_module(page)
        for name in getattr(module, "__all__", None) or vars(module):
            own = getattr(getattr(module, name), "__module__", None) == page
            if own and not name.startswith("_"):
                PUBLIC[name] = page
    for module in pkgutil.walk_packages(ipckit.__path__, "ipckit."):
        if not module.name.endswith(("_native", "__main__")):
            analyzer = ModuleAnalyzer.for_module(module.name)
            analyzer.analyze()
            analyzer.overloads.clear()


def show_signature(
    _app: Sphinx, what: str, name: str, item: Any, _options: Any, args: str | None, result: str
) -> tuple[str, str] | None:
    """Hide constructors that users do not call, and replace private constants by their values."""
    if args is None:
        return None
    if what in {"class", "exception"}:
        text = inspect.getdoc(item) or ""
        called = "Args:" in text or "Attributes:" in text or name.startswith("ipckit.codec.")
        if not called or (getattr(item, "_factories", "") or item is Primitive):
            return "", ""
        item = item.__init__
    known = getattr(item, "__globals__", {})

    def value(match: re.Match[str]) -> str:
        found = known.get(match[1], match[1])
        return "= " + (found.__name__ if inspect.isclass(found) else repr(found))

    return (re.sub(r"= (_?[A-Z][A-Z_]+)\b(?!\.)", value, args), result)


def is_shown(base: type) -> bool:
    """Whether the members of a base are documented at that base."""
    return base.__name__ in BASES and PUBLIC.get(base.__name__) == base.__module__


def add_names(
    _app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]
) -> None:
    """Add to a module a table of its names, and to a class the list of what it inherits."""
    if what == "module":
        lines += ["", ".. list-table::", "   :widths: auto", "   :class: names", ""]
        hidden = options.exclude_members or ()
        for each in (each for each, page in PUBLIC.items() if page == name):
            found = getattr(item, each)
            if (inspect.isclass(found) or inspect.isroutine(found)) and each not in hidden:
                summary = (inspect.getdoc(found) or "").partition("\n\n")[0].replace("\n", " ")
                lines += [f"   * - `{each}`", f"     - {summary.rstrip(':')}"]
        lines.append("")
    elif what in {"class", "exception"}:
        line = item.__mro__
        for base in filter(is_shown, line[1:]):
            rest = line[line.index(base) :]
            owner = {each: next(cls for cls in line if each in vars(cls)) for each in dir(base)}
            names = [
                each
                for each, cls in owner.items()
                if not each.startswith("_")
                and cls in rest
                and cls.__module__ != "builtins"
                and not any(is_shown(other) and cls in other.__mro__ for other in rest[1:])
            ]
            if names:
                links = ", ".join(
                    f"`{each} <{base.__module__}.{base.__name__}.{each}>`" for each in names
                )
                lines += ["", f"Inherited from `{base.__name__}`: {links}."]


def leave_builtins_alone(app: Sphinx, tree: document) -> None:
    """Do not let a builtin name, such as ``bytes``, lead to an attribute of the same name."""
    for node in list(tree.findall(pending_xref)):
        member = f"{node.get('py:module')}.{node.get('py:class')}.{node.get('reftarget')}"
        own = node.get("reftype") == "obj" and member in app.env.domains["py"].objects
        if hasattr(builtins, node.get("reftarget", "")) and not own:
            node.replace_self(node.children)


def find_public(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: TextElement
) -> Element | None:
    """Let a public name lead to its page from every other page."""
    target = node.get("reftarget", "").removeprefix("ipckit.")
    full = f"{PUBLIC.get(target.partition('.')[0])}.{target}"
    found = env.domains["py"].objects.get(full)
    if node.get("refdomain") != "py" or found is None:
        return None
    return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content, full)


def setup(app: Sphinx) -> None:
    """Connect the extension."""
    app.connect("builder-inited", read_pages)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-process-docstring", add_names)
    app.connect("doctree-read", leave_builtins_alone)
    app.connect("missing-reference", find_public)
