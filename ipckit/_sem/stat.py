"""The status and the limits of System V semaphore sets, as semctl(2) returns them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self, final

import ipckit._native as native
from ipckit._core.public import public
from ipckit._core.sysv import Table


@public("ipckit.sem")
@final
@dataclass(frozen=True, slots=True)
class SysVSemaphoreSetStat:
    """The status of a semaphore set: every field of semid_ds.

    Attributes:
        id: the set's identifier.
        key: the set's key; 0 if it was created with IPC_PRIVATE.
        uid: the user id of the owner.
        gid: the group id of the owner.
        cuid: the user id of the creator.
        cgid: the group id of the creator.
        mode: the permission bits.
        seq: the kernel's sequence number of the slot.
        otime: the time of the last successful semop, in seconds since the epoch. 0 if there was
            none; then the set may not be initialised yet.
        ctime: the time of creation, or of the last change by semctl.
        nsems: the number of semaphores.

    Example:
        >>> from ipckit import SysVSemaphoreSet
        >>> with SysVSemaphoreSet.create(values=[1, 1]) as semaphores:
        ...     semaphores.stat().nsems
        2
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


@public("ipckit.sem")
@final
@dataclass(frozen=True, slots=True)
class SysVSemaphoreLimits:
    """The kernel's limits on System V semaphores (IPC_INFO).

    Attributes:
        semmsl: the maximum number of semaphores in a set.
        semmns: the maximum number of semaphores in all sets together.
        semopm: the maximum number of operations in one call.
        semmni: the maximum number of sets.
        semvmx: the maximum value of a semaphore.
        semaem: the maximum of a process's undo count for a semaphore, in either direction.

    Example:
        >>> from ipckit import sem
        >>> sem.semaphore_limits().semvmx
        32767
    """

    semmsl: int
    semmns: int
    semopm: int
    semmni: int
    semvmx: int
    semaem: int


@public("ipckit.sem")
@final
@dataclass(frozen=True, slots=True)
class SysVSemaphoreUsage:
    """The number of System V semaphores that exist in the IPC namespace (SEM_INFO).

    Attributes:
        sets: the number of sets.
        semaphores: the number of semaphores in all sets.

    Example:
        >>> from ipckit import SysVSemaphoreSet, sem
        >>> with SysVSemaphoreSet.create(values=[1, 1]) as semaphores:
        ...     sem.semaphore_usage().semaphores >= 2
        True
    """

    sets: int
    semaphores: int


SETS: Final = Table(
    noun="set",
    title="semaphores",
    call="semctl",
    stat=native.sem_stat,
    stat_any=native.SEM_STAT_ANY,
    highest=lambda: native.sem_info(native.SEM_INFO)[0],
    made=SysVSemaphoreSetStat._of,
)


@public("ipckit.sem")
def list_sets() -> list[SysVSemaphoreSetStat]:
    """List the sets of the IPC namespace, including those that the caller may not read.

    Returns:
        The status of each set (SEM_STAT_ANY).

    >>> from ipckit import SysVSemaphoreSet
    >>> with SysVSemaphoreSet.create(values=[1, 0]) as created:
    ...     [found.nsems for found in list_sets() if found.id == created.id]
    [2]

    See semctl(2).
    """
    return SETS.all()


@public("ipckit.sem")
def semaphore_limits() -> SysVSemaphoreLimits:
    """Return the kernel's limits on System V semaphores.

    >>> semaphore_limits().semvmx
    32767

    See semctl(2), IPC_INFO, and proc(5), kernel.sem.
    """
    _, _, semmni, semmns, _, semmsl, semopm, _, _, semvmx, semaem = native.sem_info(native.IPC_INFO)
    return SysVSemaphoreLimits(semmsl, semmns, semopm, semmni, semvmx, semaem)


@public("ipckit.sem")
def semaphore_usage() -> SysVSemaphoreUsage:
    """Return the number of System V sets and semaphores that exist now.

    >>> usage = semaphore_usage()
    >>> usage.semaphores >= usage.sets
    True

    See semctl(2), SEM_INFO.
    """
    fields = native.sem_info(native.SEM_INFO)
    return SysVSemaphoreUsage(sets=fields[8], semaphores=fields[10])
