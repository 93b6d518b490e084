"""System V queues, segments and semaphore sets, as the kernel tells of them."""

from __future__ import annotations

import grp
import pwd
from functools import cache
from typing import TYPE_CHECKING

from ipckit._inventory_model import IpcObject, Use
from ipckit.msgq import list_queues
from ipckit.sem import list_sets
from ipckit.shm import list_segments

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def user(uid: int) -> str:
    """A user's name, or the number as text."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@cache
def group(gid: int) -> str:
    """A group's name, or the number as text."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def queues() -> Iterator[IpcObject]:
    """The queues of the IPC namespace."""
    for q in list_queues():
        yield IpcObject(
            "sysv-queue",
            "",
            q.key,
            q.id,
            q.uid,
            q.gid,
            user(q.uid),
            group(q.gid),
            q.mode,
            q.qbytes,
            Use(messages=q.qnum, bytes=q.cbytes),
            identity=(q.id, q.ctime),
        )


def segments() -> Iterator[IpcObject]:
    """The segments of the IPC namespace."""
    for m in list_segments():
        yield IpcObject(
            "sysv-segment",
            "",
            m.key,
            m.id,
            m.uid,
            m.gid,
            user(m.uid),
            group(m.gid),
            m.mode,
            m.segsz,
            Use(attached=m.nattch),
            identity=(m.id, m.ctime),
        )


def sets() -> Iterator[IpcObject]:
    """The semaphore sets of the IPC namespace."""
    for s in list_sets():
        yield IpcObject(
            "sysv-semaphores",
            "",
            s.key,
            s.id,
            s.uid,
            s.gid,
            user(s.uid),
            group(s.gid),
            s.mode,
            s.nsems,
            identity=(s.id, s.ctime),
        )
