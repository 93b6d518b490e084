"""What the kernel knows of System V semaphore sets: semctl(2)'s structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import ipckit._native as native
from ipckit._core.public import public
from ipckit._core.sysv import Table


@public("ipckit.sem")
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


@public("ipckit.sem")
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


@public("ipckit.sem")
@dataclass(frozen=True, slots=True)
class SysVSemaphoreUsage:
    """What exists in the namespace now (SEM_INFO).

    Attributes:
        sets: how many sets exist.
        semaphores: how many semaphores they have together.
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
    """All sets of the IPC namespace, also those that the caller may not read (SEM_STAT_ANY)."""
    return SETS.all()


@public("ipckit.sem")
def semaphore_limits() -> SysVSemaphoreLimits:
    """The kernel's limits on System V semaphores; see semctl(2), IPC_INFO."""
    _, _, semmni, semmns, _, semmsl, semopm, _, _, semvmx, semaem = native.sem_info(native.IPC_INFO)
    return SysVSemaphoreLimits(semmsl, semmns, semopm, semmni, semvmx, semaem)


@public("ipckit.sem")
def semaphore_usage() -> SysVSemaphoreUsage:
    """What exists now; see semctl(2), SEM_INFO."""
    fields = native.sem_info(native.SEM_INFO)
    return SysVSemaphoreUsage(sets=fields[8], semaphores=fields[10])
