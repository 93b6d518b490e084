"""Server: take the calls of a service, run the methods, and reply.

A server acknowledges a call after it has replied. If a server dies before that, the channel
delivers the call to another server, which does not run it, but tells the client. Before a server
runs a call, it writes its token into the client's table of calls. So the client can find out by
itself that the server has died.
"""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec.msgpack import encode

from ipckit._channel.in_place import Delivery
from ipckit._core.processes import token
from ipckit._rpc.caller import Caller, remove_if_gone
from ipckit._rpc.current import CURRENT
from ipckit._rpc.method import error_body, short_error_body
from ipckit._rpc.names import clients_in_memory
from ipckit._rpc.requests import open_requests
from ipckit._rpc.stream import BEGIN, STREAM_CAPACITY
from ipckit._rpc.wire import (
    BY_NAME,
    CALL,
    CALL_KIND,
    CALL_START,
    DESCRIBE,
    END,
    ERROR,
    ITEM,
    ORPHANED,
    REPLY,
    REPLY_START,
    RESULT,
    SLOTS,
    STALE,
    opened,
    post,
)
from ipckit.errors import ClosedHandle, IpcError, LimitReached, PeerGone, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from typing_extensions import Buffer

    from ipckit._channel.channel import Channel
    from ipckit._rpc.method import Method
    from ipckit._rpc.methods import Methods
    from ipckit._shm.posix import PosixSharedMemory

_HEAD: Final = CALL.size
_unpack: Final = CALL.unpack_from
_split: Final = CALL_START.unpack_from
_join_call: Final = CALL_START.pack
_join: Final = REPLY_START.pack
_PLAIN_MAX: Final = 4096
_CHECK_SECONDS: Final = 0.04  # how often a stream that waits checks whether its client has left
_NONE: Final = encode(None)
# When a server meets a new client, it removes the objects of killed clients that it does not know,
# at most once in this time.
_SWEEP_SECONDS: Final = 1.0
_ENDING: Final = (KeyboardInterrupt, SystemExit)  # a method that raises one of these ends `serve`


class _Plain(NamedTuple):
    """Data that all calls with plain values by one client, with one method and slot, share."""

    method: Method
    caller: Caller
    slot: int
    reply_start: bytes
    decode: Callable[[Buffer], Any]
    function: Callable[..., Any]
    result_type: type[Any] | None


class IncomingCall:
    """A call that a server has taken and runs.

    Attributes:
        method: the method.
        caller: the client.
        current: the value of `CURRENT` while the method runs.
        args: the positional arguments.
        named: the keyword arguments.
    """

    __slots__ = ("_delivery", "_number", "_slot", "args", "caller", "current", "method", "named")

    def __init__(  # noqa: PLR0917 - each call makes one, and keywords take longer
        self,
        delivery: Delivery,
        method: Method,
        caller: Caller,
        slot: int,
        number: int,
        bound: tuple[Sequence[Any], dict[str, Any]],
    ) -> None:
        self._delivery, self._slot, self._number = delivery, slot, number
        self.method, self.caller = method, caller
        self.args, self.named = bound
        self.current = (method.name, caller, slot, number)

    def reply(self, result: Any) -> None:
        """Send the result, and acknowledge the call."""
        try:
            value = self.method.encode_result(result)
            self.caller.reply(RESULT, self._slot, self._number, value)
        except Exception as exc:
            self.fail(exc)
            return
        self.end()

    def fail(self, error: BaseException) -> None:
        """Send an exception, and acknowledge the call."""
        with suppress(IpcError):  # the client is gone
            self.caller.fail(self._slot, self._number, error)
        self.end()

    def abandon(self) -> None:
        """Tell the client that the server stopped during the call, and acknowledge it."""
        with suppress(IpcError):  # the client is gone
            self.caller.reply(ORPHANED, self._slot, self._number, b"")
        self.end()

    def end(self) -> None:
        """Acknowledge the call."""
        self.args, self.named = (), {}
        with suppress(IpcError):  # the server was closed
            self._delivery.ack()

    def open_stream(self) -> Items | None:
        """Open the channel for the items. Return None if that failed, or the client has left."""
        try:
            items = Items(self, self.caller.open_stream(self._number))
        except IpcError as exc:  # such as LimitReached
            self.fail(exc)
            return None
        if not items.send(BEGIN, b""):
            items.close()
            self.end()
            return None
        with suppress(IpcError):
            self.caller.reply(RESULT, self._slot, self._number, _NONE)
        self.end()
        return items

    @property
    def left(self) -> bool:
        """Whether the client no longer waits. This does not notice that a client died."""
        return self.caller.calls[2 * self._slot] != self._number


