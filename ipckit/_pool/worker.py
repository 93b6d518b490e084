"""Worker: the code of a worker process, which takes jobs from the pool and sends the results."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from concurrent.futures import _base
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.descriptors import identity
from ipckit._core.processes import is_dead
from ipckit._pool.batch import Outcomes
from ipckit._pool.messages import (
    CALL,
    ERROR,
    JOB_HEAD,
    KIND_SHIFT,
    LEAVING,
    NOT_READY,
    NUDGE,
    NUMBER_MASK,
    READY,
    RESULT_HEAD,
    RETURNED,
    STOP,
    VALUE,
    joined,
    opened,
)
from ipckit._pool.remote import replacement, with_traceback
from ipckit.errors import ClosedHandle, IpcError, PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from types import FrameType

    from typing_extensions import Buffer

    from ipckit._channel.in_place import Delivery
    from ipckit._pool.bell import Bell
    from ipckit._pool.plan import Plan

QUIET_SECONDS: Final = 1.0  # after this time, an idle process no longer waits in a channel
_HEAD: Final = JOB_HEAD.size


class Worker:
    """The worker of this process.

    Args:
        plan: the objects that the pool shares with its workers.
        place: the index of this worker's record on the board.
        bell: the bell of this worker.
    """

    def __init__(self, plan: Plan, place: int, bell: Bell) -> None:
        self._plan, self._place, self._bell = plan, place, bell
        self._in_task = False
        self._tasks = 0
        self._spill_file = identity(plan.spill.file.fd)

    def run(self) -> None:
        """Run the initializer, and then jobs until the pool stops this worker or is gone."""
        self._handle_interrupts()
        _end_with(*self._plan.pool)
        if not self._initialize():
            return
        board, place = self._plan.board, self._place
        max_tasks = self._plan.max_tasks
        while True:
            try:
                delivery = self._next_job()
            except PeerGone:
                return
            memory = delivery.buf
            word: int = JOB_HEAD.unpack_from(memory)[0]
            kind, task = word >> KIND_SHIFT, word & NUMBER_MASK
            if kind == STOP:
                delivery.ack()
                return
            if kind == NUDGE:
                delivery.ack()
                continue
            if delivery.redelivered:
                # Only the pool knows whether the dead worker that had this job had begun it.
                self._send([RESULT_HEAD.pack(_word(RETURNED, task), place, 0.0), memory])
                delivery.ack()
                continue
            began = time.monotonic()
            board.begin(place, task, began)
            self._send(self._outcome(kind, task, memory[_HEAD:], began))
            board.end(place)
            delivery.ack()
            del delivery, memory
            if board.is_marked_for_kill(place, task):
                os._exit(0)  # the pool is about to kill this process because of the task
            self._tasks += 1
            if max_tasks is not None and self._tasks >= max_tasks:
                self._send(RESULT_HEAD.pack(_word(LEAVING, 0), place, 0.0))
                return

    def _next_job(self) -> Delivery:
        """Take the next job. Wait for it in the channel for a second, then for the bell."""
        jobs, board, place = self._plan.jobs, self._plan.board, self._place
        wait: float | None = QUIET_SECONDS
        while True:
            try:
                return jobs.take(wait)
            except Timeout:
                pass
            board.sleep(place)
            try:
                with suppress(WouldBlock):
                    return jobs.take(0)
                if not self._bell.wait():
                    wait = None
            finally:
                board.wake(place)

    # -- one task ----------------------------------------------------------------------------------

    def _outcome(
        self, kind: int, task: int, body: memoryview, began: float
    ) -> bytes | list[Buffer]:
        """Run a task, and return the message with its result or exception."""
        try:
            try:
                self._in_task = True
                if kind != CALL:
                    body = memoryview(self._plan.long_jobs.read(bytes(body)))
                fn, args, kwargs = opened(body)
                value = fn(*args, **kwargs)
                self._in_task = False
                seconds = time.monotonic() - began
                head = RESULT_HEAD.pack(_word(VALUE, task), self._place, seconds)
                return self._success(head, value)
            finally:
                self._in_task = False
        except BaseException as exc:  # the pool gets every exception of the task
            return self._failure(task, exc, began)

    @staticmethod
    def _success(head: bytes, value: Any) -> bytes | list[Buffer]:
        """Return the message with the result of a task."""
        try:
            return joined(head, value)
        except Exception:
            if not isinstance(value, Outcomes):
                raise
            value.replace_unpicklable()
            return joined(head, value)

    def _failure(self, task: int, exc: BaseException, began: float) -> bytes | list[Buffer]:
        """Return the message with the exception of a task."""
        head = RESULT_HEAD.pack(_word(ERROR, task), self._place, time.monotonic() - began)
        try:
            return joined(head, with_traceback(exc))
        except Exception as second:  # the exception can't be pickled
            return joined(head, with_traceback(replacement(exc, second)))

    def _send(self, message: bytes | list[Buffer]) -> None:
        """Send a message to the pool, in the channel or, if it does not fit, in the spill file."""
        results, spill = self._plan.results, self._plan.spill
        if isinstance(message, bytes):
            if len(message) <= native.INLINE_MAX:
                results.send(message)
                return
            message = [message]
        if spill.file.send_parts(message, None) is None:
            try:
                self._check_spill()
                piece = spill.put(message)
            except IpcError as exc:
                word, place, seconds = RESULT_HEAD.unpack_from(message[0])
                if word >> KIND_SHIFT == RETURNED:
                    raise
                began = time.monotonic() - seconds
                del place, message
                self._send(self._failure(word & NUMBER_MASK, exc, began))
                return
            piece.send(None)

    def _check_spill(self) -> None:
        """Check that no task has closed the spill file, whose number another file may have now.

        Raises:
            ClosedHandle: a task has closed it.
        """
        try:
            intact = identity(self._plan.spill.file.fd) == self._spill_file
        except OSError:
            intact = False
        if not intact:
            message = "the result has no room, because a task closed the pool's descriptors"
            raise ClosedHandle(message, op="task", target="ProcessPool")

    # -- the start ---------------------------------------------------------------------------------

    def _initialize(self) -> bool:
        kind = READY
        if self._plan.initializer is not None:
            try:
                self._plan.initializer(*self._plan.initargs)
            except BaseException:  # ProcessPoolExecutor logs it in the same way
                _base.LOGGER.critical("Exception in initializer:", exc_info=True)
                kind = NOT_READY
        self._send(RESULT_HEAD.pack(_word(kind, 0), self._place, 0.0))
        return kind == READY

    def _handle_interrupts(self) -> None:
        """Make SIGINT raise KeyboardInterrupt in a task, and have no effect between tasks.

        On Ctrl-C, the terminal sends SIGINT to the workers too. Between tasks, the pool's process
        decides how to continue.
        """
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupted)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._plan.mask)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._in_task:
            self._in_task = False  # only once for each task, because `_outcome` handles it
            raise KeyboardInterrupt


def _word(kind: int, task: int) -> int:
    return kind << KIND_SHIFT | task


def _end_with(pid: int, token: int) -> None:
    """Start a thread that ends this process when the pool's process has died.

    A worker that waits in the channel notices the death itself, but a worker that runs a task does
    not. The thread sleeps in poll(2); see pidfd_open(2).

    Args:
        pid: the process id of the pool's process.
        token: its token, in case another process has got its process id.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        os._exit(1)
    if is_dead(token):
        os._exit(1)

    def watch() -> None:
        waiting = select.poll()
        waiting.register(pidfd, select.POLLIN)
        if waiting.poll()[0][1] & select.POLLIN:  # otherwise a task has closed the descriptor
            os._exit(1)

    threading.Thread(target=watch, name="ipckit-pool-parent", daemon=True).start()


def work(plan: Plan, place: int, bell: Bell) -> None:
    """Run a worker process: the target of `multiprocessing.Process`."""
    Worker(plan, place, bell).run()
