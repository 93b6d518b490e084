"""What the commands import before they start: `--version`, completion, `ls`, and `import ipckit`.

The time to start is that of the imports, and the imports can be compared on a busy machine.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from ipckit import inventory
from ipckit.cli import COMMANDS, main

pytestmark = pytest.mark.usefixtures("exec_only")

# Each takes from 5 to 200 ms to import.
HEAVY = {
    *("asyncio", "clang", "email", "hashlib", "importlib.metadata", "json", "msgspec"),
    *("multiprocessing", "numpy", "rich", "secrets", "subprocess", "tempfile", "textual"),
    *("ipckit._channel", "ipckit._payload", "ipckit._sockets", "ipckit._topic"),
}
RUN = "from ipckit.__main__ import main; sys.argv[0] = 'ipckit'"


def imported(code: str, *words: str, **environment: str) -> tuple[set[str], str]:
    """The modules that code imports, and what it prints."""
    # An editable install imports some modules before.
    code = (
        f"import sys; before = {{*sys.modules}}\n{code}\nprint(); print(*{{*sys.modules}} - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    printed, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return set(modules.split()), printed


def test_the_package_imports_hardly_anything() -> None:
    modules, _ = imported("import ipckit")
    assert modules & (HEAVY | {"click", "dataclasses", "pathlib", "posix_ipc", "sysv_ipc"}) == set()
    own = {name for name in modules if name.startswith("ipckit.")}
    assert own == {"ipckit._native", "ipckit._core", "ipckit._core.lazy_names"}


def test_the_version_needs_no_more_than_click() -> None:
    modules, printed = imported(f"{RUN}; main()", "--version")
    assert printed.startswith("ipckit, version ")
    assert modules & (HEAVY | {"ipckit._inventory", "pathlib", "posix_ipc", "sysv_ipc"}) == set()


def test_a_listing_in_a_pipe_imports_no_package_that_draws_tables() -> None:
    modules, printed = imported(f"{RUN}; main()", "ls", "--kind", "sysv-queue")
    assert printed.startswith("OBJECT")
    assert modules & (HEAVY | {"posix_ipc", "sysv_ipc"}) == set()


def test_a_completion_imports_what_its_kind_needs() -> None:
    modules, _ = imported(
        f"{RUN}\ntry: main()\nexcept SystemExit: pass",
        _IPCKIT_COMPLETE="bash_complete",
        COMP_WORDS="ipckit stat q",
        COMP_CWORD="2",
    )
    assert "ipckit._inventory.sysv" in modules
    unneeded = {"ipckit._inventory.files", "ipckit._inventory.sockets", "ipckit._inventory.remove"}
    assert modules & (HEAVY | unneeded | {"posix_ipc", "sysv_ipc"}) == set()


@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        ("q", ["sysv-queue"]),
        ("mq:/", ["posix-queue"]),
        ("se", ["posix-semaphore"]),
        ("s", ["sysv-semaphores", "posix-segment", "posix-semaphore", "socket"]),
        ("/a", []),
        ("", list(inventory.KINDS)),
    ],
)
def test_a_completion_lists_the_kinds_that_the_word_can_mean(
    word: str, kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def survey(wanted: list[str], **_: bool) -> inventory.Survey:
        asked.append(wanted)
        return inventory.Survey((), (), 0.0)

    monkeypatch.setattr(inventory, "survey", survey)
    ShellComplete(main, {}, "ipckit", "_IPCKIT_COMPLETE").get_completions(["stat"], word)
    assert asked == [kinds]


def test_a_command_is_completed_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "get_command", None)
    shell = ShellComplete(main, {}, "ipckit", "_IPCKIT_COMPLETE")
    assert [each.value for each in shell.get_completions([], "")] == list(COMMANDS)
    (found,) = shell.get_completions([], "lim")
    assert (found.value, found.help) == ("limits", COMMANDS["limits"])
