"""The child's side of `ipckit.testing.Child`: `step`, `drop_privileges`, and the main function."""

from __future__ import annotations

import gc
import importlib
import linecache
import os
import pwd
import runpy
import sys
import textwrap
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipckit._core.lazy_names import import_all
from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# The interpreter imports these late, for a traceback or a pickle. After privileges are dropped, it
# may have no access to their directory.
_NEEDED_LATER: Final = ("pickle", "warnings", "signal", "threading")

SOURCE: Final = "<child>"


class Steps:
    """The child's end of the pipes to the `Child` in the parent process."""

    def __init__(self) -> None:
        self._reader: Connection[Any, Any] | None = None
        self._writer: Connection[Any, Any] | None = None

    def attach(self, reader: int, writer: int) -> None:
        """Use two pipe ends; `main` calls it.

        Args:
            reader: the descriptor to read from.
            writer: the descriptor to write to.
        """
        self._reader = Connection(reader, writable=False)
        self._writer = Connection(writer, readable=False)

    def detach(self) -> None:
        """Close the two pipe ends."""
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()
        self._reader = self._writer = None

    def send(self, kind: str, value: object) -> None:
        """Send one tagged value to the parent.

        Args:
            kind: ``"step"`` or ``"result"``.
            value: a value that can be pickled.

        Raises:
            RuntimeError: this process was not started by `Child`.
            BrokenPipeError: the parent has exited.
        """
        if self._writer is None:
            message = "step works only in a process that ipckit.testing.Child started"
            raise RuntimeError(message)
        self._writer.send((kind, value))

    def tell(self, value: object) -> None:
        """Send a value to the parent, which receives it with `Child.expect` or `Child.hear`.

        Args:
            value: a value that can be pickled, usually a word such as ``"ready"``.

        Raises:
            RuntimeError: this process was not started by `Child`.
            BrokenPipeError: the parent has exited.
        """
        self.send("step", value)

    def hear(self) -> Any:
        """Receive the next value from the parent. Waits without a timeout.

        Returns:
            The value that the parent passed to `Child.tell`.

        Raises:
            RuntimeError: this process was not started by `Child`.
            EOFError: the parent has exited or closed its end.
        """
        if self._reader is None:
            message = "step works only in a process that ipckit.testing.Child started"
            raise RuntimeError(message)
        return self._reader.recv()

    def expect(self, value: object) -> None:
        """Receive the next value from the parent, and check it.

        Args:
            value: the expected value.

        Raises:
            AssertionError: the parent sent another value.
            RuntimeError: this process was not started by `Child`.
            EOFError: the parent has exited or closed its end.
        """
        received = self.hear()
        if received != value:
            message = f"expected {value!r} from the parent, got {received!r}"
            raise AssertionError(message)


step: Final = Steps()


@public("ipckit.testing")
def drop_privileges(user: str = "nobody") -> None:
    """Change this process to another user permanently, by setresuid(2).

    If the other user can't search the directory of the interpreter, later imports from there fail,
    so import first. Some files in ``/proc/self`` become inaccessible.

    Args:
        user: the name of the user; by default ``"nobody"``. The process also gets the user's
            group, and no others.

    Raises:
        LookupError: there is no such user.
        PermissionError: this process is not root.

    Example:
        ``Child("from ipckit.testing import drop_privileges; drop_privileges()")`` runs code as
        nobody. ``Child(code, user="nobody")`` does the same before it runs any code.
    """
    import_all()
    for name in _NEEDED_LATER:
        importlib.import_module(name)
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


@dataclass(frozen=True, slots=True)
class Task:
    """The code that a child runs, as the parent sends it.

    Attributes:
        kind: ``"source"``, ``"call"`` or ``"script"``.
        target: Python source, ``"module:function"``, or a path.
        args: the arguments of the code.
        imports: modules to import first.
        user: the user to change to before the code runs; None to stay the same user.
    """

    kind: str
    target: str
    args: tuple[Any, ...]
    imports: tuple[str, ...]
    user: str | None


def _run_source(task: Task) -> object:
    source = textwrap.dedent(task.target)
    # Let a traceback from the child show the source lines, as it does for a file.
    linecache.cache[SOURCE] = (len(source), None, source.splitlines(keepends=True), SOURCE)
    sys.argv = [SOURCE, *map(str, task.args)]
    scope = vars(sys.modules["__main__"])
    scope["args"] = task.args
    exec(compile(source, SOURCE, "exec"), scope)  # noqa: S102 - the test's own code
    return scope.get("result")


def _run_script(task: Task) -> object:
    sys.argv = [task.target, *map(str, task.args)]
    sys.path.insert(0, str(Path(task.target).parent))
    return runpy.run_path(task.target, run_name="__main__").get("result")


def _find(path: str) -> Callable[..., object]:
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _print_exception(
    _kind: type[BaseException], exc: BaseException, _trace: TracebackType | None
) -> None:
    # The interpreter's own hook shows source lines of files only.
    traceback.print_exception(exc)


def main() -> None:
    """Run the task that the parent sends, and send the result back.

    The last two arguments of the command line are the descriptors of the pipes.

    Raises:
        SystemExit: a finalizer raised. With ``-W error``, a leaked handle does that.
    """
    unraised: list[str] = []
    report = sys.unraisablehook

    def note(event: sys.UnraisableHookArgs) -> None:
        # Keep only the text. Keeping the object would resurrect it.
        unraised.append(f"{event.exc_type.__name__}: {event.exc_value}")
        report(event)

    sys.unraisablehook = note
    sys.excepthook = _print_exception
    reader, writer = int(sys.argv[-2]), int(sys.argv[-1])
    step.attach(reader, writer)
    task: Task = step.hear()
    for name in task.imports:
        importlib.import_module(name)
    function = _find(task.target) if task.kind == "call" else None
    if task.user is not None:
        drop_privileges(task.user)
    if function is not None:
        result = function(*task.args)
    elif task.kind == "script":
        result = _run_script(task)
    else:
        result = _run_source(task)
    step.send("result", result)
    # Find leaks in reference cycles now, before the exit status is decided.
    del result, function, task
    gc.collect()
    step.detach()
    if unraised:
        raise SystemExit("exceptions in finalizers: " + "; ".join(unraised))
