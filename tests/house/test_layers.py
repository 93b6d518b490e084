"""The house has floors: a module imports from lower ones only, and stays small."""

from __future__ import annotations

import ast
import importlib.util
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# From the ground up. The modules of one row know nothing of each other; a module that grew a
# private helper has the helper on the row below its own.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_lazy", "_native", "_text"}),
    frozenset({"errors", "_arguments", "_dtypes", "_meaning"}),
    frozenset({"_deadline", "_descriptor", "_entry", "keys"}),
    frozenset({"_handle"}),
    frozenset({"_ctype", "_cpp"}),
    frozenset({"_fields", "_cexpr"}),
    frozenset({"_plan"}),
    frozenset({"_cparse"}),
    frozenset({"structs"}),
    frozenset({"codec"}),
    frozenset({"_typing", "_limits", "_peers", "_process"}),
    frozenset({"_files", "_making"}),
    frozenset({"_sysv"}),
    frozenset({"_fd_rights", "_trust"}),
    frozenset({"_shared_struct", "_shm_file", "_shm_mark", "_shm_stat"}),
    frozenset({"_shm_base", "_sem_stat", "_sem_posix", "_sem_order"}),
    frozenset({"_sem_errors"}),
    frozenset({"_sem_init"}),
    frozenset({"_sem_sysv"}),
    frozenset({"_sem_lock"}),
    frozenset({"_sem_sync"}),
    frozenset({"_shm_mapped", "_shm_memfd", "_shm_posix", "_shm_sysv"}),
    frozenset(
        {"_msgq_base", "_msgq_descriptor", "_msgq_notify", "_msgq_posix_errors", "_msgq_stat"}
    ),
    frozenset({"_msgq_sysv_errors", "_msgq_posix_object"}),
    frozenset({"_msgq_sysv_object", "_msgq_posix"}),
    frozenset({"_msgq_sysv"}),
    frozenset({"_framing_rules", "_sock_io", "_unix_address", "_unix_packet"}),
    frozenset({"_unix_base", "_unix_control", "_unix_records"}),
    frozenset({"_unix_messages"}),
    frozenset({"_unix_socket"}),
    frozenset({"_unix_listener"}),
    frozenset({"framing", "msgq", "sem", "shm", "unixsock"}),
    frozenset({"_channel_errors", "_channel_facts", "_channel_file", "_channel_options"}),
    frozenset({"_channel_slots"}),
    frozenset({"_channel_object"}),
    frozenset({"_channel"}),
    frozenset({"_queue_feeder", "_queue_pickle", "_queue_spill"}),
    frozenset({"_process_queue"}),
    frozenset({"channel"}),
    frozenset({"_aio_loop"}),
    frozenset({"_aio_line"}),
    frozenset({"_aio_face"}),
    frozenset({"_aio_channel", "_aio_queues", "_aio_sems", "_aio_sockets"}),
    frozenset({"aio"}),
    frozenset({"_testing_step", "_testing_syscalls", "_testing_sandbox"}),
    frozenset({"_testing_children"}),
    frozenset({"_inventory_model", "_inventory_elf", "_inventory_parse"}),
    frozenset({"_inventory_diag", "_inventory_judge", "_inventory_known", "_inventory_proc"}),
    frozenset({"_inventory_files", "_inventory_sockets", "_inventory_sysv"}),
    frozenset({"_inventory_remove"}),
    frozenset({"inventory", "testing"}),
    frozenset({"_header", "_limits_table", "_doctor_model", "_top_model"}),
    frozenset({"_doctor_host", "_doctor_waits"}),
    frozenset({"_doctor"}),
    frozenset({"_cli_common", "_cli_hexdump", "_cli_memory"}),
    frozenset({"_cli_payload", "_cli_show", "_cli_top_app"}),
    frozenset({"_cli_options"}),
    frozenset(
        {
            "_cli_completion",
            "_cli_doctor",
            "_cli_dump",
            "_cli_gc",
            "_cli_header",
            "_cli_limits",
            "_cli_ls",
            "_cli_peek",
            "_cli_recv",
            "_cli_rm",
            "_cli_send",
            "_cli_stat",
            "_cli_top",
        }
    ),
    frozenset({"cli", "mypy_plugin"}),
    frozenset({"__init__"}),
    frozenset({"__main__"}),
)
FLOOR = {module: floor for floor, row in enumerate(LAYERS) for module in row}
# These stand on what users have: public names, apart from their own helpers.
TOOLS = {"inventory", "cli", "testing"}
SHARED = {"_text"}  # what every message that names an object needs

