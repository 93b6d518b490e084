"""What the kernel knows of System V shared memory: shmctl(2)'s structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import ipckit._native as native
from ipckit._core.public import public
from ipckit._core.sysv import Table

_DESTROYED: Final = 0o1000  # SHM_DEST
_LOCKED: Final = 0o2000  # SHM_LOCKED
_PERMISSIONS: Final = 0o777


@public("ipckit.shm")
@dataclass(frozen=True, slots=True)
class SysVSharedMemoryStat:
    """Every field of shmid_ds.

    Attributes:
        id: the segment's identifier.
        key: its key; 0 for a private one, and for one that was unlinked.
        uid: the owner's user; `gid` the owner's group.
        cuid: the creator's user; `cgid` the creator's group.
        mode: permission bits.
        destroyed: it was unlinked, and goes with the last attach (SHM_DEST).
        locked: its pages are kept in memory (SHM_LOCKED).
        seq: the kernel's sequence number of the slot.
        segsz: bytes, as they were asked for.
        atime: when it was last attached, in seconds since the epoch; 0 for never.
        dtime: when it was last detached; 0 for never.
        ctime: when it was made or last changed.
        cpid: the process that made it.
        lpid: the process that last attached or detached; 0 for none.
        nattch: how often it is attached now, by all processes together.
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
        flags = mode & _PERMISSIONS, bool(mode & _DESTROYED), bool(mode & _LOCKED)
        return cls(segment, key, uid, gid, cuid, cgid, *flags, *rest)


@public("ipckit.shm")
@dataclass(frozen=True, slots=True)
class SysVSharedMemoryLimits:
    """The kernel's limits on System V shared memory (IPC_INFO).

    Attributes:
        shmmax: the most bytes of one segment.
        shmmni: the most segments.
        shmall: the most pages of all segments together.
    """

    shmmax: int
    shmmni: int
    shmall: int


@public("ipckit.shm")
@dataclass(frozen=True, slots=True)
class SysVSharedMemoryUsage:
    """What all segments of the namespace take together (SHM_INFO).

    Attributes:
        segments: how many exist.
        pages: pages that they may use.
        resident: pages of them in memory.
        swapped: pages of them in swap.
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
    """All segments of the IPC namespace, also those that the caller may not read (SHM_STAT_ANY)."""
    return SEGMENTS.all()


@public("ipckit.shm")
def memory_limits() -> SysVSharedMemoryLimits:
    """The kernel's limits on System V shared memory; see shmctl(2), IPC_INFO."""
    _, shmmax, _, shmmni, _, shmall = native.shm_info(native.IPC_INFO)
    return SysVSharedMemoryLimits(shmmax=shmmax, shmmni=shmmni, shmall=shmall)


@public("ipckit.shm")
def memory_usage() -> SysVSharedMemoryUsage:
    """What all segments take together; see shmctl(2), SHM_INFO."""
    _, segments, pages, resident, swapped = native.shm_info(native.SHM_INFO)
    return SysVSharedMemoryUsage(segments, pages, resident, swapped)
