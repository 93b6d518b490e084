"""Service: offer methods to other processes, and serve their calls."""

from __future__ import annotations

import errno
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, overload

from ipckit._channel.channel import Channel
from ipckit._core.arguments import int_argument
from ipckit._core.construct import construct
from ipckit._core.files import CHANNEL_PREFIX, SHM
from ipckit._core.forks import at_fork
from ipckit._core.handle import Capabilities, Handle
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._core.taken import exists, file_use
from ipckit._rpc.methods import Methods
from ipckit._rpc.names import channel_of, checked_service, target_of
from ipckit._rpc.requests import access_denied, no_memory, open_requests
from ipckit._rpc.server import Callers, Server
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidArgument,
    IpcError,
    LimitReached,
    NotFound,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._payload.codec import Codec

P = ParamSpec("P")
R = TypeVar("R")

_CAPACITY: Final = 1024
_SIZE: Final = 1 << 22
_SERVICES: Final[weakref.WeakSet[Service]] = weakref.WeakSet()


@public("ipckit.rpc")
class Service(Handle):
    """A set of methods that other processes call by name, with a `Client`.

    Register functions with `method`, and then call `serve`. Several processes can serve one name:
    one process creates the service, and the others open it. Each call goes to one of them.

    A service has a channel in /dev/shm for calls, ``ipckit.rpc.NAME``, and another one for each
    client. All have mode 0600, so only processes of the same user can call the service.

    >>> import threading
    >>> import numpy as np
    >>> import numpy.typing as npt
    >>> from ipckit.rpc import Client, Service
    >>> with Service.create("doc-solver") as service:
    ...     @service.method
    ...     def norm(x: npt.NDArray[np.float64]) -> float:
    ...         return float(np.linalg.norm(x))
    ...     thread = threading.Thread(target=service.serve)  # usually another process
    ...     thread.start()
    ...     with Client.open("doc-solver") as solver:
    ...         solver.norm(np.array([3.0, 4.0]), timeout=10)
    ...     service.close()
    ...     thread.join()
    5.0
    """

    _factories = "Service.create, open or open_or_create"

    caps = Capabilities(
        pollable=False,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    def __init__(self, name: str, requests: Channel[bytes], *, owner: bool) -> None:
        self._name, self._requests = name, requests
        self._methods = Methods()
        self._callers = Callers(name)
        self._servers: set[Server] = set()
        self._changing = threading.RLock()  # reentrant, because a signal handler can call `close`
        Handle.__init__(self, owner=owner)
        _SERVICES.add(self)

    # -- create and open -------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str, *, capacity: int = _CAPACITY, size: int = _SIZE) -> Self:
        """Create a service. The handle owns it: leaving ``with`` removes it.

        Args:
            name: the service's name, such as ``"solver"``, up to 190 bytes.
            capacity: the maximum number of calls that wait for a server, 1,024 by default. If this
                number is reached, `Client.call` waits.
            size: bytes of memory for calls that wait, 4 MiB by default. A call of more than half of
                this size gets memory of its own, which is slower.

        Returns:
            The service.

        Raises:
            AlreadyExists: there is a service of that name.
            LimitReached: /dev/shm is full, or RLIMIT_NOFILE is reached.
            InvalidArgument: an argument is out of range.
        """
        wanted = checked_service(name)
        try:
            channel = Channel.create(
                channel_of(wanted), capacity=capacity, size=size, peer_gone="wait"
            )
        except AlreadyExists:
            use = file_use(SHM + "/" + CHANNEL_PREFIX + channel_of(wanted))
            message, hint = exists("service", "Service", f'"{wanted}"', use)
            raise AlreadyExists(
                message, errno=errno.EEXIST, op="create", target=target_of(wanted), hint=hint
            ) from None
        except LimitReached as exc:
            raise no_memory(wanted, exc, "Service.create") from None
        return cls._made(wanted, channel)

    @classmethod
    def open(cls, name: str) -> Self:
        """Open an existing service, to serve it in this process too. The handle does not own it.

        Register the same methods as the other processes, because each call goes to one of them.

        Args:
            name: the service's name.

        Returns:
            The service, without methods.

        Raises:
            NotFound: there is no service of that name.
            AccessDenied: the service belongs to another user.
            LimitReached: RLIMIT_NOFILE is reached, or the service has 256 clients and servers.
        """
        wanted = checked_service(name)
        hint = f"create it with Service.create({wanted!r})"
        return cls._made(wanted, open_requests(wanted, hint=hint, peer_gone="wait"))

    @classmethod
    def open_or_create(
        cls,
        name: str,
        *,
        capacity: int = _CAPACITY,
        size: int = _SIZE,
        timeout: float | None = PATIENCE,
    ) -> Self:
        """Open a service, or create it. The handle owns the service only if it created it.

        Args:
            name: the service's name.
            capacity: see `create`; ignored if the service exists.
            size: see `create`; ignored if the service exists.
            timeout: seconds to keep trying while other processes create and remove the service.

        Returns:
            The service, without methods.

        Raises:
            Timeout: other processes created and removed the service until the timeout ended.
            IpcError: the service can't be created or opened; see `create` and `open`.
        """
        wanted = checked_service(name)
        try:
            channel = Channel.open_or_create(
                channel_of(wanted), capacity=capacity, size=size, peer_gone="wait", timeout=timeout
            )
        except AccessDenied as exc:
            raise access_denied(wanted, exc) from None
        except LimitReached as exc:
            raise no_memory(wanted, exc, "Service.open_or_create") from None
        return cls._made(wanted, channel)

    @classmethod
    def remove(cls, name: str, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove a service by its name. Processes that have it open can continue.

        Args:
            name: the service's name.
            missing_ok: do nothing if there is no such service; False by default.

        Raises:
            NotFound: there is no service of that name.
            AccessDenied: another user owns the service.
            InvalidArgument: `name` is invalid.

        Example:
            >>> Service.remove("no-such-service", missing_ok=True)
        """
        wanted = checked_service(name)
        try:
            Channel.remove(channel_of(wanted))
        except NotFound:
            if not missing_ok:
                raise NotFound(
                    "no such service", errno=errno.ENOENT, op="remove", target=target_of(wanted)
                ) from None

    @classmethod
    def _made(cls, name: str, channel: Channel[bytes]) -> Self:
        try:
            return construct(cls, name, channel, owner=channel.owner)
        except BaseException:
            channel.__exit__(None, None, None)
            raise

    # -- methods ---------------------------------------------------------------------------------

    @overload
    def method(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def method(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        codec: Codec[Any] | type[Codec[Any]] | None = None,
        in_place: bool = False,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    @overload
    def method(
        self,
        function: Callable[P, R],
        /,
        *,
        name: str | None = None,
        codec: Codec[Any] | type[Codec[Any]] | None = None,
        in_place: bool = False,
    ) -> Callable[P, R]: ...
    def method(
        self,
        function: Callable[P, R] | None = None,
        /,
        *,
        name: str | None = None,
        codec: Codec[Any] | type[Codec[Any]] | None = None,
        in_place: bool = False,
    ) -> Any:
        """Offer a function to clients. Use it as a decorator, with or without options.

        The annotations of the parameters and of the result give their types. Possible types are
        numbers, str, bytes, bool, None, lists, tuples, sets, dicts, dataclasses, TypedDicts,
        NamedTuples, enums, dates, numpy arrays, `Struct`, ctypes structures and msgspec structs.
        They can be nested. ``NDArray[np.float64]`` accepts only arrays of that dtype. Values are
        checked on both sides.

        A generator function becomes a stream, and the client iterates over its items. Each stream
        runs in a thread of its own.

        Args:
            function: the function, or a bound method.
            name: the name by which clients call the function; by default the function's own name.
            codec: a codec for the arguments and the result, which replaces the annotations. With
                `ipckit.codec.Pickle`, the arguments and the result can be any object that can be
                pickled. But then a client can run any code in this process, and this process can
                run any code in the client.
            in_place: if True, arrays among the arguments are not copied. They are read-only, and
                use the shared memory of the call. That memory does not change while an array
                exists.

        Returns:
            The function, unchanged; or a decorator if `function` is omitted.

        Raises:
            TypeError: an annotation is missing, or the values of a type can't be carried.
            AlreadyExists: there is a method of that name.
            InvalidArgument: the function has no name; pass `name`.
            LimitReached: the service has 65,535 methods.
            ClosedHandle: the service is closed.
        """
        frame = sys._getframe(1)  # noqa: SLF001 - for local names in annotations
        if function is None:

            def decorate(function: Callable[P, R]) -> Callable[P, R]:
                self._add(function, name, codec, in_place=in_place, frame=frame)
                return function

            return decorate
        self._add(function, name, codec, in_place=in_place, frame=frame)
        return function

    def _add(
        self, function: Any, name: str | None, codec: Any, *, in_place: bool, frame: Any
    ) -> None:
        with self._changing:  # or one of two threads that add methods would lose its own
            self._check_open("method")
            self._methods.add(function, name, codec, in_place=in_place, frame=frame)

    # -- serve -----------------------------------------------------------------------------------

    def serve(self, *, workers: int = 1) -> None:
        """Run the calls of clients, until `close` is called in another thread or by a method.

        If a call runs when the service is closed, `serve` returns after the end of that call. An
        exception in a method is sent to the client. KeyboardInterrupt and SystemExit also end
        `serve`.

        Args:
            workers: how many threads run calls, 1 or more. With 1, the default, no two calls run at
                the same time in this process, except generators.

        Raises:
            ClosedHandle: the service is closed.
            InvalidArgument: `workers` is less than 1.
            LimitReached: the service has 256 clients and servers, or RLIMIT_NOFILE is reached.
            Corrupt: the shared memory was overwritten.
        """
        self._check_open("serve")
        if int_argument("workers", workers) < 1:
            message = f"workers must be 1 or more, not {workers}"
            raise InvalidArgument(message)
        servers: list[Server] = []
        threads: list[threading.Thread] = []
        errors: list[BaseException] = []

        def run(server: Server) -> None:
            try:
                server.serve()
            except BaseException as exc:  # `serve` below raises it
                errors.append(exc)
                for each in servers:
                    each.stop()

        try:
            servers.extend(self.new_server() for _ in range(workers))
            for server in servers[1:]:
                thread = threading.Thread(
                    target=run, args=(server,), name="ipckit-rpc", daemon=True
                )
                thread.start()
                threads.append(thread)
            servers[0].serve()
        finally:
            for server in servers:
                server.stop()
            for thread in threads:
                thread.join()
            self.forget_servers(servers)
        if errors:
            raise errors[0]

    def new_server(self) -> Server:
        """Return a new server, which `close` stops.

        Raises:
            ClosedHandle: the service is closed.
            IpcError: the server can't be created; see `serve`.
        """
        with self._changing:
            self._check_open("serve")
            server = Server(self._name, self._methods, self._callers)
            self._servers.add(server)
            if self._closed:  # a signal handler has closed the service in between
                server.stop()
            return server

    def forget_servers(self, servers: list[Server]) -> None:
        """Forget servers that have ended."""
        with self._changing:
            self._servers.difference_update(servers)
            last = not self._servers
        if last and self._closed:
            self._callers.close()

    def leave_to_parent(self) -> None:
        """In a forked child: forget the parent's servers, and locks that other threads held."""
        self._changing, self._servers = threading.RLock(), set()
        self._callers.forked()

    # -- lifecycle ---------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the service."""
        return self._name

    def close(self) -> None:
        """Stop serving, and end this process's access to the service; idempotent, never raises.

        `serve` returns when the running calls have ended. Calls that wait for a server go to other
        processes that serve this name. If there is no such process, they raise `PeerGone`.
        """
        super().close()

    def _release(self) -> None:
        with self._changing:
            servers = list(self._servers)
        for server in servers:
            with suppress(IpcError):
                server.stop()
        if not servers:
            self._callers.close()
        self._requests.close()

    def _remove(self) -> None:
        self._requests.unlink()

    def _still_ours(self) -> bool:
        return self._requests._still_ours()  # noqa: SLF001 - the channel is this object's

    @property
    def _target(self) -> str:
        return target_of(self._name)

    def _size_text(self) -> str:
        return f"{len(self._methods.by_number)} methods"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self._name,)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return cls.open(*args)


def _after_fork() -> None:
    for service in tuple(_SERVICES):
        service.leave_to_parent()


at_fork("services", after_in_child=_after_fork)
