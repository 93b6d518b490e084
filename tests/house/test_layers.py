"""The layers of the package: a module imports from lower layers only, and never in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# From the ground up. Packages of one layer do not import each other.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_native"}),
    frozenset({"errors"}),
    frozenset({"_core.arguments"}),  # one module of _core, because keys check arguments too
    frozenset({"keys"}),
    frozenset({"_core"}),
    frozenset({"_payload"}),
    frozenset({"_msgq", "_shm", "_sem"}),
    frozenset({"_sockets"}),  # it passes memory and queues to other processes
    frozenset({"_channel"}),
    frozenset({"_topic"}),
    frozenset({"_process_queue"}),
    frozenset({"_rpc", "_pool"}),
    frozenset({"_aio"}),
    frozenset({"_inventory"}),
    frozenset({"_bridge"}),
    frozenset({"_cli", "_testing"}),
)
LAYER = {package: layer for layer, row in enumerate(LAYERS) for package in row}
# They import what users import, and `_core`.
TOOLS = frozenset({"_inventory", "_bridge", "_cli"})
C_LINES = 400


def imports(source: str, modules: set[str]) -> set[str]:
    """The modules of ipckit that a source imports, also for type checkers only."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & modules or {node.module or ""})
    return {name for name in found if name.split(".")[0] == "ipckit"}


def complaints(module: str, targets: set[str]) -> list[str]:
    """The imports of a module that the layers forbid."""
    found: list[str] = []
    own = module.split(".")[1]
    for target in sorted(targets):
        name = "".join(target.split(".")[1:2])
        if own == name:
            continue
        name = name if target.removeprefix("ipckit.") not in LAYER else target[len("ipckit.") :]
        is_page = name not in LAYER
        if own not in LAYER:  # a page, __init__, __main__ or the plugin for mypy
            allowed = not is_page or own.startswith("__")
        elif own in TOOLS:
            allowed = is_page or name in frozenset().union(*LAYERS[: LAYER["_core"] + 1])
        else:
            allowed = not is_page and LAYER[name] < LAYER[own]
        if not allowed or target == "ipckit":
            found.append(f"{module} must not import {target}")
    return found


@pytest.fixture
def graph(repository: Path) -> dict[str, set[str]]:
    """Each module of the package with those that it imports."""
    paths = [*(repository / "ipckit").rglob("*.py"), repository / "ipckit/_native.pyi"]
    names = {
        ".".join(path.relative_to(repository).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }
    return {name: imports(path.read_text(), set(names)) for name, path in names.items()}


def test_modules_import_from_lower_layers_only(graph: dict[str, set[str]]) -> None:
    assert "ipckit._channel.channel" in graph
    modules = {name: targets for name, targets in graph.items() if name != "ipckit"}
    assert [
        line for module, targets in modules.items() for line in complaints(module, targets)
    ] == []


def test_no_modules_import_each_other(graph: dict[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(" imports ".join(reversed(exc.args[1])))


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("ipckit.errors", "ipckit._core.handle"),
        ("ipckit._core.handle", "ipckit._msgq.sysv"),
        ("ipckit._msgq.sysv", "ipckit._shm.memory"),
        ("ipckit._msgq.sysv", "ipckit.structs"),
        ("ipckit._core.sysv", "ipckit"),
        ("ipckit.msgq", "ipckit.shm"),
        ("ipckit._cli.main", "ipckit._inventory.model"),
        ("ipckit._inventory.remove", "ipckit._sem.stat"),
    ],
)
def test_an_import_from_elsewhere_is_seen(module: str, target: str) -> None:
    assert complaints(module, {target}) == [f"{module} must not import {target}"]


def test_no_c_file_is_too_long(repository: Path) -> None:
    lengths = {
        str(path.relative_to(repository)): len(path.read_text().splitlines())
        for path in (repository / "native").rglob("*.[ch]")
    }
    assert len(lengths) > 50
    assert {path: lines for path, lines in lengths.items() if lines > C_LINES} == {}
