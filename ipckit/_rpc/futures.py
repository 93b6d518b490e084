"""FuturePump: complete the Futures of `Client.submit` in a thread."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from ipckit._rpc.link import CHECK_SECONDS
from ipckit._rpc.replies import StaleMethods
from ipckit._rpc.wire import SLOTS
from ipckit.errors import Timeout

if TYPE_CHECKING:
    from ipckit._rpc.link import WaitingCall
    from ipckit._rpc.remote_method import RemoteMethod
    from ipckit._rpc.replies import Reply
    from ipckit.errors import ClosedHandle

    Again: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any], float | None, float | None]

# Exceptions of callbacks are logged there, like those that a Future logs itself.
_logger: Final = logging.getLogger("concurrent.futures")
_IDLE_SECONDS: Final = 5.0  # after this time without calls, the thread ends


class Calling(Protocol):
    """The part of `Client` that its `FuturePump` uses; see `Client`."""

    def find(self, name: str, deadline: float | None) -> RemoteMethod: ...
    def forget_methods(self) -> None: ...
    def begin(
        self,
        remote: RemoteMethod,
        args: tuple[Any, ...],
        named: dict[str, Any],
        deadline: float | None,
    ) -> WaitingCall: ...
    def finish(
        self,
        remote: RemoteMethod,
        reply: Reply | None,
        call: WaitingCall | None = None,
        timeout: float | None = None,
    ) -> Any: ...
    def too_late(self, method: str, timeout: float | None) -> Timeout: ...
    def closed_error(self) -> ClosedHandle: ...


class _Submitted(NamedTuple):
    """A call whose result is a Future.

    Attributes:
        call: the call that waits for its reply.
        remote: the method.
        future: the Future.
        again: the arguments of `FuturePump.submit`, to send the call again.
    """

    call: WaitingCall
    remote: RemoteMethod
    future: Future[Any]
    again: Again


class FuturePump:
    """Completes the Futures of a client's calls, in a thread.

    That thread must not wait for the service, because no other one completes the Futures. So a
    second thread sends the calls again that the service refused, if there are any.

    Args:
        client: the client.
    """

    def __init__(self, client: Calling) -> None:
        self._client = client
        self._waiting: dict[int, _Submitted] = {}
        self._ready: SimpleQueue[_Submitted | None] = SimpleQueue()
        self._deadlines: list[tuple[float, int]] = []
        # Reentrant, because a signal handler can submit a call during a call of its thread.
        self._timing = threading.RLock()  # for `_deadlines`
        self._starting = threading.RLock()  # for the threads, and `_stale`
        self._thread: threading.Thread | None = None
        self._stale: deque[tuple[Future[Any], Again]] = deque()
        self._sender: threading.Thread | None = None
        self._closed = False

    def submit(
        self,
        method: str,
        args: tuple[Any, ...],
        named: dict[str, Any],
        deadline: float | None,
        timeout: float | None,
    ) -> Future[Any]:
        """Send a call, and return the Future of its result."""
        future: Future[Any] = Future()
        self._send(future, (method, args, named, deadline, timeout))
        return future

    def _send(self, future: Future[Any], again: Again) -> None:
        method, args, named, deadline, _ = again
        remote = self._client.find(method, deadline)
        call = self._begin(remote, args, named, deadline)
        submitted = _Submitted(call, remote, future, again)
        self._waiting[call.number] = submitted
        if deadline is not None:
            with self._timing:
                heapq.heappush(self._deadlines, (deadline, call.number))
        call.wake = lambda: self._ready.put(submitted)
        future.add_done_callback(lambda _: self._forget(submitted))
        if call.reply is not None:  # the reply came before `wake` was set
            self._ready.put(submitted)
        if self._closed:  # the client was closed after the call was sent
            _settle(future, self._client.closed_error())
            return
        self._ready.put(None)  # wakes the thread if it sleeps
        try:
            self._start()
        except BaseException as exc:  # such as RuntimeError: no thread can be started
            call.close_stream()
            _settle(future, exc)
            raise

    def _begin(
        self,
        remote: RemoteMethod,
        args: tuple[Any, ...],
        named: dict[str, Any],
        deadline: float | None,
    ) -> WaitingCall:
        """Send a call, waiting while all slots for calls are taken."""
        if threading.current_thread() is not self._thread:
            return self._client.begin(remote, args, named, deadline)
        # A callback of a Future submits a call. Only this thread completes the calls that have the
        # slots.
        while True:
            # `_turn` does not wait if there is nothing to complete.
            soon = 0.0 if self._waiting else time.monotonic() + CHECK_SECONDS
            try:
                return self._client.begin(remote, args, named, soon)
            except Timeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            self._turn()

    def _forget(self, submitted: _Submitted) -> None:
        if self._waiting.pop(submitted.call.number, None) is not None:
            if submitted.future.cancelled():
                submitted.call.close_stream()
                # Without this call, `wait` and `as_completed` would not see the cancellation.
                submitted.future.set_running_or_notify_cancel()
            if submitted.call.stream is None:
                submitted.call.link.end(submitted.call)

    def _start(self) -> None:
        with self._starting:
            # It is not alive if it could not be started.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="ipckit-calls", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        with self._starting:
            # A signal handler that interrupted `_start` may have started another thread.
            if self._thread is not threading.current_thread():
                return
        while True:
            while self._waiting:
                self._turn()
            if self._closed:
                return
            # A reply that came before its call was added to `_waiting` is in `_ready` too.
            if not self._complete_all(_IDLE_SECONDS):
                with self._starting:
                    if self._ready.empty() and not self._waiting:
                        self._thread = None
                        return

    def _turn(self) -> None:
        """Receive a reply, or wait for the thread that receives. Complete Futures with replies."""
        waiting = next(iter(list(self._waiting.values())), None)
        if waiting is None:  # another thread has cancelled the last call
            return
        link = waiting.call.link
        pause = CHECK_SECONDS
        with self._timing:
            self._drop_ended()
            if self._deadlines:
                pause = min(pause, max(0.0, self._deadlines[0][0] - time.monotonic()))
        if link.try_lead():
            try:
                link.receive(pause)
            finally:
                link.stop_leading()
            self._complete_all(0)
        else:
            wake = _Wake(self._ready)
            link.follow(wake)
            try:
                self._complete_all(pause)
            finally:
                link.unfollow(wake)
        self._expire()

    def _drop_ended(self) -> None:
        """Drop the deadlines of calls that have ended. The caller holds `_timing`."""
        if len(self._deadlines) > 2 * SLOTS:  # many calls ended long before their deadline
            self._deadlines = [each for each in self._deadlines if each[1] in self._waiting]
            heapq.heapify(self._deadlines)
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)

    def _complete_all(self, timeout: float) -> bool:
        """Complete the Futures whose replies have arrived.

        Args:
            timeout: seconds to wait for the first of them.

        Returns:
            Whether a reply arrived, or another event woke the thread.
        """
        woken = False
        with suppress(Empty):
            submitted = self._ready.get(timeout=timeout) if timeout else self._ready.get_nowait()
            woken = True
            while True:
                if submitted is not None:
                    self._complete(submitted)
                submitted = self._ready.get_nowait()
        return woken

    def _complete(self, submitted: _Submitted) -> None:
        call, remote, future, again = submitted
        if call.number not in self._waiting or future.done():
            return
        timeout = again[-1]
        try:
            result = self._client.finish(remote, call.reply, call, timeout)
        except StaleMethods:
            self._waiting.pop(call.number, None)
            call.close_stream()
            call.link.end(call)
            self._client.forget_methods()
            self._send_again(future, again)
        except BaseException as exc:
            call.close_stream()
            _settle(future, exc)
        else:
            _settle(future, result, failed=False)

    def _send_again(self, future: Future[Any], again: Again) -> None:
        """Have a call sent again."""
        with self._starting:
            self._stale.append((future, again))
            if self._sender is not None:
                return
            self._sender = threading.Thread(
                target=self._send_stale, name="ipckit-calls-again", daemon=True
            )
            try:
                self._sender.start()
            except BaseException as exc:  # such as RuntimeError: no thread can be started
                self._sender = None
                self._stale.clear()
                _settle(future, exc)

    def _send_stale(self) -> None:
        while True:
            with self._starting:
                if not self._stale:
                    self._sender = None
                    return
                future, again = self._stale.popleft()
            if future.cancelled():
                future.set_running_or_notify_cancel()  # `wait` and `as_completed` wait for this
                continue
            try:
                self._send(future, again)
            except BaseException as exc:
                _settle(future, exc)

    def _expire(self) -> None:
        while True:
            with self._timing:
                if not self._deadlines or self._deadlines[0][0] > time.monotonic():
                    return
                _, number = heapq.heappop(self._deadlines)
            submitted = self._waiting.get(number)
            if submitted is not None and submitted.call.reply is None:
                submitted.call.close_stream()
                error = self._client.too_late(submitted.remote.name, submitted.again[-1])
                _settle(submitted.future, error)

    def close(self) -> None:
        """Fail the calls that still wait, and let the thread end. The client calls this."""
        self._closed = True
        for submitted in list(self._waiting.values()):
            submitted.call.close_stream()
            _settle(submitted.future, self._client.closed_error())
        self._ready.put(None)


class _Wake:
    """A callable that wakes the thread. `Link.unfollow` finds it by its identity."""

    def __init__(self, ready: SimpleQueue[_Submitted | None]) -> None:
        self._ready = ready

    def __call__(self) -> None:
        self._ready.put(None)


def _settle(future: Future[Any], result: Any, *, failed: bool = True) -> None:
    """Complete a Future, unless it was cancelled."""
    try:
        if failed:
            future.set_exception(result)
        else:
            future.set_result(result)
    except InvalidStateError:  # another thread has completed or cancelled it
        pass
    except BaseException:  # a Future logs only an Exception of a callback
        _logger.exception("exception calling callback for %r", future)
