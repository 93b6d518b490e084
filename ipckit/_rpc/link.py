"""Link: a client's channel for replies, and the calls of one process that wait for replies.

Threads that wait for replies take turns. One of them, the leader, receives the replies of all
threads, and wakes a thread when its reply arrives. When the leader has its own reply, it wakes
another thread, which becomes the leader.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import ipckit._native as native
from ipckit._channel.channel import Channel
from ipckit._channel.in_place import View
from ipckit._core.processes import is_dead, pid_of
from ipckit._rpc.names import client_of, target_of
from ipckit._rpc.replies import OtherReply
from ipckit._rpc.requests import no_memory
from ipckit._rpc.wire import (
    CALL,
    CALL_KIND,
    CALL_START,
    ITEM,
    REPLY,
    REPLY_START,
    RESULT,
    SLOTS,
    TABLE_BYTES,
    corrupt,
    discard,
)
from ipckit._shm.posix import PosixSharedMemory
from ipckit.errors import IpcError, LimitReached, PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ipckit._rpc.remote_method import RemoteMethod
    from ipckit._rpc.replies import Reply

    Wake: TypeAlias = Callable[[], object]

# How often a waiting client checks whether the server of its call is alive.
CHECK_SECONDS: Final = 0.04
# How often a thread that waits for its turn checks whether it can lead.
_FOLLOW_SECONDS: Final = 1.0
_EXCHANGE_SLOT: Final = 0  # the slot of a call by `exchange`; there is at most one at a time
_HEAD: Final = REPLY.size
_BYTE_ORDER: Final = sys.byteorder
# The beginning of the reply that `exchange` expects. The number of the call follows.
_SHORT_RESULT: Final = REPLY_START.unpack(REPLY.pack(RESULT, 0, 0, _EXCHANGE_SLOT, 0))[0]
_number_in: Final = struct.Struct("=8xQ").unpack_from


class WaitingCall:
    """A call that waits for its reply.

    Attributes:
        link: the link that sent the call.
        number: the number of the call.
        slot: the index of the call in the table of calls.
        reply: the message with the reply, or the exception to raise; None before it arrives.
        wake: wakes the waiting thread or task if it is not the leader; None if it needs no wake.
        memory: the shared memory with the arguments if they were too long for the channel.
        stream: the channel for the items, if the method is a generator function.
    """

    __slots__ = ("link", "memory", "number", "reply", "slot", "stream", "wake")

    def __init__(self, link: Link, number: int, slot: int) -> None:
        self.link, self.number, self.slot = link, number, slot
        self.reply: Reply | None = None
        self.wake: Wake | None = None
        self.memory: PosixSharedMemory | None = None
        self.stream: Channel[bytes] | None = None

    def close_stream(self) -> None:
        """Close the channel for the items, if there is one, so that the generator ends."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(IpcError):
                stream.unlink(missing_ok=True)
            with suppress(IpcError, WouldBlock):
                # Unread items can have shared memory of their own, which must be removed.
                while True:
                    with stream.receive_view(timeout=0) as view:
                        discard(view.buf, ITEM.size, self.link.service)
            stream.close()