MODULE_LINES = 500
C_LINES = 350


def imported(source: str, modules: set[str]) -> Iterator[tuple[str, str]]:
    """Each module of ipckit that a source imports, with the name taken from it, or "".

    What only annotations need is left out: at run time it is not imported.
    """
    tree = ast.parse(source)
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "ipckit":
                    yield (parts[1] if len(parts) > 1 else "__init__"), ""
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level == 1:
                parts = ["ipckit", *parts]
            if not parts or parts[0] != "ipckit":
                continue
            for alias in node.names:
                if len(parts) > 1:
                    yield parts[1], alias.name
                elif alias.name in modules:
                    yield alias.name, ""
                else:
                    yield "__init__", alias.name


def complaints(module: str, source: str, floors: dict[str, int]) -> list[str]:
    """What a module imports that it may not."""
    if module not in floors:
        return [f"{module} has no layer yet: give it a row in this file"]
    found: list[str] = []
    for target, name in imported(source, set(floors)):
        if target not in floors:
            found.append(f"{module} imports {target}, which has no layer")
        elif floors[target] >= floors[module]:
            found.append(f"{module} imports {target}, which is no layer below it")
        elif module in TOOLS:
            helper = target.startswith(f"_{module}")
            if target.startswith("_") and not helper and target not in SHARED:
                found.append(f"{module} imports {target}, which is private")
            if name.startswith("_") and not helper:
                found.append(f"{module} imports {target}.{name}, which is private")
    return found


def sources(repository: Path) -> dict[str, str]:
    """Each module of the package by name, a subpackage's by the subpackage's name too."""
    package = repository / "ipckit"
    return {
        ".".join(path.relative_to(package).with_suffix("").parts): path.read_text()
        for path in sorted(package.rglob("*.py"))
    }


def test_modules_import_from_lower_layers_only(repository: Path) -> None:
    modules = sources(repository)
    assert {"errors", "_handle", "testing"} <= modules.keys()
    found = [line for module, text in modules.items() for line in complaints(module, text, FLOOR)]
    assert found == []


def test_no_module_is_in_two_layers() -> None:
    assert len(FLOOR) == sum(map(len, LAYERS))


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("errors", "from ipckit import msgq", "imports msgq, which is no layer below"),
        ("errors", "from ipckit.msgq import X", "imports msgq, which is no layer below"),
        ("errors", "import ipckit.msgq", "imports msgq, which is no layer below"),
        ("errors", "from .msgq import X", "imports msgq, which is no layer below"),
        ("errors", "from . import msgq", "imports msgq, which is no layer below"),
        ("errors", "def f():\n    import ipckit", "imports __init__, which is no layer below"),
        ("msgq", "from ipckit.shm import X", "imports shm, which is no layer below"),
        ("msgq", "from ipckit.nowhere import X", "imports nowhere, which has no layer"),
        ("nowhere", "", "nowhere has no layer yet"),
        ("cli", "from ipckit._handle import Handle", "imports _handle, which is private"),
        ("inventory", "from ipckit.msgq import _x", "imports msgq._x, which is private"),
    ],
)
def test_a_breach_is_seen(module: str, source: str, complaint: str) -> None:
    found = complaints(module, source, FLOOR)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("msgq", "import os\nfrom ipckit import errors\nfrom ipckit._handle import _x"),
        ("testing", "from ipckit._testing_step import step\nfrom ipckit.msgq import X"),
        ("errors", "if TYPE_CHECKING:\n    from ipckit.msgq import X"),
        ("errors", "from ipckitten import msgq\nimport ipckitten.msgq"),
    ],
)
def test_what_is_right_passes(module: str, source: str) -> None:
    assert complaints(module, source, FLOOR) == []


def test_no_file_is_too_long(repository: Path) -> None:
    limits = {"ipckit": (MODULE_LINES, ".py"), "native": (C_LINES, ".c")}
    too_long = {
        str(path.relative_to(repository)): len(path.read_text().splitlines())
        for directory, (limit, suffix) in limits.items()
        for path in sorted((repository / directory).rglob(f"*{suffix}"))
        if len(path.read_text().splitlines()) > limit
    }
    assert too_long == {}


def test_the_native_module_is_where_it_belongs() -> None:
    spec = importlib.util.find_spec("ipckit._native")
    if spec is None:
        pytest.skip("ipckit._native is not built")
    assert spec.origin is not None
    assert ".abi3." in spec.origin
