"""Client: call the methods of a service in another process."""

from __future__ import annotations

import errno
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import DecodeError
from msgspec.msgpack import encode

from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline, checked_timeout
from ipckit._core.forks import at_fork
from ipckit._core.handle import Closable, closed_handle
from ipckit._core.public import public
from ipckit._rpc.description import TypeTable
from ipckit._rpc.futures import FuturePump
from ipckit._rpc.link import Link, server_gone
from ipckit._rpc.method import UNENCODABLE
from ipckit._rpc.names import checked_service, spare_of, target_of
from ipckit._rpc.remote_method import Describe, RemoteMethod
from ipckit._rpc.replies import OtherReply, StaleMethods, remote_error
from ipckit._rpc.requests import open_requests
from ipckit._rpc.stream import RemoteStream, open_stream
from ipckit._rpc.wire import (
    CALL,
    CALL_KIND,
    DESCRIBE,
    ORPHANED,
    REPLY,
    RESULT,
    STALE,
    corrupt,
    opened,
    post,
)
from ipckit.errors import ClosedHandle, IpcError, NotFound, PeerGone, Timeout, WouldBlock, one_line

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Buffer

    from ipckit._channel.channel import Channel
    from ipckit._rpc.link import WaitingCall
    from ipckit._rpc.replies import Reply

_SIZE: Final = 1 << 22
_HEAD: Final = REPLY.size
_SHORT: Final = 4000  # calls of up to this many bytes are sent by a faster path
_unpack: Final = REPLY.unpack_from
_pack: Final = CALL.pack
_CLIENTS: Final[weakref.WeakSet[Client]] = weakref.WeakSet()


