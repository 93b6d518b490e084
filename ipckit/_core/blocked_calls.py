"""Find the call in which a thread waits, from /proc/PID/task/TID/syscall."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import ipckit._native as native
from ipckit._core.call_numbers import NUMBERS

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
_STACK_FIELD: Final = 7
_END_OF_32_BITS: Final = 1 << 32
# The calls on memory and descriptors, by number. aarch64 has no pause(2); glibc calls ppoll for it.
_OTHERS: Final = frozenset(
    {
        *("accept", "connect", "epoll_wait", "fcntl", "flock", "futex", "mq_timedreceive"),
        *("mq_timedsend", "poll", "read", "recvfrom", "recvmmsg", "recvmsg", "select", "sendmmsg"),
        *("sendmsg", "sendto", "write"),
    }
)
_NAMES: Final = {
    machine: {
        number: name for name, numbers in table.items() if name in _OTHERS for number in numbers
    }
    for machine, table in NUMBERS.items()
}


@dataclass(frozen=True, slots=True)
class Wait:
    """The call on a System V object in which a thread sleeps.

    Attributes:
        call: ``"msgrcv"``, ``"msgsnd"`` or ``"semop"``.
        id: the object's identifier.
        arguments: the six arguments of the system call.
        timed: it is a timed wait of ipckit, which sleeps in pieces.
    """

    call: str
    id: int
    arguments: tuple[int, ...] = field(default=(), compare=False)
    timed: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A call on memory or on a descriptor, in which a thread sleeps.

    Attributes:
        name: the call, or the one after which its variants are called: ``"poll"`` for ppoll.
        arguments: its six arguments.
    """

    name: str
    arguments: tuple[int, ...]


def call_of(text: str, machine: str) -> Call | None:
    """Parse the text of /proc/PID/task/TID/syscall, for calls on memory and descriptors.

    Args:
        text: the line.
        machine: the machine's name, as uname(2) returns it.

    Returns:
        The call; None for a thread that runs or is in another call, for a 32-bit program, whose
        calls have other numbers, and on machines other than x86_64 and aarch64.
    """
    fields = text.split()
    if len(fields) <= _STACK_FIELD or not fields[0].isdecimal():
        return None
    name = _NAMES.get(machine, {}).get(int(fields[0]))
    if name is None or int(fields[_STACK_FIELD], 16) < _END_OF_32_BITS:
        return None
    return Call(name, tuple(int(each, 16) for each in fields[1:_FIELDS]))


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
    arguments = tuple(int(each, 16) for each in fields[1:_FIELDS])
    if call == "ipc":
        call = _IPC_OPERATIONS.get(arguments[0] & 0xFFFF, "")
        # The other arguments have other places there.
        return Wait(call, arguments[1] & _ID_MASK) if call else None
    if call == "sleep":
        # native/queues/sysv_msg.c passes the mark and the queue in arguments that the kernel
        # ignores.
        if arguments[4] != native.WAIT_MARK:
            return None
        call = "msgrcv" if arguments[5] & native.WAIT_RECEIVES else "msgsnd"
        return Wait(call, arguments[5] & _ID_MASK, arguments, timed=True)
    return Wait(call, arguments[0] & _ID_MASK, arguments)


def knows_machine(machine: str) -> bool:
    """Return whether `wait_of` knows the system calls of a machine."""
    return machine in _CALLS
