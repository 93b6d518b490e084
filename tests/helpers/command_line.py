"""Several command lines of ipckit, run in one process."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from ipckit import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pytest

    from ipckit.testing import Child

    Result = tuple[int, str, str]

COMMANDS = """
import io, sys
from ipckit import cli
real = sys.stdin, sys.stdout, sys.stderr
result = []
for words in args:
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO()) for _ in range(3))
    status = cli.run(words)
    out, err = sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = real
    out.flush()
    err.flush()
    result.append((status, out.buffer.getvalue().decode(), err.buffer.getvalue().decode()))
"""


def run_commands(
    spawn: Callable[..., Child], lines: Iterable[Sequence[object]], **options: Any
) -> list[Result]:
    """Run command lines in one new process, which `options` may give another user.

    Args:
        spawn: the fixture that starts the process.
        lines: the words of each command line.
        options: options of `Child`.

    Returns:
        The exit status, standard output and standard error of each command line.
    """
    # Another user may be unable to read the modules that a command imports later.
    early = ["json", "rich.table", "ipckit._inventory.remove", "ipckit._inventory.sockets"]
    early += [f"ipckit._cli.commands.{name}" for name in cli.COMMANDS]
    options.setdefault("imports", early if "user" in options else ())
    child = spawn(COMMANDS, *([str(word) for word in line] for line in lines), **options)
    child.wait()
    return [(status, out, err) for status, out, err in child.result]


class Done(NamedTuple):
    """What a command line did that was run in this process."""

    status: int
    out: bytes
    err: str

    @property
    def records(self) -> list[Any]:
        """The lines of JSON that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Terminal(io.TextIOWrapper):
    """An output that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def run_here(
    monkeypatch: pytest.MonkeyPatch, *words: object, text: bytes = b"", terminal: bool = False
) -> Done:
    """Run a command line in this process.

    Args:
        monkeypatch: the fixture.
        words: the words of the command line.
        text: its standard input.
        terminal: whether its standard output is a terminal.
    """
    kind = Terminal if terminal else io.TextIOWrapper
    out, err = kind(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        status = cli.run([str(word) for word in words])
        out.flush()
        err.flush()
    shown: Any = out.buffer
    errors: Any = err.buffer
    return Done(status, shown.getvalue(), errors.getvalue().decode())
