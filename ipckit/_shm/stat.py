"""The kernel's figures on System V shared memory: the structures of shmctl(2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, final

import ipckit._native as native
from ipckit._core.public import public
from ipckit._core.sysv import Table

_PERMISSIONS: Final = 0o777


@public("ipckit.shm")
@final
@dataclass(frozen=True, slots=True)
class SysVSharedMemoryStat:
    """The state of a segment: every field of shmid_ds.

    Attributes:
        id: the segment's identifier.
        key: its key; 0 if it has none (IPC_PRIVATE) or was unlinked.
        uid: the owner's user id.
        gid: the owner's group id.
        cuid: the creator's user id.
        cgid: the creator's group id.
        mode: permission bits.
        destroyed: whether it was unlinked; the last detach frees it (SHM_DEST).
        locked: whether its pages stay in memory (SHM_LOCKED).
        seq: the kernel's sequence number of the slot.
        segsz: the size in bytes, as requested.
        atime: the time of the last attach, in seconds since the epoch; 0 if there was none.
        dtime: the time of the last detach; 0 if there was none.
        ctime: the time of its creation or of the last change.
        cpid: the process that created it.
        lpid: the process that attached or detached it last; 0 if there was none.
        nattch: the number of attaches by all processes together.

    Example:
        >>> from ipckit import SysVSharedMemory
        >>> with SysVSharedMemory.create(size=100) as memory:
        ...     memory.stat().segsz, memory.stat().nattch
        (100, 1)

    See shmctl(2).
    """

    id: int
    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    destroyed: bool
    locked: bool
    seq: int
    segsz: int
    atime: int
    dtime: int
    ctime: int
    cpid: int
    lpid: int
    nattch: int

    @classmethod
    def _of(cls, fields: tuple[int, ...], segment: int) -> Self:
        _, key, uid, gid, cuid, cgid, mode, *rest = fields
        flags = mode & _PERMISSIONS, bool(mode & native.SHM_DEST), bool(mode & native.SHM_LOCKED)
        return cls(segment, key, uid, gid, cuid, cgid, *flags, *rest)


@public("ipckit.shm")
@final
@dataclass(frozen=True, slots=True)
class SysVSharedMemoryLimits:
    """The kernel's limits on System V shared memory (IPC_INFO).

    Attributes:
        shmmax: the largest size of a segment, in bytes.
        shmmni: the largest number of segments.
        shmall: the largest number of pages of all segments together.

    Example:
        >>> from ipckit import shm
        >>> shm.memory_limits().shmmni > 0
        True

    See shmctl(2).
    """

    shmmax: int
    shmmni: int
    shmall: int


@public("ipckit.shm")
@final
@dataclass(frozen=True, slots=True)
class SysVSharedMemoryUsage:
    """The use of memory by all segments of the IPC namespace (SHM_INFO).

    Attributes:
        segments: the number of segments.
        pages: the pages of all segments together.
        resident: those of the pages that are in memory.
        swapped: those of the pages that are in swap.

    Example:
        >>> from ipckit import SysVSharedMemory, shm
        >>> with SysVSharedMemory.create(size=100) as memory:
        ...     shm.memory_usage().segments >= 1
        True

    See shmctl(2).
    """

    segments: int
    pages: int
    resident: int
    swapped: int


SEGMENTS: Final = Table(
    noun="segment",
    title="segment",
    call="shmctl",
    stat=native.shm_stat,
    stat_any=native.SHM_STAT_ANY,
    highest=lambda: native.shm_info(native.SHM_INFO)[0],
    made=SysVSharedMemoryStat._of,
    hint="the owner can allow it with chmod; readonly=True asks for less",
)


@public("ipckit.shm")
def list_segments() -> list[SysVSharedMemoryStat]:
    """List all segments of the IPC namespace, including those that the caller may not read.

    Returns:
        Their states, in the order of the kernel's table.

    Example:
        >>> from ipckit.shm import SysVSharedMemory, list_segments
        >>> with SysVSharedMemory.create(size=4096) as segment:
        ...     [each.segsz for each in list_segments() if each.id == segment.id]
        [4096]

    See shmctl(2), SHM_STAT_ANY.
    """
    return SEGMENTS.all()


@public("ipckit.shm")
def memory_limits() -> SysVSharedMemoryLimits:
    """Return the kernel's limits on System V shared memory.

    Example:
        >>> from ipckit.shm import memory_limits
        >>> memory_limits().shmmni > 0
        True

    See shmctl(2), IPC_INFO.
    """
    _, shmmax, _, shmmni, _, shmall = native.shm_info(native.IPC_INFO)
    return SysVSharedMemoryLimits(shmmax=shmmax, shmmni=shmmni, shmall=shmall)


@public("ipckit.shm")
def memory_usage() -> SysVSharedMemoryUsage:
    """Return the use of memory by all segments of the IPC namespace.

    Example:
        >>> from ipckit.shm import memory_usage
        >>> memory_usage().segments >= 0
        True

    See shmctl(2), SHM_INFO.
    """
    _, segments, pages, resident, swapped = native.shm_info(native.SHM_INFO)
    return SysVSharedMemoryUsage(segments, pages, resident, swapped)