@public("ipckit.rpc")
class Client(Closable):
    """Calls the methods of a service in another process.

    Several threads can use a client at once. A forked child can use its parent's client, and a
    client can be pickled. Each process has its own channel for replies.

    An attribute that the class does not define is a method of the service: ``solver.norm(x)`` is
    ``solver.call("norm", x)``. A call runs at most once.

    >>> import threading
    >>> from ipckit.rpc import Client, Service
    >>> with Service.create("doc-adder") as service:
    ...     @service.method
    ...     def add(a: int, b: int) -> int:
    ...         return a + b
    ...     thread = threading.Thread(target=service.serve)  # usually another process
    ...     thread.start()
    ...     with Client.open("doc-adder") as client:
    ...         client.call("add", 1, 2, timeout=10), client.add(3, b=4)
    ...     service.close()
    ...     thread.join()
    (3, 7)
    """

    _factories = "Client.open or open_or_wait"

    def __init__(self, service: str, requests: Channel[bytes], size: int) -> None:
        self._service, self._requests, self._size = service, requests, size
        self._link: Link | None = None
        self._methods: dict[str, RemoteMethod] = {}
        self._send = requests.send
        self._spares = count(1)
        # Reentrant, because a signal handler can call or close the client at any moment.
        self._connecting = threading.RLock()
        self._pump: FuturePump | None = None
        super().__init__()
        _CLIENTS.add(self)

    # -- open --------------------------------------------------------------------------------------

    @classmethod
    def open(cls, name: str, *, size: int = _SIZE) -> Self:
        """Open a client of a service that exists.

        Args:
            name: the service's name.
            size: bytes of memory for replies, 4 MiB by default. A reply of more than half of this
                size gets memory of its own, which is slower.

        Returns:
            The client.

        Raises:
            NotFound: there is no service of that name.
            AccessDenied: the service belongs to another user.
            LimitReached: RLIMIT_NOFILE is reached, or the service has 256 clients and servers.
            InvalidArgument: the name is invalid.
        """
        service = checked_service(name)
        requests = open_requests(service, hint="Client.open_or_wait waits for it")
        try:
            return construct(cls, service, requests, size)
        except BaseException:
            requests.close()
            raise

    @classmethod
    def open_or_wait(cls, name: str, *, timeout: float | None = None, size: int = _SIZE) -> Self:
        """Wait until a service exists, and open a client of it.

        Args:
            name: the service's name.
            timeout: seconds to wait; None (the default) waits without limit, 0 does not wait.
            size: see `open`.

        Returns:
            The client.

        Raises:
            Timeout: the timeout ended before a service of that name existed.
            IpcError: the client can't be opened for another reason; see `open`.
        """
        deadline = Deadline(timeout)
        for _ in deadline.looks():
            try:
                return cls.open(name, size=size)
            except NotFound:
                pass
        message = f"no process created a service of that name within {timeout} s"
        raise Timeout(message, errno=errno.ETIMEDOUT, op="open", target=target_of(name))

    # -- call --------------------------------------------------------------------------------------

    def call(self, method: str, /, *args: Any, timeout: float | None = None, **named: Any) -> Any:
        """Call a method of the service, and wait for its result.

        Args:
            method: the name of the method.
            *args: the arguments of the method, by position.
            timeout: seconds to wait for the result; None (the default) waits without limit. If the
                method has a parameter ``timeout`` too, pass that argument by position.
            **named: the arguments of the method, by name.

        Returns:
            The result. If the method is a generator function, a `RemoteStream`, an iterator of the
            items. Then `timeout` applies to the beginning of the stream and to each item.

        Raises:
            RemoteError: the method raised an exception.
            NotFound: the service has no such method. The error lists its methods.
            TypeError: the arguments do not fit the method. The method was not called.
            Timeout: there was no result within the timeout. The method may run to its end.
            WouldBlock: `timeout` is 0, so the call can't wait for its result. The method was not
                called.
            PeerGone: no process serves the service any more, or the process that took the call
                died.
            LayoutMismatch: the client can't decode the result.
            LimitReached: there is no memory for the arguments.
            ClosedHandle: the client is closed.
        """
        deadline = None if timeout is None else self._deadline(timeout)
        remote, link = self._methods.get(method), self._link
        if (
            remote is not None
            and link is not None
            and not named
            and remote.decode_plain is not None
            and tuple(map(type, args)) == remote.exact
        ):
            try:
                body = encode(args)
            except UNENCODABLE as exc:
                raise remote.mismatch(exc) from None
            if len(body) <= _SHORT and not link.leads():
                # The fast path for the most frequent calls: with plain values, while no other
                # thread waits for a reply. `_call` does the same, but takes twice as long.
                try:
                    if link.leading.acquire(False):  # noqa: FBT003 - a keyword takes longer
                        try:
                            return link.exchange(remote, body, deadline)
                        except OtherReply as other:
                            reply = other.reply
                        except DecodeError as exc:
                            raise remote.undecodable(exc) from exc
                        finally:
                            link.end_exchange()
                        if reply is None:
                            raise self.too_late(remote.name, timeout)  # noqa: TRY301 - as below
                        with suppress(StaleMethods):
                            return self.finish(remote, reply)
                        self.forget_methods()
                except BaseException:
                    link.repair()
                    raise
        return self._call(method, args, named, deadline, timeout)

    def _call(
        self,
        method: str,
        args: tuple[Any, ...],
        named: dict[str, Any],
        deadline: float | None,
        timeout: float | None,
    ) -> Any:
        """Make a call of any kind; see `call`."""
        while True:
            remote = self._methods.get(method) or self.find(method, deadline)
            call = self.begin(remote, args, named, deadline)
            try:
                if call.link.wait(call, deadline):
                    return self.finish(remote, call.reply, call, timeout)
                raise self.too_late(remote.name, timeout)  # noqa: TRY301 - see the handlers below
            except StaleMethods:
                call.close_stream()
                self.forget_methods()
            except BaseException:
                call.close_stream()
                raise
            finally:
                if call.stream is None:
                    call.link.end(call)

    def submit(
        self, method: str, /, *args: Any, timeout: float | None = None, **named: Any
    ) -> Future[Any]:
        """Call a method of the service without waiting for its result.

        If 255 calls of this process wait for their results, `submit` waits until one has ended.

        Args:
            method: the name of the method.
            *args: the arguments of the method, by position.
            timeout: seconds to wait for the result; see `call`. After that, the Future raises
                `Timeout`. `Future.result` has a timeout too, which does not end the call.
            **named: the arguments of the method, by name.

        Returns:
            A Future of the result, with the same exceptions as `call`. If it is cancelled before
            the result has arrived, the call is cancelled. The method can see that by `current`.

        Raises:
            NotFound: the service has no such method.
            TypeError: the arguments do not fit the method.
            IpcError: the call can't be sent; see `call`.
        """
        deadline = self._deadline(timeout)
        pump = self._pump or self._new_pump()
        return pump.submit(method, args, named, deadline, timeout)

    def methods(self, *, timeout: float | None = None) -> dict[str, str]:
        """Ask the service for its methods, and return their signatures.

        Args:
            timeout: seconds to wait for the service; None (the default) waits without limit.

        Returns:
            A dict from the name of each method to its signature as text, such as
            ``norm(x: array of float64) -> float``.

        Raises:
            IpcError: the service did not answer; see `call`.
        """
        deadline = self._deadline(timeout)
        return signatures(self._ask("methods", deadline, timeout))

    if not TYPE_CHECKING:  # type checkers report misspelled attributes of a Client

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                message = f"{type(self).__name__!r} object has no attribute {name!r}"
                raise AttributeError(message)
            return partial(self.call, name)

    # -- the parts of a call -----------------------------------------------------------------------

    def find(self, name: str, deadline: float | None) -> RemoteMethod:
        """Return a method by name. Ask the service for its methods if the method is not known yet.

        Raises:
            NotFound: the service has no such method.
            IpcError: the service did not answer; see `call`.
        """
        return self._methods.get(name) or self.one_of(self._ask(name, deadline, None), name)

    def one_of(self, methods: dict[str, RemoteMethod], name: str) -> RemoteMethod:
        """Return a method by name.

        Args:
            methods: what `learn` returned. Another thread may have forgotten the methods since.
            name: the name.

        Raises:
            NotFound: the service has no such method.
        """
        found = methods.get(name)
        if found is None:
            known = ", ".join(methods) or "none"
            message = f"the service has no method {name!r}"
            target = target_of(self._service)
            raise NotFound(
                message, errno=errno.ENOENT, op="call", target=target, hint=f"it has: {known}"
            )
        return found

    def _ask(
        self, name: str, deadline: float | None, timeout: float | None
    ) -> dict[str, RemoteMethod]:
        """Ask the service for its methods, and return those in the reply."""
        call = self.ask_for_methods(name, deadline)
        try:
            if not call.link.wait(call, deadline):
                raise self.too_late(name, timeout)
            return self.learn(call.reply)
        finally:
            call.link.end(call)

    def forget_methods(self) -> None:
        """Forget the methods, so that the next call asks the service for them."""
        self._methods = {}

    def closed_error(self) -> ClosedHandle:
        """Return the error for a call on a closed client."""
        return closed_handle("call", self._target)

    def known(self, name: str) -> RemoteMethod | None:
        """Return a method by name if the client knows it already, otherwise None."""
        return self._methods.get(name)

    def ask_for_methods(self, name: str, deadline: float | None) -> WaitingCall:
        """Ask the service for its methods, and do not wait for the reply, which `learn` reads.

        Args:
            name: the method to call next, for error messages.
            deadline: the moment until which to wait for room; None for no limit.
        """
        self._deadline(None)
        return self._post(name, (DESCRIBE, 0), 0, b"", deadline)

    def learn(self, reply: Reply | None) -> dict[str, RemoteMethod]:
        """Store the methods in the reply to `ask_for_methods`, and return them by name.

        Raises:
            Corrupt: the reply does not describe methods.
            LayoutMismatch: the service uses another version of the protocol.
        """
        try:
            revision, definitions, methods = self.finish(Describe(), reply)
            table = TypeTable(definitions=definitions)
            target = target_of(self._service)
            found = [
                RemoteMethod(target, number, each, table, revision)
                for number, each in enumerate(methods)
            ]
        except IpcError:
            raise
        except (LookupError, TypeError, ValueError) as exc:
            raise corrupt(self._service) from exc
        methods = self._methods = {each.name: each for each in found}
        return methods

    def begin(
        self,
        remote: RemoteMethod,
        args: tuple[Any, ...],
        named: dict[str, Any],
        deadline: float | None,
    ) -> WaitingCall:
        """Send a call, and do not wait for the reply.

        Raises:
            TypeError: the arguments do not fit the method.
            IpcError: the call can't be sent; see `call`.
        """
        flags, value = remote.encode(args, named)
        # The number is that of the method's own revision; another thread may know a later one.
        method = remote.number, remote.revision
        return self._post(remote.name, method, flags, value, deadline, streams=remote.streams)

    def _post(
        self,
        name: str,
        method: tuple[int, int],
        flags: int,
        value: bytes | list[Buffer],
        deadline: float | None,
        *,
        streams: bool = False,
    ) -> WaitingCall:
        link = self._link or self._connect()
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            call = link.begin(left)
        except Empty:
            raise self.too_late(name, None, sent=False) from None
        try:
            if streams:
                call.stream = open_stream(self._service, link.token, call.number, self._size)
            slot, token = call.slot, link.token
            (place, revision), number = method, call.number
            if type(value) is bytes and len(value) <= _SHORT:
                head = _pack(CALL_KIND, flags, place, slot, revision, 0, token, number)
                self._send(head + value, timeout=left)
            else:
                call.memory = post(
                    self._requests,
                    lambda more: _pack(
                        CALL_KIND, flags | more, place, slot, revision, 0, token, number
                    ),
                    value,
                    left,
                    self._spare_name,
                )
        except BaseException as exc:
            call.close_stream()
            link.end(call)
            if isinstance(exc, (Timeout, WouldBlock)):
                raise self.too_late(name, None, sent=False) from None
            if isinstance(exc, PeerGone):
                raise server_gone(self._service, method=name) from None
            raise
        return call

    def finish(
        self,
        remote: RemoteMethod | Describe,
        reply: Reply | None,
        call: WaitingCall | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Return the result in a reply, or raise the exception in it.

        Raises:
            StaleMethods: the client knows methods of an earlier revision. The call was not run.
            Exception: see `call`.
        """
        if isinstance(reply, BaseException):
            if isinstance(reply, PeerGone) and isinstance(remote, RemoteMethod):
                reply.op = f"call {remote.name}"  # `Link` does not know the names of methods
            raise reply
        assert reply is not None  # noqa: S101 - for the type checkers
        message = memoryview(reply) if isinstance(reply, bytes) else reply.buf
        try:
            kind, flags, _, _, _ = _unpack(message)
            body, parts = (
                opened(message, flags, _HEAD, self._service) if flags else (message[_HEAD:], ())
            )
            if kind == RESULT:
                if (
                    call is not None
                    and call.stream is not None
                    and isinstance(remote, RemoteMethod)
                ):
                    return RemoteStream(self._service, remote, call, timeout)
                return remote.decode(body, parts)
            raise self.error_in(kind, body, remote.name)
        finally:
            if not isinstance(reply, bytes):
                reply.release()

    def error_in(self, kind: int, body: memoryview, method: str) -> Exception:
        """Return the exception in a reply."""
        if kind == STALE:
            return StaleMethods()
        if kind == ORPHANED:
            return server_gone(self._service, method=method)
        return remote_error(self._service, method, kind, body)

    def too_late(self, method: str, timeout: float | None, *, sent: bool = True) -> Timeout:
        """Return the error for a call whose deadline has passed.

        Args:
            method: the name of the method.
            timeout: the timeout of the call, in seconds; None if the caller does not know it.
            sent: whether the call was sent.
        """
        target = target_of(self._service)
        what = "no result" if sent else "the service took no call"
        within = "in time" if timeout is None else f"within {timeout:g} s"
        op = f"call {method}"
        return Timeout(f"{what} {within}", errno=errno.ETIMEDOUT, op=op, target=target)

    def _deadline(self, timeout: float | None) -> float | None:
        if self._closed:
            raise closed_handle("call", self._target)
        return deadline_of(timeout, target_of(self._service))

    def _connect(self) -> Link:
        """Return this process's channel for replies and table of calls. Create them if needed."""
        with self._connecting:
            if self._closed:
                raise closed_handle("call", self._target)
            return self._link or self._keep(Link(self._service, self._requests, self._size))

    def _keep(self, link: Link) -> Link:
        """Keep a new link, unless a signal handler has connected or closed the client meanwhile."""
        if self._link is None and not self._closed:
            self._link = link
            return link
        link.close()
        if self._link is None:
            raise closed_handle("call", self._target)
        return self._link

    def _new_pump(self) -> FuturePump:
        with self._connecting:
            if self._pump is None:
                self._pump = FuturePump(self)
            return self._pump

    def _spare_name(self) -> str:
        link = self._link or self._connect()
        return spare_of(self._service, link.token, f"c{next(self._spares)}")

    # -- lifecycle ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the service."""
        return self._service

    @property
    def _target(self) -> str:
        return f"client of {target_of(self._service)}"

    def close(self) -> None:
        """Close the client; idempotent, never raises.

        Calls that wait raise `ClosedHandle`. Methods that still run for the client can see that
        they were cancelled.
        """
        super().close()

    def _release(self) -> None:
        with self._connecting:
            link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._pump is not None:
            self._pump.close()
        self._requests.close()

    def leave_to_parent(self) -> None:
        """Close the child's copy of the parent's channel for replies, after a fork."""
        link, self._link = self._link, None
        self._connecting, self._pump = threading.RLock(), None
        if link is not None:
            link.leave()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Client of {one_line(target_of(self._service))}, {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed:
            raise closed_handle("pickle", self._target)
        return (_reopened, (type(self), self._service, self._size))


def deadline_of(timeout: float | None, target: str) -> float | None:
    """Return the moment, on the monotonic clock, until which a call waits; None for no limit.

    Raises:
        WouldBlock: the timeout is 0.
        TypeError: the timeout is not a number.
        InvalidArgument: the timeout is negative or NaN.
    """
    seconds = checked_timeout(timeout)
    if seconds == 0:
        message = "a call has to wait for its result; it was not sent"
        raise WouldBlock(message, errno=errno.EAGAIN, op="call", target=target)
    return None if seconds is None else time.monotonic() + seconds


def signatures(methods: dict[str, RemoteMethod]) -> dict[str, str]:
    """Return the signatures of methods."""
    return {name: str(each) for name, each in methods.items()}


def _reopened(cls: type[Client], service: str, size: int) -> Client:
    return cls.open(service, size=size)


def _after_fork() -> None:
    for client in tuple(_CLIENTS):
        client.leave_to_parent()


at_fork("clients", after_in_child=_after_fork)
