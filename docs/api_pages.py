"""How the API reference is made from the docstrings; an extension of Sphinx, beside `conf.py`.

The public modules of ipckit only import names, so autodoc alone sees neither the order of the
members nor the annotations of methods that are written in C. This extension reads the files that
define the classes. It has three parts:

- signatures as they are written in the source, which is shorter than what autodoc makes of them;
- the list of what a module has, and of what a class inherits from another documented class;
- links: a name in a docstring is looked up as a reader would, and a name that nothing has is an
  error.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import keyword
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.nodes import find_pending_xref_condition

import ipckit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx
    from sphinx.domains.python import PythonDomain

LOGGER = logging.getLogger(__name__)
PACKAGE = Path(ipckit.__file__).parent
CODE = {"mypy_plugin"}  # a plugin of mypy, which no program imports
PAGES = ["ipckit", *(f"ipckit.{path.stem}" for path in sorted(PACKAGE.glob("[a-z]*.py")))]
PAGES = [page for page in PAGES if page.rpartition(".")[2] not in CODE]

# Methods of `ipckit.rpc` without an underscore that only `ipckit.aio` calls.
FOR_OTHER_MODULES = {
    "Client": {
        "ask_for_methods",
        "begin",
        "closed_error",
        "error_in",
        "find",
        "finish",
        "forget_methods",
        "known",
        "learn",
        "leave_to_parent",
        "signatures",
        "too_late",
    },
    "RemoteStream": {"gone", "item_in", "too_late"},
    "Service": {"forget_servers", "new_server"},
}

# -- the source ------------------------------------------------------------------------------------


def file_of(module: str) -> Path:
    """Return the file of a module; for the extension module, its stub."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    found = [path / "__init__.py", path.with_suffix(".py"), path.with_suffix(".pyi")]
    return next(each for each in found if each.exists())


@functools.cache
def source(module: str) -> str:
    """Return the text of a module."""
    return file_of(module).read_text()


def flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, and those inside ``if TYPE_CHECKING``."""
    for each in body:
        if isinstance(each, ast.If):
            yield from flat([*each.body, *each.orelse])
        else:
            yield each


@functools.cache
def definitions(module: str, name: str = "") -> dict[str, list[Any]]:
    """Return the classes and functions of a module, or of a class in it, by name.

    A function that has overloads is there several times.
    """
    body: list[ast.stmt] = ast.parse(source(module)).body
    if name:
        found = definitions(module).get(name, [])
        body = found[0].body if found and isinstance(found[0], ast.ClassDef) else []
    result: dict[str, list[Any]] = {}
    for each in flat(body):
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            result.setdefault(each.name, []).append(each)
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            result.setdefault(each.target.id, []).append(each)
    return result


@functools.cache
def imports(page: str) -> dict[str, str]:
    """Return the module that each name of a page comes from."""
    return {
        alias.name: each.module
        for each in flat(ast.parse(source(page)).body)
        if isinstance(each, ast.ImportFrom) and each.module
        for alias in each.names
    }


def module_of(item: Any) -> str:
    """Return the module that defines a public class or function, or a base of such a class."""
    page = str(item.__module__)
    if page in PAGES:
        return imports(page).get(item.__name__, page)
    return page


def members(cls: type) -> dict[str, tuple[str, list[Any]]]:
    """Return the definitions of a class's members, own ones first, with the defining module."""
    found: dict[str, tuple[str, list[Any]]] = {}
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == "ipckit":
            module = module_of(base)
            for name, each in definitions(module, base.__name__).items():
                found.setdefault(name, (module, each))
    return found


def exported(page: str) -> dict[str, Any]:
    """Return the names of a page that are documented there."""
    module: Any = importlib.import_module(page)
    # `errors` and `keys` have code, and no list of names.
    names = getattr(module, "__all__", None) or definitions(page)
    found = {name: getattr(module, name) for name in names if not name.startswith("_")}
    return {
        name: item for name, item in found.items() if getattr(item, "__module__", page) == page
    }