class Items:
    """The server's end of a stream.

    Args:
        call: the call of the generator method.
        channel: the channel for the items.
    """

    def __init__(self, call: IncomingCall, channel: Channel[bytes]) -> None:
        self.call, self.channel = call, channel
        # The shared memory of the latest long items, at least of all that are in the channel.
        self._long: deque[PosixSharedMemory] = deque(maxlen=STREAM_CAPACITY + 1)

    def send(self, kind: int, value: Any) -> bool:
        """Send an item. Wait while the channel is full. Return False if the client has left."""
        while not self.call.left:
            try:
                self.try_send(kind, value, _CHECK_SECONDS)
            except PeerGone:
                return False
            except (Timeout, WouldBlock):
                # `send` raises no PeerGone if the client was killed before it received an item.
                if self.call.caller.is_gone():
                    return False
            else:
                return True
        return False

    def try_send(self, kind: int, value: Any, timeout: float) -> None:
        """Send an item.

        Raises:
            Timeout: the channel was full for the whole timeout.
            PeerGone: the client has left.
        """
        memory = post(
            self.channel,
            lambda flags: ITEM.pack(kind, flags),
            value,
            timeout,
            self.call.caller.spare_name,
        )
        if memory is not None:
            self._long.append(memory)

    def send_all(self, found: Callable[[], Generator[Any]]) -> None:
        """Send the items of a generator, and then its end or its exception. Close the generator.

        Args:
            found: returns the generator.
        """
        method = self.call.method
        try:
            # `closing` closes the generator before the client learns of the end.
            with closing(found()) as items:
                for item in items:
                    if not self.send(RESULT, method.encode_result(item)):
                        return
            self.send(END, b"")
        except BaseException as exc:  # SystemExit would only end this thread
            with suppress(IpcError):
                try:
                    self.send(ERROR, error_body(exc))
                except LimitReached:
                    self.send(ERROR, short_error_body(exc))

    def close(self) -> None:
        """Close the channel. The client sees the end of the stream, or that the server left."""
        gone = self.call.caller.is_gone()
        # A client that leaves empties the channel, but it does not see an item that is sent later.
        for each in (self.channel, *self._long) if gone else self._long if self.call.left else ():
            with suppress(IpcError):
                each.unlink(missing_ok=True)
        self.channel.close()


