"""What the kernel knows of System V message queues: msgctl(2)'s structures."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Self

import ipckit._native as native
from ipckit._core.public import public
from ipckit._core.sysv import Table


@public("ipckit.msgq")
@dataclass(frozen=True, slots=True)
class SysVMessageQueueStat:
    """Every field of msqid_ds.

    Attributes:
        id: the queue's identifier.
        key: its key; 0 for a private one.
        uid: the owner's user; `gid` the owner's group.
        cuid: the creator's user; `cgid` the creator's group.
        mode: permission bits.
        seq: the kernel's sequence number of the slot.
        stime: when a message was last sent, in seconds since the epoch; 0 for never.
        rtime: when a message was last received; 0 for never.
        ctime: when the queue was made or last changed.
        cbytes: bytes of message text in the queue now.
        qnum: messages in the queue now.
        qbytes: the most bytes of message text that it holds.
        lspid: the process that last sent; 0 for none.
        lrpid: the process that last received; 0 for none.
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
        """Whether this process is the owner, the creator or root."""
        return os.geteuid() in {0, self.uid, self.cuid}


@public("ipckit.msgq")
@dataclass(frozen=True, slots=True)
class SysVMessageLimits:
    """The kernel's limits on System V message queues (IPC_INFO).

    Attributes:
        msgmax: the most bytes of one message.
        msgmnb: the most bytes of a new queue.
        msgmni: the most queues.
    """

    msgmax: int
    msgmnb: int
    msgmni: int


@public("ipckit.msgq")
@dataclass(frozen=True, slots=True)
class SysVMessageUsage:
    """What all System V message queues of the namespace hold together (MSG_INFO).

    Attributes:
        queues: how many queues exist.
        messages: how many messages are in them.
        bytes: bytes of message text in them.
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
    """All queues of the IPC namespace, also those that the caller may not read (MSG_STAT_ANY)."""
    return QUEUES.all()


@public("ipckit.msgq")
def limits() -> SysVMessageLimits:
    """The kernel's limits on System V message queues; see msgctl(2), IPC_INFO."""
    fields = native.msg_info(native.IPC_INFO)
    return SysVMessageLimits(msgmax=fields[3], msgmnb=fields[4], msgmni=fields[5])


@public("ipckit.msgq")
def usage() -> SysVMessageUsage:
    """What all queues hold together; see msgctl(2), MSG_INFO."""
    fields = native.msg_info(native.MSG_INFO)
    return SysVMessageUsage(queues=fields[1], messages=fields[2], bytes=fields[7])
