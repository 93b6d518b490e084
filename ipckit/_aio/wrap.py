"""`wrap`: the awaitable face of a handle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, overload

from ipckit._aio.channel import ChannelFace
from ipckit._aio.queues import PosixQueue, SysVQueue
from ipckit._aio.rpc_client import ClientFace
from ipckit._aio.semaphores import NamedSemaphore, SemaphoreSet, SysVSemaphore
from ipckit._aio.sockets import Frames, Listener, Socket
from ipckit._aio.topic import SubscriptionFace, TopicFace
from ipckit._channel.channel import Channel
from ipckit._core.public import public
from ipckit._msgq.posix import PosixMessageQueue
from ipckit._msgq.sysv import SysVMessageQueue
from ipckit._native import Semaphore
from ipckit._rpc.client import Client
from ipckit._sem.posix import PosixSemaphore
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit._sockets.framed import Framed
from ipckit._sockets.listener import UnixListener
from ipckit._sockets.socket import UnixSocket
from ipckit._topic.subscription import Subscription
from ipckit._topic.topic import Topic

if TYPE_CHECKING:
    from ipckit._aio.face import Face
    from ipckit._payload.types import V

_FACES: Final[dict[type[Any], type[Face[Any]]]] = {
    SysVMessageQueue: SysVQueue,
    PosixMessageQueue: PosixQueue,
    Semaphore: SysVSemaphore,
    SysVSemaphoreSet: SemaphoreSet,
    PosixSemaphore: NamedSemaphore,
    UnixSocket: Socket,
    UnixListener: Listener,
    Framed: Frames,
    Channel: ChannelFace,
    Topic: TopicFace,
    Subscription: SubscriptionFace,
    Client: ClientFace,
}


@overload
def wrap(handle: SysVMessageQueue[V]) -> SysVQueue[V]: ...
@overload
def wrap(handle: PosixMessageQueue[V]) -> PosixQueue[V]: ...
@overload
def wrap(handle: Semaphore) -> SysVSemaphore: ...
@overload
def wrap(handle: SysVSemaphoreSet) -> SemaphoreSet: ...
@overload
def wrap(handle: PosixSemaphore) -> NamedSemaphore: ...
@overload
def wrap(handle: UnixSocket) -> Socket: ...
@overload
def wrap(handle: UnixListener) -> Listener: ...
@overload
def wrap(handle: Framed) -> Frames: ...
@overload
def wrap(handle: Channel[V]) -> ChannelFace[V]: ...
@overload
def wrap(handle: Topic[V]) -> TopicFace[V]: ...
@overload
def wrap(handle: Subscription[V]) -> SubscriptionFace[V]: ...
@overload
def wrap(handle: Client) -> ClientFace: ...
@public("ipckit.aio")
def wrap(handle: Any) -> Face[Any]:
    """Return the face of a handle for an event loop.

    The calls of the handle that can wait are coroutines of the face, with the same names and
    arguments. The handle itself is its `handle`. A handle may have several faces, in one event loop
    or in several: they share the queue of waiting calls.

    A call that can succeed at once does not wait for the event loop. After 32 such calls the loop
    runs its other tasks. Calls that have to wait are served in order.

    Args:
        handle: a SysVMessageQueue, PosixMessageQueue, SysVSemaphoreSet or one of its semaphores,
            PosixSemaphore, UnixSocket, UnixListener, Framed, Channel, Topic, Subscription or
            `ipckit.rpc.Client`.

    Returns:
        The face.

    Raises:
        TypeError: objects of that class have no face.

    Example:
        >>> import asyncio
        >>> from ipckit import aio, unixsock
        >>> async def main():
        ...     a, b = unixsock.pair()
        ...     async with aio.wrap(a) as left, aio.wrap(b) as right:
        ...         await left.send(b"hello")
        ...         return (await right.receive()).data
        >>> asyncio.run(main())
        b'hello'
    """
    for kind in type(handle).__mro__:
        face = _FACES.get(kind)
        if face is not None:
            make: Any = face
            made: Face[Any] = make(handle)
            return made
    known = ", ".join(kind.__name__ for kind in _FACES)
    message = f"handle must be one of {known}, not {type(handle).__name__}"
    raise TypeError(message)