class Server:
    """Takes and runs the calls of a service in one thread or task.

    Args:
        service: the name of the service.
        methods: the methods of the service.
        callers: the known clients, which all servers of this process share.

    Attributes:
        requests: this server's handle of the channel for calls.
        stopping: whether the server takes no more calls.
        busy: the number of calls that the server runs.
    """

    def __init__(self, service: str, methods: Methods, callers: Callers) -> None:
        self._service, self._methods, self._callers = service, methods, callers
        # Each server has its own handle, so that one can end while others run calls.
        hint = "it was removed; create it again"
        self.requests = open_requests(service, hint=hint, peer_gone="wait")
        self._token = token()
        self._plain = callers.plain
        self.stopping = False
        self.busy = 0
        self._ending = threading.RLock()  # reentrant, because a signal handler can call `stop`

    # -- lifecycle ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop taking calls. A running call is completed first."""
        self.stopping = True
        # At the beginning of a call, the server sets `busy` and then checks `stopping`. At the end
        # of a call, it clears `busy` and then checks `stopping`.
        with self._ending:
            if not self.busy:
                self.requests.close()
            elif (waiting := self.requests._awaiting) is not None:  # noqa: SLF001 - aio.serve waits
                waiting.wake()

    # -- calls -------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Take and run calls until the server is stopped."""
        requests = self.requests
        deliver = requests._deliver  # noqa: SLF001 - `take` without the checks of its arguments
        before = CURRENT.set(None)
        try:
            while not self.stopping:
                try:
                    delivery = deliver(Delivery, None)
                except ClosedHandle:
                    return
                self.busy = 1
                if self.stopping:
                    with self._ending:  # `stop` has closed the handle, or sees that this is busy
                        if requests.closed:
                            return  # the channel delivers the call to another server
                try:
                    if not self._run_plain(delivery):
                        call = self.accept(delivery)
                        if call is not None:
                            self._run(call)
                except BaseException:
                    # The traceback keeps the delivery alive, so an unacknowledged call must be
                    # returned to the channel here.
                    with suppress(IpcError):
                        delivery.requeue()
                    raise
                finally:
                    self.busy = 0
        finally:
            CURRENT.reset(before)
            requests.close()

    def _run_plain(self, delivery: Delivery) -> bool:  # noqa: PLR0911 - it is the fast path
        """Run a call of the most frequent kind: with plain values and a short reply.

        The general code does the same, but takes three times as long.

        Returns:
            True if the call was run; False if it is of another kind, and was not begun.
        """
        message = delivery.buf
        try:
            start, number = _split(message)
        except struct.error:  # the message is too short for a call
            return False
        if delivery._redelivered:  # noqa: SLF001 - a property is slow
            return False
        plain = self._plain.get(start) or self._plain_of(start)
        if plain is None:
            return False
        method, caller, slot, reply_start, decode, function, result_type = plain
        calls, place = caller.calls, 2 * slot
        if calls[place] != number:
            return False
        calls[place + 1] = self._token
        try:
            args = decode(message[_HEAD:])
        except Exception:  # the general code replies with the error
            return False
        CURRENT.set((method.name, caller, slot, number))
        try:
            result = function(*args)
        except BaseException as exc:
            IncomingCall(delivery, method, caller, slot, number, ((), {})).fail(exc)
            if isinstance(exc, _ENDING):
                raise
            return True
        if type(result) is result_type:
            try:
                caller.replies.send(_join(reply_start, number) + encode(result), timeout=0)
                delivery._acknowledge()  # noqa: SLF001 - `ack` would raise
            except Exception:  # noqa: S110 - a str with surrogates, for example; see below
                pass
            else:
                return True
        IncomingCall(delivery, method, caller, slot, number, ((), {})).reply(result)
        return True

    def _plain_of(self, start: bytes) -> _Plain | None:
        """Return the data that all calls that begin with these bytes share.

        None if such calls do not have plain values, or if the client is unknown.
        """
        place: int
        kind, flags, place, slot, revision, _, client, _ = _unpack(_join_call(start, 0))
        caller, methods = self._callers.known.get(client), self._methods
        if flags or kind != CALL_KIND or caller is None or revision != methods.revision:
            return None
        if place >= len(methods.by_number) or slot >= SLOTS:
            return None
        method = methods.by_number[place]
        if method.decode_plain is None:
            return None
        if len(self._plain) >= _PLAIN_MAX:
            self._plain.clear()
        reply_start, _ = REPLY_START.unpack(REPLY.pack(RESULT, 0, 0, slot, 0))
        found = self._plain[start] = _Plain(
            method,
            caller,
            slot,
            reply_start,
            method.decode_plain,
            method.function,
            method.result_type,
        )
        return found

    def _run(self, call: IncomingCall) -> None:
        if call.method.awaitable:
            message = f"{call.method.name} needs an event loop: serve it with ipckit.aio.serve"
            call.fail(TypeError(message))
            return
        if call.method.streams:
            # A stream gets a thread of its own, because the client decides how long it lasts.
            thread = threading.Thread(
                target=self.run_stream, args=(call,), name="ipckit-stream", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:  # RLIMIT_NPROC is reached
                call.fail(exc)
            return
        CURRENT.set(call.current)
        try:
            result = call.method.function(*call.args, **call.named)
        except BaseException as exc:
            call.fail(exc)
            if isinstance(exc, _ENDING):
                raise
        else:
            call.reply(result)

    @staticmethod
    def run_stream(call: IncomingCall) -> None:
        """Send the items of a generator, until it ends or the client leaves."""
        CURRENT.set(call.current)
        method, args, named = call.method, call.args, call.named
        items = call.open_stream()
        if items is None:
            return
        try:
            items.send_all(partial(method.function, *args, **named))
        finally:
            items.close()

    def accept(self, delivery: Delivery) -> IncomingCall | None:
        """Return the call in a delivery; None if there is nothing to run.

        Raises:
            LimitReached: a limit prevents the server from opening the client's channel, so it can't
                reply. The call is not acknowledged, and another server tells the client.
        """
        found = None
        try:
            found = self._opened(delivery)
        except LimitReached:
            raise
        except IpcError:
            pass  # the client is gone, or the message does not come from a client
        if found is None:
            with suppress(IpcError):
                delivery.ack()
        return found

    def _opened(self, delivery: Delivery) -> IncomingCall | None:  # noqa: PLR0911 - one a reason
        message = delivery.buf
        if message.nbytes < _HEAD:
            return None
        place: int
        kind, flags, place, slot, revision, _, client, number = _unpack(message)
        if kind != CALL_KIND or slot >= SLOTS:
            return None
        caller = self._callers.get(client)
        if delivery.redelivered:
            caller.reply(ORPHANED, slot, number, b"")
            return None
        if not caller.begin(slot, number, self._token):
            return None  # the client no longer waits
        if place == DESCRIBE:
            try:
                caller.reply(RESULT, slot, number, self._methods.description())
            except LimitReached as exc:
                caller.fail(slot, number, exc)
            return None
        if revision != self._methods.revision:
            caller.reply(STALE, slot, number, b"")
            return None
        try:
            method: Method = self._methods.by_number[place]
            body, parts = (
                opened(message, flags, _HEAD, self._service)
                if flags & ~BY_NAME
                else (message[_HEAD:], ())
            )
            bound = method.bind(body, parts, by_name=bool(flags & BY_NAME))
        except Exception as exc:  # another process chose the bytes, so any error can occur
            caller.fail(slot, number, exc)
            return None
        return IncomingCall(delivery, method, caller, slot, number, bound)


class Callers:
    """The clients that this process knows, shared by all its servers of a service.

    Args:
        service: the name of the service.

    Attributes:
        known: the clients by token.
        plain: the shared data of calls with plain values, by the bytes with which the calls begin.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self.known: dict[int, Caller] = {}
        self.plain: dict[bytes, _Plain] = {}
        self._opening = threading.Lock()
        self._next_sweep = 0.0

    def get(self, client: int) -> Caller:
        """Return a client by its token. Open its channel and table if it is new.

        Raises:
            IpcError: the client is gone, or can't be opened.
        """
        found = self.known.get(client)
        if found is None:
            with self._opening:
                found = self.known.get(client)
                if found is None:
                    self.drop_gone()
                    found = self.known[client] = Caller(self._service, client)
        return found

    def forked(self) -> None:
        """In a forked child: replace the lock, which another thread may have held."""
        self._opening = threading.Lock()

    def _forget(self, caller: Caller) -> None:
        """Close the connection to a client."""
        self.plain.clear()
        caller.close()

    def drop_gone(self) -> None:
        """Close the clients that are gone, and remove the objects of killed ones from /dev/shm."""
        for client, caller in list(self.known.items()):
            if caller.is_gone():
                del self.known[client]
                self._forget(caller)
        if time.monotonic() >= self._next_sweep:
            self._drop_unknown()
            self._next_sweep = time.monotonic() + _SWEEP_SECONDS

    def _drop_unknown(self) -> None:
        """Remove the objects of clients that were killed before a server took a call of theirs."""
        for client in clients_in_memory(self._service):
            if client not in self.known:
                with suppress(IpcError):
                    remove_if_gone(self._service, client)

    def close(self) -> None:
        """Close all clients, and remove the objects of killed ones from /dev/shm."""
        with self._opening:
            known, self.known = self.known, {}
            for caller in known.values():
                self._forget(caller)
            self._drop_unknown()
