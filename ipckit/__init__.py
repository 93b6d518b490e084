"""Every way in which Linux processes talk to each other: typed, safe, fast.

The layers, lowest first; a module imports only from layers below its own:

1. vocabulary: `errors`, handles and deadlines, `keys`, `structs`, `codec`
2. one kernel mechanism each: `msgq`
3. composition
4. tools
"""

from ipckit._handle import Capabilities, Handle
from ipckit.codec import Codec
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    ClosedHandle,
    Corrupt,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    OwnerDied,
    PeerGone,
    Removed,
    Timeout,
    WouldBlock,
)
from ipckit.keys import Key, Name, ftok
from ipckit.msgq import Message, PosixMessageQueue, SysVMessageQueue

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "Capabilities",
    "ClosedHandle",
    "Codec",
    "Corrupt",
    "Handle",
    "InvalidArgument",
    "IpcError",
    "Key",
    "LayoutMismatch",
    "LimitReached",
    "Message",
    "MessageTooLong",
    "Name",
    "NotFound",
    "OwnerDied",
    "PeerGone",
    "PosixMessageQueue",
    "Removed",
    "SysVMessageQueue",
    "Timeout",
    "WouldBlock",
    "ftok",
]
