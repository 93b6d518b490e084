"""Find the System V call in which a thread waits, from /proc/PID/task/TID/syscall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import ipckit._native as native

# The system calls by number. "sleep" is clock_nanosleep, which ipckit's timed waits call.
_CALLS: Final = {
    "x86_64": {69: "msgsnd", 70: "msgrcv", 65: "semop", 220: "semop", 230: "sleep", 117: "ipc"},
    "aarch64": {189: "msgsnd", 188: "msgrcv", 193: "semop", 192: "semop", 115: "sleep"},
}
# A 32-bit program on a 64-bit x86 makes all of these calls through one call, ipc(2). Its number is
# that of another 64-bit call, which never sleeps. The first argument is the operation, the second
# the id.
_IPC_OPERATIONS: Final = {1: "semop", 4: "semop", 11: "msgsnd", 12: "msgrcv"}
_ID_MASK: Final = (1 << 31) - 1
_FIELDS: Final = 7  # the number of the call and its six arguments


@dataclass(frozen=True, slots=True)
class Wait:
    """The call on a System V object in which a thread sleeps.

    Attributes:
        call: ``"msgrcv"``, ``"msgsnd"`` or ``"semop"``.
        id: the object's identifier.
    """

    call: str
    id: int


def wait_of(text: str, machine: str) -> Wait | None:
    """Parse the text of /proc/PID/task/TID/syscall.

    Args:
        text: the line.
        machine: the machine's name, as uname(2) returns it.

    Returns:
        The wait; None for a thread that does not wait on a System V object, and on machines
        other than x86_64 and aarch64.
    """
    fields = text.split()
    if len(fields) < _FIELDS or not fields[0].isdecimal():
        return None
    call = _CALLS.get(machine, {}).get(int(fields[0]))
    if call is None:
        return None
    arguments = [int(field, 16) for field in fields[1:_FIELDS]]
    if call == "ipc":
        call = _IPC_OPERATIONS.get(arguments[0] & 0xFFFF, "")
        return Wait(call, arguments[1] & _ID_MASK) if call else None
    if call == "sleep":
        # native/queues/sysv_msg.c passes the mark and the queue in arguments that the kernel
        # ignores.
        if arguments[4] != native.WAIT_MARK:
            return None
        call = "msgrcv" if arguments[5] & native.WAIT_RECEIVES else "msgsnd"
        return Wait(call, arguments[5] & _ID_MASK)
    return Wait(call, arguments[0] & _ID_MASK)


def knows_machine(machine: str) -> bool:
    """Return whether `wait_of` knows the system calls of a machine."""
    return machine in _CALLS
