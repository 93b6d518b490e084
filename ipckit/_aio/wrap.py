"""Any handle in an event loop: asyncio's (uvloop's too) or trio's.

    async with aio.wrap(queue) as q:
        await q.send(value)
        async for message in q:
            ...

`wrap` gives a handle's face, on which the calls that can wait are coroutines of the same names and
arguments. Cancelling one never loses what it waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, overload

from ipckit._aio.channel import ChannelFace
from ipckit._aio.queues import PosixQueue, SysVQueue
from ipckit._aio.semaphores import NamedSemaphore, SemaphoreSet, SysVSemaphore
from ipckit._aio.sockets import Frames, Listener, Socket
from ipckit._channel.channel import Channel
from ipckit._core.public import public
from ipckit._msgq.posix import PosixMessageQueue
from ipckit._msgq.sysv import SysVMessageQueue
from ipckit._native import Semaphore
from ipckit._sem.posix import PosixSemaphore
from ipckit._sem.sysv import SysVSemaphoreSet
from ipckit._sockets.framed import Framed
from ipckit._sockets.listener import UnixListener
from ipckit._sockets.socket import UnixSocket

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
@public("ipckit.aio")
def wrap(handle: Any) -> Face[Any]:
    """A handle's face in an event loop.

    The face has the handle's calls that can wait, as coroutines, with the same names and
    arguments; the handle itself is its `handle`. Several faces of one handle are as good as one,
    in one event loop or several.

    Calls that can be done at once are, without a turn of the event loop; after each 32 of them
    the loop gets one. Those that must wait are served in order.

    Args:
        handle: a SysVMessageQueue, PosixMessageQueue, SysVSemaphoreSet or one of its semaphores,
            PosixSemaphore, UnixSocket, UnixListener, Framed or Channel.

    Raises:
        TypeError: it is something else.
    """
    for kind in type(handle).__mro__:
        face = _FACES.get(kind)
        if face is not None:
            make: Any = face
            made: Face[Any] = make(handle)
            return made
    known = ", ".join(kind.__name__ for kind in _FACES)
    message = f"{type(handle).__name__} has no calls to await; these have: {known}"
    raise TypeError(message)
