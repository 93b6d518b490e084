"""The status and limits of System V message queues: the structures of msgctl(2)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Self, final

import ipckit._native as native
from ipckit._core.public import public
from ipckit._core.sysv import Table


@public("ipckit.msgq")
@final
@dataclass(frozen=True, slots=True)
class SysVMessageQueueStat:
    """The status of a System V queue: every field of struct msqid_ds.

    Attributes:
        id: the queue's identifier.
        key: its key; 0 for a private one.
        uid: the owner's user id.
        gid: the owner's group id.
        cuid: the creator's user id.
        cgid: the creator's group id.
        mode: permission bits.
        seq: the kernel's sequence number, which makes ids of one slot differ.
        stime: the time of the last send, in seconds since the epoch; 0 for never.
        rtime: the time of the last receive; 0 for never.
        ctime: the time at which the queue was created or last changed.
        cbytes: the bytes of message text in the queue now.
        qnum: the number of messages in the queue now.
        qbytes: the most bytes of message text that the queue can contain.
        lspid: the process of the last send; 0 for never.
        lrpid: the process of the last receive; 0 for never.

    Example:
        >>> from ipckit import SysVMessageQueue
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"hello")
        ...     queue.stat().qnum, queue.stat().cbytes
        (1, 5)
    """

    id: int
    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int
    stime: int
    rtime: int
    ctime: int
    cbytes: int
    qnum: int
    qbytes: int
    lspid: int
    lrpid: int

    @classmethod
    def _of(cls, fields: tuple[int, ...], queue_id: int) -> Self:
        return cls(queue_id, *fields[1:])

    def may_change(self) -> bool:
        """Return whether this process runs as the owner, the creator or root."""
        return os.geteuid() in {0, self.uid, self.cuid}


@public("ipckit.msgq")
@final
@dataclass(frozen=True, slots=True)
class SysVMessageLimits:
    """The kernel's limits on System V message queues (IPC_INFO).

    Attributes:
        msgmax: the most bytes of one message (kernel.msgmax).
        msgmnb: the most bytes that a new queue can contain (kernel.msgmnb).
        msgmni: the most queues (kernel.msgmni).

    Example:
        >>> from ipckit import msgq
        >>> msgq.limits().msgmax > 0
        True
    """

    msgmax: int
    msgmnb: int
    msgmni: int


@public("ipckit.msgq")
@final
@dataclass(frozen=True, slots=True)
class SysVMessageUsage:
    """The totals of all System V message queues of the IPC namespace (MSG_INFO).

    Attributes:
        queues: the number of queues.
        messages: the number of messages in them.
        bytes: the bytes of message text in them.

    Example:
        >>> from ipckit import SysVMessageQueue, msgq
        >>> with SysVMessageQueue.create() as queue:
        ...     msgq.usage().queues >= 1
        True
    """

    queues: int
    messages: int
    bytes: int


QUEUES: Final = Table(
    noun="queue",
    title="queue",
    call="msgctl",
    stat=native.msg_stat,
    stat_any=native.MSG_STAT_ANY,
    highest=lambda: native.msg_info(native.MSG_INFO)[0],
    made=SysVMessageQueueStat._of,
)


@public("ipckit.msgq")
def list_queues() -> list[SysVMessageQueueStat]:
    """Return the status of all queues of the IPC namespace, even of those the caller may not read.

    Example:
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.stat() in list_queues()
        True

    See msgctl(2), MSG_STAT_ANY.
    """
    return QUEUES.all()


@public("ipckit.msgq")
def limits() -> SysVMessageLimits:
    """Return the kernel's limits on System V message queues.

    Example:
        >>> limits().msgmax >= 0
        True

    See msgctl(2), IPC_INFO.
    """
    fields = native.msg_info(native.IPC_INFO)
    return SysVMessageLimits(msgmax=fields[3], msgmnb=fields[4], msgmni=fields[5])


@public("ipckit.msgq")
def usage() -> SysVMessageUsage:
    """Return the totals of all System V message queues.

    Example:
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(b"hello")
        ...     usage().messages >= 1
        True

    See msgctl(2), MSG_INFO.
    """
    fields = native.msg_info(native.MSG_INFO)
    return SysVMessageUsage(queues=fields[1], messages=fields[2], bytes=fields[7])