class Link:
    """The objects of a client in one process: the channel for replies and the table of calls.

    Args:
        service: the name of the service.
        requests: the channel for calls.
        size: bytes of memory for replies.

    Attributes:
        service: the name of the service.
        token: the random number that identifies the client to servers.
        replies: the channel for replies.
        calls: the table of calls; see `wire`.
        exchanging: the number of the call that `exchange` runs; 0 if there is none.
        leading: a lock that the leader holds, the thread or task that receives all replies.
        pending: the calls that wait for a reply, by number.
        queues: the tasks that wait for replies, by event loop.
        left: whether this is a forked child's copy of its parent's link.

    Raises:
        LimitReached: /dev/shm is full, or RLIMIT_NOFILE is reached.
    """

    def __init__(self, service: str, requests: Channel[bytes], size: int) -> None:
        self.service, self._requests = service, requests
        self.token = int.from_bytes(os.urandom(8), "little")
        name = client_of(service, self.token)
        # With "wait", because another server may start after the last one has left.
        try:
            self.replies = Channel.create(name, capacity=SLOTS, size=size, peer_gone="wait")
        except LimitReached as exc:
            raise no_memory(service, exc, "Client.open") from None
        try:
            with suppress(WouldBlock):
                self.replies.receive(timeout=0)  # makes this process a receiver; servers check it
            self._memory = PosixSharedMemory.create(name, TABLE_BYTES)
        except BaseException:
            self.replies.__exit__(None, None, None)
            raise
        self.calls = self._memory.buf[:TABLE_BYTES].cast("Q")
        self._numbers = count(1)
        self._slots: SimpleQueue[int] = SimpleQueue()
        for slot in range(_EXCHANGE_SLOT + 1, SLOTS):
            self._slots.put(slot)
        self.pending: dict[int, WaitingCall] = {}
        self._used: dict[int, int] = {}  # the slots of calls that have not ended, by number
        # Reentrant, because a signal handler can call the client during a call of the same thread.
        self.leading = threading.RLock()
        # Whether this thread has it.
        self.leads: Callable[[], bool] = self.leading._is_owned  # type: ignore[attr-defined] # noqa: SLF001 - threading.Condition needs it too
        self.exchanging = 0
        self._exchanged: bytes | View | None = None
        self._followers: deque[Wake] = deque()
        self._next_check = 0.0
        # `receive` is built on `_take`, which returns short replies as bytes, long ones as views.
        self._take = self.replies._take  # noqa: SLF001 - see above
        self._send = requests.send
        self._starts: dict[RemoteMethod, bytes] = {}
        self.left = False
        self.queues: dict[Hashable, Any] = {}

    # -- calls -------------------------------------------------------------------------------------

    def begin(self, timeout: float | None = None) -> WaitingCall:
        """Return a new call, with a slot in the table of calls.

        Args:
            timeout: seconds to wait for a free slot; None waits without limit.

        Raises:
            queue.Empty: no slot was free within the timeout.
        """
        try:
            slot = self._slots.get_nowait()
        except Empty:
            slot = self._slots.get(timeout=_limited(timeout))
        number = next(self._numbers)
        call = WaitingCall(self, number, slot)
        self.calls[2 * slot + 1] = 0
        self.calls[2 * slot] = number
        self.pending[number] = call
        self._used[number] = slot
        return call

    def end(self, call: WaitingCall) -> None:
        """Free the slot of a call, so that its server can see that no client waits. Idempotent."""
        self.pending.pop(call.number, None)
        # A stream and its cancelled Future can both end the call.
        if self._used.pop(call.number, None) is None:
            return
        self.calls[2 * call.slot] = 0
        self._slots.put(call.slot)
        if call.memory is not None:
            with suppress(IpcError):
                call.memory.unlink(missing_ok=True)
        if type(call.reply) is bytes:  # a reply that came too late may have shared memory
            discard(call.reply, _HEAD, self.service)

    def exchange(self, remote: RemoteMethod, body: bytes, deadline: float | None) -> Any:
        """Make a short call, and return its result.

        The caller must be the leader, and must call `end_exchange` afterwards, even if this raises.

        Raises:
            OtherReply: the reply is not a short result, or came too late.
            PeerGone: no process serves the service any more.
            DecodeError: the result does not have the described type.
            IpcError: the call can't be sent.
        """
        start = self._starts.get(remote) or self._start_of(remote)
        number = self.exchanging = next(self._numbers)
        calls = self.calls
        calls[1] = 0
        calls[0] = number
        word = number.to_bytes(8, _BYTE_ORDER)
        left, pause = None, CHECK_SECONDS
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            pause = min(left, CHECK_SECONDS)
        try:
            self._send(start + word + body, timeout=left)
        except (Timeout, WouldBlock):
            raise OtherReply(None) from None
        except PeerGone:
            raise server_gone(self.service, method=remote.name) from None
        reply: bytes | View | None
        try:
            reply = self._take(View, pause)
        except (Timeout, WouldBlock):
            reply = None
        if type(reply) is bytes and reply.startswith(_SHORT_RESULT + word):
            return remote.decode_plain(reply[_HEAD:])  # type: ignore[misc]
        raise OtherReply(self._other_reply(number, reply, deadline))

    def _start_of(self, remote: RemoteMethod) -> bytes:
        """Return the bytes with which all calls of a method by `exchange` begin."""
        head = CALL.pack(
            CALL_KIND, 0, remote.number, _EXCHANGE_SLOT, remote.revision, 0, self.token, 0
        )
        self._starts[remote] = CALL_START.unpack(head)[0]
        return self._starts[remote]

    def _other_reply(
        self, number: int, reply: bytes | View | None, deadline: float | None
    ) -> Reply | None:
        """Wait for the reply to the call of `exchange`, after a first reply of another kind."""
        call = self.pending[number] = WaitingCall(self, number, _EXCHANGE_SLOT)
        try:
            for found in (reply, self._exchanged):
                if found is not None:
                    self._deliver(found)
            self._lead(call, deadline)
            return call.reply
        finally:
            self.pending.pop(number, None)

    def end_exchange(self) -> None:
        """End the call of `exchange`, and let another thread lead."""
        self.calls[0] = self.exchanging = 0
        self._exchanged = None
        self.leading.release()
        if self._followers:
            self._wake_follower()

    def wait(self, call: WaitingCall, deadline: float | None) -> bool:
        """Wait for the reply of a call. Return whether it came before the deadline."""
        led = self.leads()  # this is a signal handler that interrupted a call of its thread
        try:
            return self._wait(call, deadline)
        except BaseException:
            if not led:
                self.repair()
            raise

    def repair(self) -> None:
        """Let another thread lead, after an exception in a call.

        A signal handler can raise one at any moment, also just after the lock was acquired, or
        before it is released.
        """
        if self.leads():
            self.calls[0] = self.exchanging = 0
            self._exchanged = None
            while self.leads():
                self.leading.release()
        if self._followers:
            self._wake_follower()

    def _wait(self, call: WaitingCall, deadline: float | None) -> bool:
        if self.leading.acquire(blocking=False):
            try:
                return self._lead(call, deadline)
            finally:
                self.stop_leading()
        woken: SimpleQueue[None] = SimpleQueue()
        call.wake = lambda: woken.put(None)
        try:
            while call.reply is None:
                if call.wake not in self._followers:
                    self._followers.append(call.wake)
                if self.leading.acquire(blocking=False):
                    try:
                        return self._lead(call, deadline)
                    finally:
                        self.stop_leading()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return call.reply is not None
                # Not for ever: an exception of a signal handler may have lost the wake.
                with suppress(Empty):
                    woken.get(
                        timeout=_FOLLOW_SECONDS if left is None else min(left, _FOLLOW_SECONDS)
                    )
        finally:
            self.unfollow(call.wake)
            call.wake = None
        return True

    def _lead(self, call: WaitingCall, deadline: float | None) -> bool:
        """Receive replies until the one for this call arrives. The caller holds `leading`."""
        while call.reply is None:
            pause = CHECK_SECONDS
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.receive(0)
                    return call.reply is not None
                pause = min(pause, left)
            self.receive(pause)
        return True

    def try_lead(self) -> bool:
        """Become the leader, unless another thread or task is. Return whether this succeeded."""
        return self.leading.acquire(blocking=False)

    def stop_leading(self) -> None:
        """Let another thread or task receive the replies."""
        self.leading.release()
        if self._followers:
            self._wake_follower()

    def _wake_follower(self) -> None:
        """Wake the next follower, which becomes the leader."""
        with suppress(IndexError):  # another thread has woken the last follower
            self._followers.popleft()()

    def follow(self, wake: Wake) -> None:
        """Register a function that is called when this thread or task may become the leader."""
        self._followers.append(wake)

    def unfollow(self, wake: Wake) -> None:
        """Undo `follow`."""
        with suppress(ValueError):
            while True:  # a call whose time ran out has followed more than once
                self._followers.remove(wake)
        # If it was woken to become the leader, pass the wake on.
        if self._followers and self.leading.acquire(blocking=False):
            self.stop_leading()

    def drain(self) -> bool:
        """Receive all replies that have arrived. Return False if another thread is the leader."""
        if not self.leading.acquire(blocking=False):
            return False
        try:
            while self.receive(0):
                pass
        finally:
            self.stop_leading()
        return True

    def receive(self, timeout: float) -> bool:
        """Receive one reply, and pass it to its call. Only the leader may call this.

        If no reply arrives, and from time to time, this ends the calls whose server has died.

        Args:
            timeout: seconds to wait for a reply.

        Returns:
            Whether a reply arrived.
        """
        try:
            reply = self._take(View, timeout)
        except (Timeout, WouldBlock):
            if timeout or time.monotonic() >= self._next_check:
                self._check_servers()
            return False
        except IpcError as exc:
            self._fail_all(exc)
            return False
        self._deliver(reply)
        return True

    def _deliver(self, reply: bytes | View) -> None:
        """Pass a reply to the call that waits for it."""
        message = reply if isinstance(reply, bytes) else reply.buf
        if len(message) < _HEAD:
            self._fail_all(corrupt(self.service))
            return
        call = self.pending.pop(_number_in(message)[0], None)
        if call is None:
            if _number_in(message)[0] == self.exchanging:
                self._exchanged = reply  # a signal handler interrupted `exchange`, and received it
            # Otherwise the client no longer waits for this reply.
            elif isinstance(reply, bytes):
                discard(reply, _HEAD, self.service)
            else:
                reply.release()
            return
        call.reply = reply
        if call.wake is not None:
            call.wake()
            if time.monotonic() >= self._next_check:
                self._check_servers()

    # -- dead servers ------------------------------------------------------------------------------

    def _check_servers(self) -> None:
        """End the calls to which no server will reply."""
        self._next_check = time.monotonic() + CHECK_SECONDS
        try:
            gone = self._requests._side(native.ROLE_RECEIVER) == native.SIDE_GONE  # noqa: SLF001
        except IpcError as exc:
            self._fail_all(exc)
            return
        dead: dict[int, bool] = {}
        for call in list(self.pending.values()):
            server = self.calls[2 * call.slot + 1]
            if server not in dead:
                dead[server] = server != 0 and is_dead(server)
            if dead[server] or gone:
                self._drain(call)
                self._fail(call, server_gone(self.service, server if dead[server] else 0))

    def _drain(self, call: WaitingCall) -> None:
        """Receive replies until the channel is empty, because a dead server may have replied."""
        while call.number in self.pending:
            try:
                reply = self._take(View, 0)
            except IpcError:
                return
            self._deliver(reply)

    def _fail(self, call: WaitingCall, error: BaseException) -> None:
        if self.pending.pop(call.number, None) is not None:
            call.reply = error
            if call.wake is not None:
                call.wake()

    def _fail_all(self, error: BaseException) -> None:
        for call in list(self.pending.values()):
            self._fail(call, error)

    # -- lifecycle ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the link and remove its objects. Calls that wait raise `ClosedHandle`."""
        for each in (self.replies, self._memory):
            with suppress(IpcError):
                each.unlink(missing_ok=True)
            each.close()

    def leave(self) -> None:
        """Close the handles in a forked child. The parent keeps the link."""
        self.left = True
        self.replies.close()
        self._memory.close()


def _limited(seconds: float | None) -> float | None:
    """Return a timeout as Python's locks take it: 292 years at most."""
    return None if seconds is None else min(seconds, threading.TIMEOUT_MAX)


def server_gone(service: str, server: int = 0, *, method: str = "") -> PeerGone:
    """Return the error for a call whose server has died.

    Args:
        service: the name of the service.
        server: the token of the process that ran the call; 0 if no process had taken it.
        method: the name of the method; "" if it is not known.
    """
    message = "the service has closed or died"
    if server:
        message = f"process {pid_of(server)} died while it ran the call"
    op = f"call {method}" if method else "call"
    return PeerGone(message, errno=errno.EPIPE, op=op, target=target_of(service))
