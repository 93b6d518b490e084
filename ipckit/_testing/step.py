"""The child's side of `ipckit.testing.Child`: steps, dropped privileges, and its main."""

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

from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

# What the interpreter itself loads late, on the way to a traceback or a pickle: after privileges
# are dropped its directory may be out of reach.
_NEEDED_LATER: Final = ("pickle", "warnings", "signal", "threading")

SOURCE: Final = "<child>"


class Steps:
    """The child's end of the pipes to its `Child`: the two take steps in turn."""

    def __init__(self) -> None:
        self._reader: Connection[Any, Any] | None = None
        self._writer: Connection[Any, Any] | None = None

    def attach(self, reader: int, writer: int) -> None:
        """Take over the two pipe ends; `Child` arranges it.

        Args:
            reader: the descriptor to hear from.
            writer: the descriptor to tell to.
        """
        self._reader = Connection(reader, writable=False)
        self._writer = Connection(writer, readable=False)

    def detach(self) -> None:
        """Close the two pipe ends; the parent hears no more from this process."""
        for end in (self._reader, self._writer):
            if end is not None:
                end.close()
        self._reader = self._writer = None

    def send(self, kind: str, value: object) -> None:
        """Send one tagged value to the parent.

        Args:
            kind: ``"step"`` or ``"result"``.
            value: anything that pickles.

        Raises:
            RuntimeError: this process was not started by `Child`.
            BrokenPipeError: the parent is gone.
        """
        if self._writer is None:
            message = "step works only in a process that ipckit.testing.Child started"
            raise RuntimeError(message)
        self._writer.send((kind, value))

    def tell(self, value: object) -> None:
        """Tell the parent, which takes it with `Child.expect` or `Child.hear`.

        Args:
            value: anything that pickles; most often a word such as ``"ready"``.

        Raises:
            RuntimeError: this process was not started by `Child`.
            BrokenPipeError: the parent is gone.
        """
        self.send("step", value)

    def hear(self) -> Any:
        """Wait for what the parent tells next, for as long as the parent lives.

        Returns:
            The value given to `Child.tell`.

        Raises:
            RuntimeError: this process was not started by `Child`.
            EOFError: the parent is gone or has closed its end.
        """
        if self._reader is None:
            message = "step works only in a process that ipckit.testing.Child started"
            raise RuntimeError(message)
        return self._reader.recv()

    def expect(self, value: object) -> None:
        """Wait for the parent's next word, which must be this one.

        Args:
            value: what the parent must tell.

        Raises:
            AssertionError: it told something else.
            RuntimeError: this process was not started by `Child`.
            EOFError: the parent is gone or has closed its end.
        """
        heard = self.hear()
        if heard != value:
            message = f"the parent told {heard!r} where {value!r} was due"
            raise AssertionError(message)


step: Final = Steps()


@public("ipckit.testing")
def drop_privileges(user: str = "nobody") -> None:
    """Become another user for good, in this process; stands on setresuid(2).

    An interpreter in a directory that the other user cannot enter goes on
    working, but imports nothing more from there: import first. Afterwards some
    files of this process's own ``/proc/self`` are closed to it.

    Args:
        user: the name of the user to become; its own group comes with it.

    Raises:
        LookupError: no such user.
        PermissionError: this process is not root.
    """
    for name in _NEEDED_LATER:
        importlib.import_module(name)
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)


@dataclass(frozen=True, slots=True)
class Task:
    """What a child is to run, as its parent sends it.

    Attributes:
        kind: ``"source"``, ``"call"`` or ``"script"``.
        target: Python source, ``"module:function"``, or a path.
        args: what the code gets.
        imports: modules to import before anything else.
        user: whom to become before the code runs, or None to stay.
    """

    kind: str
    target: str
    args: tuple[Any, ...]
    imports: tuple[str, ...]
    user: str | None


def _run_source(task: Task) -> object:
    source = textwrap.dedent(task.target)
    # So that a traceback from the child shows the lines, as it would for a file.
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
    # The interpreter's own hook knows no source but files'.
    traceback.print_exception(exc)


def main() -> None:
    """Run the task that comes through the pipe, and send its result back.

    The last two arguments of the command line are the descriptors of the pipes.

    Raises:
        SystemExit: a finaliser raised; with ``-W error`` that is how a leak shows.
    """
    unraised: list[str] = []
    report = sys.unraisablehook

    def note(event: sys.UnraisableHookArgs) -> None:
        # The text only: keeping the object would bring it back to life.
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
    # A leak among objects that refer to each other would otherwise show after the verdict.
    del result, function, task
    gc.collect()
    step.detach()
    if unraised:
        raise SystemExit("raised where nobody could catch it: " + "; ".join(unraised))
