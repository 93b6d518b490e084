"""Child: Python code in a new interpreter, coordinated with the test that started it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, Self, final

from ipckit._core.public import public
from ipckit._testing.step import Task
from ipckit._testing.syscalls import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from multiprocessing.connection import Connection
    from types import TracebackType

    from ipckit._testing.sandbox import Sandbox

_BOOT: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from ipckit._testing.step import main; main()"
)

# Seconds between SIGTERM and SIGKILL for a child that does not exit.
_GRACE: Final = 5.0


@public("ipckit.testing")
class ChildFailed(AssertionError):  # noqa: N818 - named like ipckit's other errors
    """A child did not do what the test expected; the message has its status and output.

    Example:
        >>> from ipckit.testing import Child, ChildFailed
        >>> try:
        ...     with Child("raise SystemExit(3)"):
        ...         pass
        ... except ChildFailed as exc:
        ...     "exit status 3" in str(exc)
        True
    """


def status_text(status: int | None) -> str:
    """Return an exit status in words.

    Args:
        status: a value of `subprocess.Popen.returncode`: None while it runs, below 0 a signal.

    Returns:
        A text such as ``"exit status 1"`` or ``"killed by SIGKILL"``.
    """
    if status is None:
        return "running"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


@final
@public("ipckit.testing")
class Child:
    """Python code in a new interpreter, not a fork of this one.

    The test and the child exchange values through two pipes. In the child, use ``from
    ipckit.testing import step``, then ``step.tell``, ``step.hear`` and ``step.expect``. Here, use
    the methods of the same names.

    The end of the ``with`` block waits for the child. It raises `ChildFailed` if the exit status
    is not 0, unless this process killed or terminated the child. If the block itself raises, the
    child is terminated, and its output is added to the exception. The child leads a process group;
    what remains of the group is killed with it.

    In the child, the global ``args`` has the arguments, and ``sys.argv`` has them as text. The
    value of the child's global ``result`` at its end is `result` here.

    Args:
        code: Python source, which is dedented; or the path of a script.
        args: values that can be pickled. They are unpickled before the user changes.
        sandbox: run the child in separate namespaces; requires root.
        user: change to this user before the code runs; requires root. The change happens inside
            the interpreter, so the user needs no access to Python itself.
        imports: modules to import before the user changes.
        env: environment variables to add to those of this process.
        cwd: the working directory; by default that of this process.
        options: options of the interpreter; by default warnings are errors.

    Raises:
        PermissionError: `sandbox` without root.
        OSError: no process or descriptor can be created.

    Example:
        >>> code = "from ipckit.testing import step; step.expect('go'); result = 6 * 7"
        >>> with Child(code) as child:
        ...     child.tell("go")
        ...     child.result
        42
    """

    def __init__(
        self,
        code: str | Path,
        *args: object,
        sandbox: Sandbox | None = None,
        user: str | None = None,
        imports: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        options: Sequence[str] = ("-W", "error", "-X", "faulthandler"),
    ) -> None:
        kind = "script" if isinstance(code, Path) else "source"
        target = str(code.absolute()) if isinstance(code, Path) else code
        task = Task(kind, target, args, tuple(imports), user)
        self._start(task, sandbox=sandbox, env=env, cwd=cwd, options=options)

    @classmethod
    def call(
        cls,
        function: str,
        *args: object,
        sandbox: Sandbox | None = None,
        user: str | None = None,
        imports: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        options: Sequence[str] = ("-W", "error", "-X", "faulthandler"),
    ) -> Self:
        """Start a child that calls one function. The return value is `result`.

        Args:
            function: the function, as ``"package.module:function"``.
            args: the arguments; values that can be pickled.
            sandbox: see `Child`.
            user: see `Child`.
            imports: see `Child`.
            env: see `Child`.
            cwd: see `Child`.
            options: see `Child`.

        Returns:
            The child, which is running.

        Raises:
            PermissionError: `sandbox` without root.
            OSError: no process or descriptor can be created.

        Example:
            >>> with Child.call("math:sqrt", 2.25) as child:
            ...     child.result
            1.5
        """
        child = cls.__new__(cls)
        task = Task("call", function, args, tuple(imports), user)
        child._start(task, sandbox=sandbox, env=env, cwd=cwd, options=options)  # noqa: SLF001
        return child

    def _start(
        self,
        task: Task,
        *,
        sandbox: Sandbox | None,
        env: Mapping[str, str] | None,
        cwd: str | Path | None,
        options: Sequence[str],
    ) -> None:
        hear, child_tells = connection.Pipe(duplex=False)
        child_hears, tell = connection.Pipe(duplex=False)
        ends = (child_hears.fileno(), child_tells.fileno())
        search = json.dumps([str(Path(entry).absolute()) for entry in sys.path])
        argv = [sys.executable, *options, "-c", _BOOT, search, *map(str, ends)]
        # Files, not pipes, so that a child that prints a lot does not wait for a reader.
        out = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes them
        err = tempfile.TemporaryFile()  # noqa: SIM115
        self._outputs: dict[str, IO[bytes]] = {"stdout": out, "stderr": err}
        self._ends: list[Connection[Any, Any]] = [hear, tell]
        self._hear, self._tell = hear, tell
        self._heard: deque[tuple[str, Any]] = deque()
        self._result: list[Any] = []
        self._last_words: dict[str, str] = {}
        self._checked = False
        self._closed = False
        self._pidfd = -1
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the test's own code
                argv if sandbox is None else sandbox.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=ends,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                process_group=0,
            )
        except BaseException:
            self._close_files()
            raise
        finally:
            child_hears.close()
            child_tells.close()
        try:
            self._pidfd = os.pidfd_open(self.pid)
            with suppress(BrokenPipeError):  # `wait` reports a child that exited at once
                tell.send(task)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id of the child, also in a sandbox."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, below 0 for a signal; None until the child was waited for."""
        return self._process.returncode

    @property
    def status(self) -> str:
        """The exit status in words: ``"killed by SIGKILL"``."""
        return status_text(self.returncode)

    @property
    def stdout(self) -> str:
        """The child's standard output until now."""
        return self._output("stdout")

    @property
    def stderr(self) -> str:
        """The child's standard error until now."""
        return self._output("stderr")

    def _output(self, name: str) -> str:
        file = self._outputs[name]
        if file.closed:
            return self._last_words[name]
        # pread, because the child shares the file's position.
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), size, 0).decode(errors="replace")

    @property
    def result(self) -> Any:
        """The child's result. Waits until the child exits, which must be with status 0.

        Raises:
            ChildFailed: another exit status, or the child did not exit within 30 s.
        """
        self.wait()
        return self._result[0] if self._result else None

    def report(self) -> str:
        """Return the status and the output as lines, for a message."""
        lines = [f"child {self.pid}: {self.status}"]
        for name in ("stdout", "stderr"):
            text = self._output(name)
            if text:
                lines.append(f"--- {name} ---\n{text.rstrip()}")
        return "\n".join(lines)

    def _fail(self, what: str) -> NoReturn:
        message = f"{what}\n{self.report()}"
        raise ChildFailed(message) from None

    def _listen(self, timeout: float) -> bool:
        """Receive one value or notice the child's exit; return False if neither came in time."""
        # Wait for the pidfd too, because a grandchild can keep the pipe open after the child exits.
        sources: list[Any] = [self._pidfd] if self._hear.closed else [self._hear, self._pidfd]
        ready = connection.wait(sources, timeout)
        if self._hear in ready:
            try:
                kind, value = self._hear.recv()
            except EOFError:
                self._hear.close()
            else:
                if kind == "result":
                    self._result.append(value)
                else:
                    self._heard.append((kind, value))
        elif self._pidfd in ready:
            self._reap()
        return bool(ready)

    def _reap(self) -> None:
        if self._process.returncode is None:
            # Before the wait: until then the zombie prevents the reuse of the group's id.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def tell(self, value: object) -> None:
        """Send a value to the child, which receives it with ``step.expect`` or ``step.hear``.

        Args:
            value: a value that can be pickled, usually a word such as ``"go"``.

        Raises:
            ChildFailed: the child has exited.
        """
        try:
            self._tell.send(value)
        except BrokenPipeError:
            self._exited(_GRACE)
            self._fail(f"could not send {value!r}: the child has exited")

    def hear(self, timeout: float = 30.0) -> Any:
        """Receive the next value from the child.

        Args:
            timeout: seconds, 0 or more; by default 30.

        Returns:
            The value that the child passed to ``step.tell``.

        Raises:
            ChildFailed: the child exited first, or sent nothing in time.
        """
        end = time.monotonic() + timeout
        while not self._heard:
            if self._process.returncode is not None:
                self._fail("the child exited before it sent a value")
            if not self._listen(max(0.0, end - time.monotonic())):
                self._fail(f"the child sent nothing for {timeout} s")
        return self._heard.popleft()[1]

    def expect(self, value: object, timeout: float = 30.0) -> None:
        """Receive the next value from the child, and check it.

        Args:
            value: the expected value.
            timeout: seconds, 0 or more; by default 30.

        Raises:
            ChildFailed: the child sent another value, exited first, or sent nothing in time.
        """
        try:
            heard = self.hear(timeout)
        except ChildFailed as exc:
            exc.add_note(f"expected {value!r}")
            raise
        if heard != value:
            self._fail(f"expected {value!r} from the child, got {heard!r}")

    def wait_blocked(self, *names: str, timeout: float = 30.0) -> None:
        """Wait until a thread of the child sleeps in one of the named system calls.

        Args:
            names: system calls such as ``"msgrcv"``; see `ipckit.testing.wait_blocked`.
            timeout: seconds, 0 or more; by default 30.

        Raises:
            ChildFailed: the child exited, or no thread slept in such a call in time.
            ValueError: no name was given, or one is not known.
            NotImplementedError: ipckit does not know the system call numbers of this machine.
            PermissionError: this process may not trace the child.
        """
        try:
            wait_blocked(self.pid, *names, timeout=timeout)
        except (ProcessLookupError, TimeoutError) as exc:
            if isinstance(exc, ProcessLookupError):
                self._exited(_GRACE)
            self._fail(str(exc))

    def _exited(self, timeout: float) -> bool:
        """Return whether the child exits within some seconds, and reap it."""
        end = time.monotonic() + timeout
        while self._process.returncode is None:
            if not self._listen(max(0.0, end - time.monotonic())):
                return False
        # The values that it sent before it exited are still in the pipe.
        while not self._hear.closed and self._hear.poll(0):
            self._listen(0)
        return True

    def wait(self, timeout: float = 30.0, *, expect: int | None = 0) -> int:
        """Wait until the child exits, and check its exit status.

        Args:
            timeout: seconds, 0 or more; by default 30.
            expect: the expected status, by default 0; ``-signal.SIGTERM`` for a signal; None for
                any status.

        Returns:
            The exit status, below 0 for a signal.

        Raises:
            ChildFailed: another status; or the child did not exit in time, and is still running.
        """
        if not self._exited(timeout):
            self._fail(f"the child did not exit within {timeout} s")
        self._checked = True
        status = self._process.returncode
        if expect is not None and status != expect:
            self._fail(f"expected {status_text(expect)}, got {status_text(status)}")
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to the child, not to its group. Its exit status is still checked.

        Args:
            number: the signal, such as ``signal.SIGINT``.
        """
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM. The exit status is not checked any more."""
        self._checked = True
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, and wait until the child has exited.

        Raises:
            ChildFailed: it did not exit within 30 s.
        """
        self._checked = True
        self._process.kill()
        self.wait(expect=None)

    def finish(self) -> None:
        """Wait for the child, check its exit status, and close; the ``with`` block calls it.

        Raises:
            ChildFailed: an exit status other than 0, or the child did not exit within 30 s.
        """
        try:
            if not self._checked and not self._closed:
                self.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Terminate the child, kill it if it does not exit within 5 s, and close the pipes.

        Its status and output can still be read. A second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._process.returncode is None:
                self._process.terminate()
                # A stopped process handles SIGTERM only after it is continued.
                self._process.send_signal(signal.SIGCONT)
                if self._pidfd < 0 or not self._exited(_GRACE):
                    self._reap()
        finally:
            self._close_files()

    def _close_files(self) -> None:
        self._last_words = {name: self._output(name) for name in self._outputs}
        for file in self._outputs.values():
            file.close()
        for end in self._ends:
            end.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is None:
            self.finish()
            return
        self.close()
        if not isinstance(exc, ChildFailed):
            exc.add_note(self.report())

    def __repr__(self) -> str:
        return f"<Child {self.pid}, {self.status}>"
