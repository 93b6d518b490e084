"""Launcher: start the worker processes of a pool.

With the start methods spawn and forkserver, a worker is a `multiprocessing.Process`. With fork, the
pool first forks a *nursery*, a process with one thread, which forks the workers. So a worker that
replaces a dead one is forked from the same state as the first workers, and never from a process
whose other threads may hold locks. See "Contexts and start methods" in Python's documentation of
multiprocessing.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import threading
from contextlib import suppress
from multiprocessing import forkserver
from typing import TYPE_CHECKING, Any, Final, Protocol

from ipckit._core.descriptors import Descriptor
from ipckit._pool.worker import work

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext

    from ipckit._pool.plan import Plan

_REQUEST: Final = struct.Struct("=I")  # the place of the worker to start, or `_END`
_END: Final = 0xFFFFFFFF
_ANSWER: Final = struct.Struct("=Bii")  # the kind of answer, a pid, and an exit code or errno
_STARTED: Final = 0
_EXITED: Final = 1
_FAILED: Final = 2
_UNKNOWN: Final = 1 << 16  # the exit code if SIGCHLD is ignored, because then the kernel reaps
_REAP_SECONDS: Final = 5.0  # a dead process is reaped at once, unless its parent is stopped


class Started(Protocol):
    """A worker process that was started.

    Attributes:
        pid: its process id.
        pidfd: a descriptor that is readable when the process has ended; see pidfd_open(2).
    """

    pid: int
    pidfd: Descriptor

    def exitcode(self) -> int | None:
        """Wait for the end of the process. Return its exit code, or None if it is unknown."""


class Launcher(Protocol):
    """Starts worker processes."""

    def start(self, place: int) -> Started:
        """Start a worker.

        Args:
            place: the index of the worker's record on the board.

        Raises:
            OSError: a process can't be started.
            Exception: the pool's initializer can't be pickled.
        """
        ...

    def close(self) -> None:
        """End the launcher's own process, if there is one. All workers must have ended."""


class _ProcessOf:
    """A worker that is a `multiprocessing.Process`."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self._code: int | None = None
        self.pid: int = process.pid
        self.pidfd = Descriptor(_pidfd(self.pid))

    def exitcode(self) -> int | None:
        for _ in range(10):  # another thread may have reaped it, and not stored the code yet
            if self._code is not None:
                break
            self._process.join(_REAP_SECONDS / 10)
            self._code = self._process.exitcode
            if self._code is not None:
                self._process.close()
        return self._code


class ContextLauncher:
    """Starts workers with a context of multiprocessing, such as spawn."""

    def __init__(self, context: Any, plan: Plan) -> None:
        self._context, self._plan = context, plan

        if context.get_start_method() == "forkserver":
            # Start the server now. In `start`, it would inherit the blocked signals, and so would
            # all its children.
            forkserver.ensure_running()

    def start(self, place: int) -> Started:
        """Start a worker."""
        args = (self._plan, place, self._plan.bells[place])
        process = self._context.Process(target=work, args=args)
        with _signals_blocked():
            process.start()
        try:
            return _ProcessOf(process)
        except OSError:  # no descriptor is free
            process.kill()
            process.join(_REAP_SECONDS)
            raise

    def close(self) -> None:
        """Do nothing."""


class _Child:
    """A worker that the nursery forked."""

    def __init__(self, nursery: Nursery, pid: int, pidfd: int) -> None:
        self._nursery, self.pid, self.pidfd = nursery, pid, Descriptor(pidfd)
        self._generation = nursery.generation
        self._code: int | None = None

    def exitcode(self) -> int | None:
        if self._code is None and self._generation == self._nursery.generation:
            self._code = self._nursery.exitcode_of(self.pid)
        return None if self._code == _UNKNOWN else self._code


class Nursery:
    """Starts workers through the nursery, a process that it forks first.

    Attributes:
        generation: how often the nursery was replaced. A new nursery does not know the exit codes
            of workers that an earlier one has forked.
    """

    def __init__(self, context: Any, plan: Plan) -> None:
        self._context, self._plan = context, plan
        self._lock = threading.Lock()
        self._exits: dict[int, int] = {}
        self.generation = 0
        self._socket, self._process = self._forked()

    def _forked(self) -> tuple[socket.socket, Any]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = self._context.Process(
                target=_tend, args=(self._context, self._plan, ours, theirs)
            )
            try:
                with _signals_blocked():
                    process.start()
            except BaseException:
                ours.close()
                raise
        return ours, process

    def start(self, place: int) -> Started:
        """Start a worker."""
        with self._lock:
            for again in (True, False):
                try:
                    self._socket.send(_REQUEST.pack(place))
                    while True:
                        kind, pid, code, fds = self._receive()
                        if kind != _EXITED:
                            break
                except (ConnectionError, EOFError):
                    # The nursery was killed. Its workers still run. Fork another nursery.
                    if not again:
                        raise
                    self._socket.close()
                    self._socket, self._process = self._forked()
                    self.generation += 1
                else:
                    if kind == _FAILED:
                        raise OSError(code, os.strerror(code))
                    if not fds:  # no descriptor is free; the nursery reaps the worker
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                    return _Child(self, pid, fds[0])
        raise AssertionError

    def exitcode_of(self, pid: int) -> int | None:
        """Return the exit code of a worker that has ended; None if it can't be found out."""
        with self._lock:
            while pid not in self._exits:
                try:
                    waiting = select.poll()  # select(2) takes no descriptor above 1023
                    waiting.register(self._socket, select.POLLIN)
                    if not waiting.poll(_REAP_SECONDS * 1000):
                        return None
                    self._receive()
                except (ConnectionError, EOFError, ValueError):  # one side has closed the socket
                    return None
            return self._exits.pop(pid)

    def _receive(self) -> tuple[int, int, int, list[int]]:
        data, fds, _, _ = socket.recv_fds(self._socket, _ANSWER.size, 1)
        if not data:
            raise EOFError
        kind, pid, code = _ANSWER.unpack(data)
        if kind == _EXITED:
            self._exits[pid] = code
        return kind, pid, code, fds

    def close(self) -> None:
        """End the nursery."""
        with self._lock:
            # Other children of this process may have inherited the socket, so closing it is not
            # enough.
            with suppress(OSError):
                self._socket.send(_REQUEST.pack(_END))
            self._socket.close()
        self._process.join()
        # If SIGCHLD is ignored, multiprocessing never sees the end of the process.
        with suppress(ValueError):
            self._process.close()