def with_source(page: str) -> None:
    """Let autodoc find in a page what the files say that define its classes."""
    analyzer = ModuleAnalyzer(source(page), page, str(file_of(page)))
    analyzer.analyze()
    order = 0
    for name, item in exported(page).items():
        if not inspect.isclass(item):
            continue
        analyzer.overloads.pop(name, None)
        for each in members(item):
            order += 1
            analyzer.tagorder[f"{name}.{each}"] = order
        for base in reversed(item.__mro__):
            if base.__module__.partition(".")[0] == "ipckit":
                inner = ModuleAnalyzer.for_file(file_of(module_of(base)), module_of(base))
                inner.analyze()
                for (scope, attribute), text in inner.attr_docs.items():
                    if scope == base.__name__:
                        analyzer.attr_docs[name, attribute] = text
                for (scope, attribute), text in inner.annotations.items():
                    if scope == base.__name__:
                        analyzer.annotations[name, attribute] = text
    for key in [each for each in analyzer.overloads if "." in each]:
        del analyzer.overloads[key]
    for name, item in exported(page).items():
        if inspect.isfunction(item):
            inner = ModuleAnalyzer.for_file(file_of(module_of(item)), module_of(item))
            inner.analyze()
            if name in inner.overloads:
                analyzer.overloads[name] = inner.overloads[name]
    ModuleAnalyzer.cache["module", page] = analyzer


# -- signatures ------------------------------------------------------------------------------------


def is_overload(node: Any) -> bool:
    """Return whether a definition is only an overload."""
    return any(ast.unparse(each).endswith("overload") for each in node.decorator_list)


def parameters(node: Any, module: str) -> dict[str, tuple[ast.arg, str, str]]:
    """Return the parameters of a definition, each with its annotation and default, as written."""

    def text(part: ast.expr | None) -> str:
        written = part and ast.get_source_segment(source(module), part)
        return re.sub(r"\s+", " ", written or "")

    args = node.args
    places = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(places) - len(args.defaults)) + list(args.defaults)
    found = [*zip(places, defaults, strict=True)]
    found += zip(args.kwonlyargs, args.kw_defaults, strict=True)
    found += [(each, None) for each in (args.vararg, args.kwarg) if each]
    return {each.arg: (each, text(each.annotation), text(default)) for each, default in found}


def shown_default(written: str, value: Any) -> str:
    """Return a default as it is written, or the value of a constant that is private."""
    if not re.fullmatch(r"\.\.\.|_?[A-Z][A-Z_]*|[a-z_]+\.[A-Z_]+", written):
        return written
    if value is inspect.Parameter.empty:
        return written
    return value.__name__ if inspect.isclass(value) else repr(value)


def signature(item: Any, module: str, found: list[Any]) -> tuple[str, str] | None:
    """Return the parameters of a function or method, and its result, as text.

    What the implementation calls Any has the type that the last overload gives it.
    """
    node = found[-1]
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    overloads = [each for each in found if is_overload(each)]
    last = overloads[-1] if overloads else node
    better = parameters(last, module)
    try:
        real = inspect.signature(item).parameters
    except (TypeError, ValueError):
        real = {}
    args = node.args
    written = parameters(node, module)
    decorators = {ast.unparse(each) for each in node.decorator_list}
    skipped = set() if "staticmethod" in decorators else {next(iter(written), "")}
    if not found[0].col_offset:  # a function of the module
        skipped = set()
    parts: list[str] = []
    for name, (arg, annotation, default) in written.items():
        if args.kwonlyargs and arg is args.kwonlyargs[0] and not args.vararg:
            parts.append("*")
        if name not in skipped:
            stars = "*" if arg is args.vararg else "**" if arg is args.kwarg else ""
            if annotation in {"", "Any"} and name in better:
                annotation = better[name][1]  # noqa: PLW2901
            text = f"{stars}{name}" + (f": {annotation}" if annotation else "")
            if default:
                value = real[name].default if name in real else inspect.Parameter.empty
                text += f" = {shown_default(default, value)}"
            parts.append(text)
        if args.posonlyargs and arg is args.posonlyargs[-1] and name not in skipped:
            parts.append("/")
    returns = last.returns or node.returns
    result = ast.get_source_segment(source(module), returns) if returns else ""
    return f"({', '.join(parts)})", re.sub(r"\s+", " ", result or "")


