"""Several command lines of ipckit, run in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipckit import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

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
