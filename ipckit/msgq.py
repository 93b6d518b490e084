"""Message queues: System V's, with typed messages, and POSIX's, with priorities."""

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
