"""What the kernel knows of System V semaphore sets: semctl(2)'s structures."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Self

from ipckit import _native
from ipckit._limits import user_name
from ipckit.errors import AccessDenied, IpcError, Removed, from_errno


@dataclass(frozen=True, slots=True)
class SysVSemaphoreSetStat:
    """Every field of semid_ds.

    Attributes:
        id: the set's identifier.
        key: its key; 0 for a private one.
        uid: the owner's user; `gid` the owner's group.
        cuid: the creator's user; `cgid` the creator's group.
        mode: permission bits.
        seq: the kernel's sequence number of the slot.
        otime: when a semop last went through, in seconds since the epoch; 0 for never, which
            also says that the set may not be initialised yet.
        ctime: when it was made or last changed by semctl.
        nsems: how many semaphores it has.
    """

    id: int
    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int
    otime: int
    ctime: int
    nsems: int

    @classmethod
    def _of(cls, fields: tuple[int, ...], set_id: int) -> Self:
        return cls(set_id, *fields[1:])


@dataclass(frozen=True, slots=True)
class SysVSemaphoreLimits:
    """The kernel's limits on System V semaphores (IPC_INFO).

    Attributes:
        semmsl: the most semaphores of one set.
        semmns: the most semaphores of all sets together.
        semopm: the most operations of one vector.
        semmni: the most sets.
        semvmx: the highest value.
        semaem: the most that a process's undo count of a semaphore can be, either way.
    """

    semmsl: int
    semmns: int
    semopm: int
    semmni: int
    semvmx: int
    semaem: int


@dataclass(frozen=True, slots=True)
class SysVSemaphoreUsage:
    """What exists in the namespace now (SEM_INFO).

    Attributes:
        sets: how many sets exist.
        semaphores: how many semaphores they have together.
    """

    sets: int
    semaphores: int


def list_sets() -> list[SysVSemaphoreSetStat]:
    """All sets of the IPC namespace, also those that the caller may not read (SEM_STAT_ANY)."""
    found: list[SysVSemaphoreSetStat] = []
    for index in range(_native.sem_info(_native.SEM_INFO)[0] + 1):
        try:
            fields = _native.sem_stat(index, _native.SEM_STAT_ANY)
        except OSError:
            continue  # no set in this slot
        found.append(SysVSemaphoreSetStat._of(fields, fields[0]))
    return found


def stat_set(set_id: int, target: str) -> SysVSemaphoreSetStat:
    """One set by its id (IPC_STAT).

    Raises:
        Removed: there is none of that id.
        AccessDenied: the caller may not read it.
    """
    try:
        return SysVSemaphoreSetStat._of(_native.sem_stat(set_id, _native.IPC_STAT), set_id)
    except PermissionError:
        raise denied("semctl", set_id, target) from None
    except OSError as exc:
        raise gone(exc, target) from None


def gone(exc: OSError, target: str) -> IpcError:
    """The error for a semctl that found no set: EIDRM, or EINVAL for an id that is no more."""
    code = exc.errno or errno.EIO
    if code in {errno.EINVAL, errno.EIDRM}:
        return Removed("the set was removed", errno=code, op="semctl", target=target)
    return from_errno(code, op="semctl", target=target)


def find_set(set_id: int) -> SysVSemaphoreSetStat | None:
    """One set by its id, also one that the caller may not read; None where there is none."""
    try:
        return SysVSemaphoreSetStat._of(_native.sem_stat(set_id, _native.IPC_STAT), set_id)
    except PermissionError:
        return next((each for each in list_sets() if each.id == set_id), None)
    except OSError:
        return None


def denied(op: str, set_id: int, target: str, code: int = errno.EACCES) -> AccessDenied:
    """The error for a forbidden call, with the set's owner and mode."""
    found = find_set(set_id)
    message = "permission denied"
    if found is not None:
        message += f": the owner is {user_name(found.uid)}, the mode {found.mode & 0o777:04o}"
    hint = "the owner can allow it with chmod"
    return AccessDenied(message, errno=code, op=op, target=target, hint=hint)


def semaphore_limits() -> SysVSemaphoreLimits:
    """The kernel's limits on System V semaphores; see semctl(2), IPC_INFO."""
    _, _, semmni, semmns, _, semmsl, semopm, _, _, semvmx, semaem = _native.sem_info(
        _native.IPC_INFO
    )
    return SysVSemaphoreLimits(semmsl, semmns, semopm, semmni, semvmx, semaem)


def semaphore_usage() -> SysVSemaphoreUsage:
    """What exists now; see semctl(2), SEM_INFO."""
    fields = _native.sem_info(_native.SEM_INFO)
    return SysVSemaphoreUsage(sets=fields[8], semaphores=fields[10])
