"""Any handle in an event loop: asyncio's (uvloop's too) or trio's.

    async with aio.wrap(queue) as q:
        await q.send(value)
        async for message in q:
            ...

`wrap` gives a handle's face, on which the calls that can wait are coroutines of the same names and
arguments. Cancelling one never loses what it waited for.
"""

from ipckit._aio.channel import ChannelFace
from ipckit._aio.face import Face
from ipckit._aio.queues import PosixQueue, SysVQueue
from ipckit._aio.semaphores import NamedSemaphore, SemaphoreSet, SysVSemaphore
from ipckit._aio.sockets import Frames, Listener, Socket
from ipckit._aio.wrap import wrap

__all__ = [
    "ChannelFace",
    "Face",
    "Frames",
    "Listener",
    "NamedSemaphore",
    "PosixQueue",
    "SemaphoreSet",
    "Socket",
    "SysVQueue",
    "SysVSemaphore",
    "wrap",
]