def _tend(context: Any, plan: Plan, ours: socket.socket, theirs: socket.socket) -> None:
    """Run the nursery: fork workers when the pool asks for them, and report their exit codes."""
    ours.close()
    ignored = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, plan.mask)
    children: dict[int, Any] = {}
    waiting = select.poll()
    waiting.register(theirs, select.POLLIN)
    pool = Descriptor(_pidfd(plan.pool[0]))
    waiting.register(pool.number, select.POLLIN)
    while True:
        for fd, _ in waiting.poll():
            if fd == pool.number:
                return
            if fd != theirs.fileno():
                waiting.unregister(fd)
                process, pidfd = children.pop(fd)
                process.join()
                pidfd.close()
                code = process.exitcode
                with suppress(OSError):
                    theirs.send(
                        _ANSWER.pack(_EXITED, process.pid, _UNKNOWN if code is None else code)
                    )
                continue
            try:
                data = theirs.recv(_REQUEST.size)
            except OSError:
                data = b""
            place = _REQUEST.unpack(data)[0] if data else _END
            if place == _END:
                return
            process = context.Process(target=_work_in_nursery, args=(plan, place, theirs, ignored))
            try:
                process.start()
            except OSError as exc:
                theirs.send(_ANSWER.pack(_FAILED, 0, exc.errno))
                continue
            pidfd = Descriptor(_pidfd(process.pid))
            children[pidfd.number] = process, pidfd
            waiting.register(pidfd.number, select.POLLIN)
            socket.send_fds(theirs, [_ANSWER.pack(_STARTED, process.pid, 0)], [pidfd.number])


def _work_in_nursery(plan: Plan, place: int, theirs: socket.socket, interrupts: Any) -> None:
    theirs.close()
    signal.signal(signal.SIGINT, interrupts)
    work(plan, place, plan.bells[place])


def _pidfd(pid: int) -> int:
    """Return a pidfd of a process, or another readable descriptor if it was reaped already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        read, write = os.pipe()
        os.close(write)  # the reading end is readable at the end of file
        return read


class _signals_blocked:  # noqa: N801 - used as a function
    """Block signals while a process starts. The process unblocks them after it has set handlers.

    An exception of a signal handler between the handlers of `os.register_at_fork` would leave locks
    held forever. In a program with one thread, blocked signals prevent that.
    """

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def __exit__(self, *_: object) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


def launcher_for(context: BaseContext, plan: Plan) -> Launcher:
    """Return the launcher for a context of multiprocessing."""
    if context.get_start_method() == "fork":
        return Nursery(context, plan)
    return ContextLauncher(context, plan)
