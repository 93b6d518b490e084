"""What the kernel knows of System V shared memory: shmctl(2)'s structures."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final, Self

from ipckit import _native
from ipckit._limits import user_name
from ipckit.errors import AccessDenied, IpcError, from_errno

_DESTROYED: Final = 0o1000  # SHM_DEST
_LOCKED: Final = 0o2000  # SHM_LOCKED
_PERMISSIONS: Final = 0o777


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


def list_segments() -> list[SysVSharedMemoryStat]:
    """All segments of the IPC namespace, also those that the caller may not read (SHM_STAT_ANY)."""
    found: list[SysVSharedMemoryStat] = []
    for index in range(_native.shm_info(_native.SHM_INFO)[0] + 1):
        try:
            fields = _native.shm_stat(index, _native.SHM_STAT_ANY)
        except OSError:
            continue  # no segment in this slot
        found.append(SysVSharedMemoryStat._of(fields, fields[0]))
    return found


def stat_segment(segment: int, target: str) -> SysVSharedMemoryStat:
    """One segment by its id (IPC_STAT).

    Raises:
        Removed: there is none of that id.
        AccessDenied: the caller may not read it.
    """
    try:
        return SysVSharedMemoryStat._of(_native.shm_stat(segment, _native.IPC_STAT), segment)
    except PermissionError:
        raise denied("shmctl", segment, target) from None
    except OSError as exc:
        code = exc.errno or errno.EIO
        if code == errno.EINVAL:
            raise gone("shmctl", target) from None
        raise from_errno(code, op="shmctl", target=target) from None


def gone(op: str, target: str) -> IpcError:
    """The error for a segment that is no more: the kernel only says that its id is invalid."""
    message = "the segment was removed"
    return from_errno(errno.EIDRM, op=op, target=target, message=message)


def find_segment(segment: int) -> SysVSharedMemoryStat | None:
    """One segment by its id, also one that the caller may not read; None where there is none."""
    try:
        return SysVSharedMemoryStat._of(_native.shm_stat(segment, _native.IPC_STAT), segment)
    except PermissionError:
        return next((each for each in list_segments() if each.id == segment), None)
    except OSError:
        return None


def denied(op: str, segment: int, target: str, code: int = errno.EACCES) -> AccessDenied:
    """The error for a forbidden call, with the segment's owner and mode."""
    found = find_segment(segment)
    message = "permission denied"
    if found is not None:
        message += f": the owner is {user_name(found.uid)}, the mode {found.mode:04o}"
    hint = "the owner can allow it with chmod; readonly=True asks for less"
    return AccessDenied(message, errno=code, op=op, target=target, hint=hint)


def memory_limits() -> SysVSharedMemoryLimits:
    """The kernel's limits on System V shared memory; see shmctl(2), IPC_INFO."""
    _, shmmax, _, shmmni, _, shmall = _native.shm_info(_native.IPC_INFO)
    return SysVSharedMemoryLimits(shmmax=shmmax, shmmni=shmmni, shmall=shmall)


def memory_usage() -> SysVSharedMemoryUsage:
    """What all segments take together; see shmctl(2), SHM_INFO."""
    _, segments, pages, resident, swapped = _native.shm_info(_native.SHM_INFO)
    return SysVSharedMemoryUsage(segments, pages, resident, swapped)
