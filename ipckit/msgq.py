"""Message queues: System V's, with typed messages, and POSIX's, with priorities."""

from typing import TYPE_CHECKING

from ipckit._core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ipckit._msgq.attributes import PosixMessageQueueAttributes
    from ipckit._msgq.message_form import decode_message
    from ipckit._msgq.posix import PosixMessageQueue
    from ipckit._msgq.stat import (
        SysVMessageLimits,
        SysVMessageQueueStat,
        SysVMessageUsage,
        limits,
        list_queues,
        usage,
    )
    from ipckit._msgq.sysv import SysVMessageQueue
    from ipckit._native import Message
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ipckit._msgq.attributes": "PosixMessageQueueAttributes",
            "ipckit._msgq.message_form": "decode_message",
            "ipckit._msgq.posix": "PosixMessageQueue",
            "ipckit._msgq.stat": (
                "SysVMessageLimits SysVMessageQueueStat SysVMessageUsage limits list_queues usage"
            ),
            "ipckit._msgq.sysv": "SysVMessageQueue",
            "ipckit._native": "Message",
        },
    )

__all__ = [
    "Message",
    "PosixMessageQueue",
    "PosixMessageQueueAttributes",
    "SysVMessageLimits",
    "SysVMessageQueue",
    "SysVMessageQueueStat",
    "SysVMessageUsage",
    "decode_message",
    "limits",
    "list_queues",
    "usage",
]
