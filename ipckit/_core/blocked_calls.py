"""The System V call in which a thread waits, read from /proc/PID/task/TID/syscall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import ipckit._native as native


@dataclass(frozen=True, slots=True)
class Wait:
    """A thread that sleeps in a call on a System V object.

    Attributes:
        call: ``"msgrcv"``, ``"msgsnd"`` or ``"semop"``.
        id: the object's identifier.
    """

    call: str
    id: int


_CALLS: Final = {
    "x86_64": {69: "msgsnd", 70: "msgrcv", 65: "semop", 220: "semop", 230: "sleep", 117: "ipc"},
    "aarch64": {189: "msgsnd", 188: "msgrcv", 193: "semop", 192: "semop", 115: "sleep"},
}


# A 32-bit program on a 64-bit x86 makes all of these through one call, whose number is that of a
# 64-bit call that never sleeps. The first argument says which, the second is the id.
_MULTIPLEXED: Final = {1: "semop", 4: "semop", 11: "msgsnd", 12: "msgrcv"}


_RECEIVES: Final = 1 << 31


_ID_MASK: Final = (1 << 31) - 1


_FIELDS: Final = 7  # the number and six arguments


def waits(text: str, machine: str) -> Wait | None:
    """Read /proc/PID/task/TID/syscall; None for a thread that does something else.

    Args:
        text: its line.
        machine: as uname(2) names it; None is known of others than x86_64 and aarch64.
    """
    fields = text.split()
    if len(fields) < _FIELDS or not fields[0].isdecimal():
        return None
    call = _CALLS.get(machine, {}).get(int(fields[0]))
    if call is None:
        return None
    arguments = [int(field, 16) for field in fields[1:_FIELDS]]
    if call == "ipc":
        call = _MULTIPLEXED.get(arguments[0] & 0xFFFF, "")
        return Wait(call, arguments[1] & _ID_MASK) if call else None
    if call == "sleep":
        # native/queues/sysv_msg.c puts this and the queue into arguments that the kernel ignores.
        if arguments[4] != native.WAIT_MARK:
            return None
        call = "msgrcv" if arguments[5] & _RECEIVES else "msgsnd"
        return Wait(call, arguments[5] & _ID_MASK)
    return Wait(call, arguments[0] & _ID_MASK)


def knows_waits(machine: str) -> bool:
    """Whether `waits` knows a machine's system calls."""
    return machine in _CALLS
