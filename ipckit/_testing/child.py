"""Child: Python code in a fresh interpreter, in step with the test that started it."""

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
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, Self

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

# How long a child may take over SIGTERM before it gets SIGKILL: seconds.
_GRACE: Final = 5.0


@public("ipckit.testing")
class ChildFailed(AssertionError):  # noqa: N818 - named like ipckit's other errors
    """A child did not do what the test asked; the message shows its output and status."""


def status_text(status: int | None) -> str:
    """An exit status in words.

    Args:
        status: as `subprocess.Popen.returncode` has it: None while it runs, below 0 a signal.

    Returns:
        Such as ``"exit status 1"`` or ``"killed by SIGKILL"``.
    """
    if status is None:
        return "running"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


@public("ipckit.testing")
class Child:
    """Python code in a fresh interpreter, never a fork of this one.

    The child takes steps with this process through two pipes: what one side
    tells, the other hears, in that order. In the child, ``from ipckit.testing
    import step``. Its exit status is the verdict: leaving the ``with`` block
    waits for it and raises unless it is 0, or unless this side killed or
    terminated the child. Where the block raises, the child is put away and its
    output is added to the exception. The child leads a process group, and what
    is left of that group is killed with it.

    In the child ``args`` holds the arguments as they were given and ``sys.argv``
    as text; the value of its global ``result`` at the end is `result` here.

    Args:
        code: Python source (dedented), or the path of a script.
        args: whatever pickles. It is unpickled before the user changes.
        sandbox: namespaces of the child's own; takes root.
        user: become this user before the code runs, inside the interpreter, so
            that it need not be able to reach Python itself; takes root.
        imports: modules to import before that.
        env: environment variables on top of this process's.
        cwd: the directory to start in; by default this process's.
        options: options of the interpreter; by default warnings are errors.

    Raises:
        PermissionError: a sandbox without root.
        OSError: no process or descriptor to be had.
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
        """A child that calls one function; what it returns is `result`.

        Args:
            function: where it is, as ``"package.module:function"``.
            args: what it is called with; whatever pickles.
            sandbox: see `Child`.
            user: see `Child`.
            imports: see `Child`.
            env: see `Child`.
            cwd: see `Child`.
            options: see `Child`.

        Returns:
            The child, started.

        Raises:
            PermissionError: a sandbox without root.
            OSError: no process or descriptor to be had.
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
        # Files, not pipes: a child that prints a lot must not wait for a reader.
        out = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes them
        err = tempfile.TemporaryFile()  # noqa: SIM115
        self._outputs: dict[str, IO[bytes]] = {"stdout": out, "stderr": err}
        self._ends: list[Connection[Any, Any]] = [hear, tell]
        self._hear, self._tell = hear, tell
        self._heard: deque[tuple[str, Any]] = deque()
        self._result: list[Any] = []
        self._last_words: dict[str, str] = {}
        self._judged = False
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
            with suppress(BrokenPipeError):  # a child that died at once is reported by `wait`
                tell.send(task)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id; the child's own, in a sandbox too."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, below 0 for a signal, or None until the child was waited for."""
        return self._process.returncode

    @property
    def status(self) -> str:
        """The exit status in words: ``"killed by SIGKILL"``."""
        return status_text(self.returncode)

    @property
    def stdout(self) -> str:
        """What the child has written to its standard output so far."""
        return self._output("stdout")

    @property
    def stderr(self) -> str:
        """What the child has written to its standard error so far."""
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
        """The child's result; waits for its end, which must be exit status 0.

        Raises:
            ChildFailed: it ended otherwise, or not within 30 s.
        """
        self.wait()
        return self._result[0] if self._result else None

    def report(self) -> str:
        """Status and output in lines, for a message."""
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
        """Take in one message, or learn of the child's end: False where neither came in time."""
        # The pidfd too: a grandchild can hold the pipe open after the child is gone.
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
            # Before the wait: until then the zombie keeps the group's number from being reused.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def tell(self, value: object) -> None:
        """Tell the child, which takes it with ``step.expect`` or ``step.hear``.

        Args:
            value: anything that pickles; most often a word such as ``"go"``.

        Raises:
            ChildFailed: the child is gone.
        """
        try:
            self._tell.send(value)
        except BrokenPipeError:
            self._exited(_GRACE)
            self._fail(f"nobody is there to be told {value!r}")

    def hear(self, timeout: float = 30.0) -> Any:
        """What the child tells next.

        Args:
            timeout: seconds, 0 or more.

        Returns:
            The value given to ``step.tell``.

        Raises:
            ChildFailed: the child ended first, or told nothing in time.
        """
        end = time.monotonic() + timeout
        while not self._heard:
            if self._process.returncode is not None:
                self._fail("the child ended where its next step was due")
            if not self._listen(max(0.0, end - time.monotonic())):
                self._fail(f"the child told nothing for {timeout} s")
        return self._heard.popleft()[1]

    def expect(self, value: object, timeout: float = 30.0) -> None:
        """Wait for the child's next word, which must be this one.

        Args:
            value: what the child must tell.
            timeout: seconds, 0 or more.

        Raises:
            ChildFailed: it told something else, ended first, or told nothing in time.
        """
        try:
            heard = self.hear(timeout)
        except ChildFailed as exc:
            exc.add_note(f"{value!r} was due")
            raise
        if heard != value:
            self._fail(f"the child told {heard!r} where {value!r} was due")

    def wait_blocked(self, *names: str, timeout: float = 30.0) -> None:
        """Wait until a thread of the child sleeps inside one of some system calls.

        Args:
            names: as `ipckit.testing.wait_blocked` takes them: ``"msgrcv"``.
            timeout: seconds, 0 or more.

        Raises:
            ChildFailed: the child ended, or no thread slept there in time.
            ValueError: no name, or one that is not known.
            NotImplementedError: a machine whose numbers are not known.
            PermissionError: this process may not look.
        """
        try:
            wait_blocked(self.pid, *names, timeout=timeout)
        except (ProcessLookupError, TimeoutError) as exc:
            if isinstance(exc, ProcessLookupError):
                self._exited(_GRACE)
            self._fail(str(exc))

    def _exited(self, timeout: float) -> bool:
        """Whether the child ends within some seconds; it is reaped then."""
        end = time.monotonic() + timeout
        while self._process.returncode is None:
            if not self._listen(max(0.0, end - time.monotonic())):
                return False
        # What it told before it ended is still in the pipe.
        while not self._hear.closed and self._hear.poll(0):
            self._listen(0)
        return True

    def wait(self, timeout: float = 30.0, *, expect: int | None = 0) -> int:
        """Wait for the child's end, and judge its exit status.

        Args:
            timeout: seconds, 0 or more.
            expect: the status that is right; ``-signal.SIGTERM`` for a signal, None for any.

        Returns:
            The exit status, below 0 for a signal.

        Raises:
            ChildFailed: another status, or no end in time; the child then still runs.
        """
        if not self._exited(timeout):
            self._fail(f"the child did not end within {timeout} s")
        self._judged = True
        status = self._process.returncode
        if expect is not None and status != expect:
            self._fail(f"{status_text(status)} where {status_text(expect)} was due")
        return status

    def send_signal(self, number: int) -> None:
        """Send the child a signal; what it does with it is still judged.

        Args:
            number: such as ``signal.SIGINT``; sent to the child alone, not its group.
        """
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Send SIGTERM; the exit status is then the caller's to judge."""
        self._judged = True
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL, and wait until the child is gone.

        Raises:
            ChildFailed: it was still there after 30 s.
        """
        self._judged = True
        self._process.kill()
        self.wait(expect=None)

    def finish(self) -> None:
        """Judge the child unless that was done, and put it away; as leaving ``with``.

        Raises:
            ChildFailed: an exit status other than 0, or no end within 30 s.
        """
        try:
            if not self._judged and not self._closed:
                self.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Put the child away: terminate it, kill it where that takes over 5 s, close all.

        Idempotent. Its status and output can still be read.
        """
        if self._closed:
            return
        self._closed = True
        try:
            if self._process.returncode is None:
                self._process.terminate()
                # A stopped process takes a signal other than SIGKILL only when it goes on.
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