def process_signature(  # noqa: PLR0917 - as Sphinx calls it
    _app: Sphinx, what: str, name: str, item: Any, _options: Any, args: str | None, _result: Any
) -> tuple[str, str | None] | None:
    """Replace the signature that autodoc found."""
    page, _, path = next(
        (page, ".", name[len(page) + 1 :])
        for page in sorted(PAGES, key=len, reverse=True)
        if name.startswith(f"{page}.") or name == page
    )
    if what in {"class", "exception"}:
        made = getattr(item, "_factories", "")
        text = inspect.getdoc(item) or ""
        hidden = args is not None and (made or "Args:" not in text)
        return ("", None) if hidden else None
    owner, _, member = path.rpartition(".")
    if what == "function":
        module = module_of(item)
        found = definitions(module).get(path)
    elif what == "method":
        module, found = members(getattr(importlib.import_module(page), owner)).get(
            member, ("", None)
        )
    else:
        return None
    return signature(item, module, found) if found else None


# -- what a docstring says, and what is added to it ------------------------------------------------


def bases_of(cls: type) -> list[type]:
    """Return the bases of a class that have a place in the reference of their own."""
    found = [base for base in cls.__mro__[1:] if base.__module__ in PAGES]
    return [base for base in found if exported(base.__module__).get(base.__name__) is base]


def inherited(cls: type) -> list[str]:
    """Return a line for each documented base, with links to what the class has from it."""
    bases = bases_of(cls)
    lines: list[str] = []
    taken = set[str]()
    for base in bases:
        names = [
            name
            for name in members(base)
            if not name.startswith("_")
            and name not in taken
            and getattr(inspect.getattr_static(base, name, None), "__doc__", None)
            and next((each for each in cls.__mro__ if name in vars(each)), None)
            in {base, *base.__mro__}
            and not any(issubclass(each, base) and name in vars(each) and each is not base
                        for each in cls.__mro__)
        ]
        taken.update(names)
        path = f"{base.__module__}.{base.__name__}"
        if names:
            links = ", ".join(f":py:obj:`{name} <{path}.{name}>`" for name in names)
            lines += [f"From :py:obj:`{base.__name__} <{path}>`: {links}.", ""]
    return lines


def summary(item: Any) -> str:
    """Return the first sentence of a docstring."""
    text = (inspect.getdoc(item) or "").partition("\n\n")[0].replace("\n", " ")
    return text.partition(". ")[0].rstrip(".:") + "."


