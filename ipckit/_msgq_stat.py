"""What the kernel knows of System V message queues: msgctl(2)'s structures."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Self

from ipckit import _native
from ipckit.errors import from_errno


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


def stat_queue(queue_id: int) -> SysVMessageQueueStat:
    """One queue by its id (IPC_STAT).

    Raises:
        Removed: there is none of that id.
        AccessDenied: the caller may not read from it.
    """
    try:
        return SysVMessageQueueStat._of(_native.msg_stat(queue_id, _native.IPC_STAT), queue_id)
    except OSError as exc:
        message = "the queue was removed" if exc.errno in {errno.EIDRM, errno.EINVAL} else ""
        raise from_errno(
            exc.errno or 0, op="msgctl", target=f"queue id {queue_id}", message=message
        ) from None


def list_queues() -> list[SysVMessageQueueStat]:
    """All queues of the IPC namespace, also those that the caller may not read (MSG_STAT_ANY)."""
    found: list[SysVMessageQueueStat] = []
    for index in range(_native.msg_info(_native.MSG_INFO)[0] + 1):
        try:
            fields = _native.msg_stat(index, _native.MSG_STAT_ANY)
        except OSError:
            continue  # no queue in this slot
        found.append(SysVMessageQueueStat._of(fields, fields[0]))
    return found


def find_queue(queue_id: int) -> SysVMessageQueueStat | None:
    """One queue by its id, also one that the caller may not read; None where there is none."""
    try:
        return SysVMessageQueueStat._of(_native.msg_stat(queue_id, _native.IPC_STAT), queue_id)
    except PermissionError:
        return next((queue for queue in list_queues() if queue.id == queue_id), None)
    except OSError:
        return None


def limits() -> SysVMessageLimits:
    """The kernel's limits on System V message queues; see msgctl(2), IPC_INFO."""
    fields = _native.msg_info(_native.IPC_INFO)
    return SysVMessageLimits(msgmax=fields[3], msgmnb=fields[4], msgmni=fields[5])


def usage() -> SysVMessageUsage:
    """What all queues hold together; see msgctl(2), MSG_INFO."""
    fields = _native.msg_info(_native.MSG_INFO)
    return SysVMessageUsage(queues=fields[1], messages=fields[2], bytes=fields[7])
