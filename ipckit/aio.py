"""Handles in an event loop of asyncio (uvloop too) or trio.

For example::

    async with aio.wrap(queue) as q:
        await q.send(value)
        async for message in q:
            ...

`wrap` returns the face of a handle. Its calls that can wait are coroutines with the same names and
arguments. A call that is cancelled never loses a message. `serve` serves a service, or the
connections to a UNIX socket.
"""

from ipckit._aio.channel import ChannelFace
from ipckit._aio.face import Face
from ipckit._aio.queues import PosixQueue, SysVQueue
from ipckit._aio.rpc_client import ClientFace, StreamFace
from ipckit._aio.semaphores import NamedSemaphore, SemaphoreSet, SysVSemaphore
from ipckit._aio.serve import serve
from ipckit._aio.sockets import Frames, Listener, Socket
from ipckit._aio.topic import SubscriptionFace, TopicFace
from ipckit._aio.wrap import wrap

__all__ = [
    "ChannelFace",
    "ClientFace",
    "Face",
    "Frames",
    "Listener",
    "NamedSemaphore",
    "PosixQueue",
    "SemaphoreSet",
    "Socket",
    "StreamFace",
    "SubscriptionFace",
    "SysVQueue",
    "SysVSemaphore",
    "TopicFace",
    "serve",
    "wrap",
]