def table(page: str) -> list[str]:
    """Return a table of the classes and functions of a page."""
    lines = [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
    for name, item in exported(page).items():
        if inspect.isclass(item) or inspect.isroutine(item):
            mark = "" if inspect.isclass(item) else "()"
            lines += [f"   * - :py:obj:`{name}{mark} <{page}.{name}>`", f"     - {summary(item)}"]
    return [*lines, ""]


def scalars() -> list[str]:
    """Return a table of the types of fields that are numbers."""
    found = exported("ipckit.structs")
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - Name", "     - C type"]
    lines += ["     - Bytes here", "     - In Python"]
    for name, item in found.items():
        if type(item).__name__ == "Scalar":
            lines += [f"   * - ``{name}``", f"     - ``{item.c_type}``"]
            lines += [f"     - {item.size}", f"     - {python_type(item)}"]
    return [*lines, ""]


def python_type(item: Any) -> str:
    """Return the Python type of a field's values."""
    return type(item.dtype.type(0).item()).__name__


def process_docstring(
    _app: Sphinx, what: str, name: str, item: Any, _options: Any, lines: list[str]
) -> None:
    """Add the table of a module, and the list of what a class inherits."""
    if what == "module" and name in PAGES:
        lines += ["", *table(name)]
    elif what in {"class", "exception"}:
        more = inherited(item)
        if more:
            lines += ["", *more]


def skip_member(
    _app: Sphinx, what: str, name: str, item: Any, skip: bool, _options: Any  # noqa: FBT001
) -> bool | None:
    """Leave out methods for other modules, and what only repeats Python's own documentation."""
    owner = getattr(item, "__qualname__", "").partition(".")[0]
    if name in FOR_OTHER_MODULES.get(owner, ()):
        return True
    if what == "class" and inspect.isbuiltin(item) and name.startswith("__"):
        return True
    if type(item).__name__ == "wrapper_descriptor":
        return True
    return skip or None


# -- links -----------------------------------------------------------------------------------------


@functools.cache
def words() -> frozenset[str]:
    """Return the names of all parameters and attributes, which docstrings mark as names too."""
    found: set[str] = set()
    for page in PAGES:
        for item in exported(page).values():
            text = inspect.getdoc(item) or ""
            found.update(re.findall(r"^    (\w+)(?: \(.*\))?: ", text, re.MULTILINE))
            if inspect.isclass(item):
                found.update(dir(item))
                for module, each in members(item).values():
                    for node in each:
                        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                            found.update(parameters(node, module))
            elif inspect.isfunction(item):
                found.update(inspect.signature(item).parameters)
    return frozenset(found)


@functools.cache
def is_elsewhere(target: str) -> bool:
    """Return whether a name is Python's, or that of a package that ipckit works with."""
    first, *rest = target.split(".")
    if hasattr(builtins, first) or keyword.iskeyword(first):
        return True
    if not rest:
        return False
    for count in range(len(rest), 0, -1):
        try:
            item: Any = importlib.import_module(".".join([first, *rest][:count]))
        except ImportError:
            continue
        try:
            for name in rest[count - 1 :]:
                item = getattr(item, name)
        except AttributeError:
            return False
        return True
    return False


class Names(SphinxPostTransform):
    """Resolves the names in docstrings and annotations."""

    default_priority = 5  # before Sphinx does

    def run(self, **_kwargs: Any) -> None:
        """Give each reference the full name of its target, or make it plain code."""
        domain: Any = self.env.domains["py"]
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node.get("refdomain") == "py":
                found = target_of(domain, node)
                if found:
                    node["reftarget"], node["reftype"] = found, "obj"
                    node.attributes.pop("refspecific", None)
                else:
                    short = find_pending_xref_condition(node, "resolved")
                    content = short.children if short else node.children
                    node.replace_self([each.deepcopy() for each in content])


def target_of(domain: PythonDomain, node: addnodes.pending_xref) -> str | None:
    """Return the full name of what a reference means; None if it is no name of ipckit."""
    target = re.sub(r"\(.*\)$", "", node["reftarget"].lstrip("~."))
    module, cls = node.get("py:module") or "", node.get("py:class") or ""
    written = node.get("reftype") == "obj"  # in a docstring, not in an annotation
    if not re.fullmatch(r"[\w.]+", target):
        return None
    if target.startswith("ipckit._"):
        target = target.rpartition(".")[2]
    short = target.removeprefix("ipckit.")
    candidates = [target]
    if written or not hasattr(builtins, target):
        candidates += [f"{module}.{cls}.{target}", f"{module}.{target}"] if written else []
        candidates += [f"{module}.{target}", f"ipckit.{short}"]
        candidates += [f"{page}.{short}" for page in PAGES if short[:1].isupper()]
        candidates += [f"{page}.{short}" for page in PAGES if written and "." in short]
    for each in candidates:
        if each in domain.objects or each in domain.modules:
            return each
    head = short.partition(".")[0]
    attribute = short.rpartition(".")[2]
    # Fields of a dataclass are a list in its docstring, without places of their own.
    owners = [item for page in PAGES for name, item in exported(page).items() if name == head]
    if head != attribute and any(attribute in (words() | set(dir(each))) for each in owners):
        return next(
            (f"{page}.{head}" for page in PAGES if f"{page}.{head}" in domain.objects), None
        )
    if written and not (target in words() or is_elsewhere(target)):
        LOGGER.warning("no such name: %s", target, location=node, type="ref", subtype="name")
    return None


def begin(_app: Sphinx) -> None:
    """Read the source, before autodoc does."""
    for page in PAGES:
        with_source(page)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the extension; Sphinx calls this."""
    app.connect("builder-inited", begin)
    app.connect("autodoc-process-signature", process_signature)
    app.connect("autodoc-process-docstring", process_docstring, priority=400)
    app.connect("autodoc-skip-member", skip_member)
    app.add_post_transform(Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
