"""The texts of /proc that the inventory reads; see proc(5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD
_FLAGS_FIELD: Final = 6  # of those behind the name; proc(5) counts three more
_THREADS_FIELD: Final = 17
_START_FIELD: Final = 19
_DEAD_STATES: Final = frozenset(b"ZXx")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat tells.

    Attributes:
        name: the program's name, of 15 bytes at most.
        runs: it is no zombie: some thread of it still runs.
        kernel: it is a thread of the kernel, which has no memory and no descriptors.
        start: when it started, in clock ticks since boot.
    """

    name: str
    runs: bool
    kernel: bool
    start: int


def process_stat(text: bytes) -> ProcessStat:
    """Read /proc/PID/stat."""
    # The name stands in parentheses and may itself hold some.
    end = text.rindex(b")")
    fields = text[end + 2 :].split()
    return ProcessStat(
        name=os.fsdecode(text[text.index(b"(") + 1 : end]),
        # A main thread can end, and be a zombie, while others go on.
        runs=fields[0][0] not in _DEAD_STATES or int(fields[_THREADS_FIELD]) > 1,
        kernel=bool(int(fields[_FLAGS_FIELD]) & _KERNEL_THREAD),
        start=int(fields[_START_FIELD]),
    )


def command_line(text: bytes) -> str:
    """/proc/PID/cmdline as one line."""
    return os.fsdecode(text.rstrip(b"\0").replace(b"\0", b" "))


@dataclass(frozen=True, slots=True)
class MappedFile:
    """One mapping that is of interest.

    Attributes:
        device: the file's device, as st_dev has it.
        inode: the file's inode; for a System V segment its id.
        path: what the kernel calls it, without its mark for a file that was unlinked.
        deleted: it had that mark.
    """

    device: int
    inode: int
    path: str
    deleted: bool


_DELETED: Final = " (deleted)"
_MAPPED: Final = rb" ([0-9a-f]+):([0-9a-f]+) (\d+) +(/(?:SYSV|memfd:|dev/shm/)[^\n]*)"
_MARKS: Final = (b" /SYSV", b" /memfd:", b" /dev/shm/")
_PLAIN: Final = re.compile(_MAPPED)


def maps_pattern(device: int | None) -> re.Pattern[bytes]:
    """What finds IPC objects in /proc/PID/maps.

    Args:
        device: that of /dev/shm, which other processes may have mounted elsewhere; None where
            there is none.
    """
    if device is None:
        return _PLAIN
    major, minor = os.major(device), os.minor(device)
    other = rb" (%02x):(%02x) (\d+) +(/[^\n]*)" % (major, minor)
    return re.compile(other + b"|" + _MAPPED)


def mapped_files(text: bytes, pattern: re.Pattern[bytes] = _PLAIN) -> Iterator[MappedFile]:
    """The IPC objects in /proc/PID/maps."""
    # Most processes have none, and a pattern that begins with a blank is slow to say so.
    if pattern is _PLAIN and not any(mark in text for mark in _MARKS):
        return
    for match in pattern.finditer(text):
        major, minor, inode, path = (group for group in match.groups() if group is not None)
        name = os.fsdecode(path)
        yield MappedFile(
            os.makedev(int(major, 16), int(minor, 16)),
            int(inode),
            name.removesuffix(_DELETED),
            name.endswith(_DELETED),
        )


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
# native/sysv_msg.c puts this and the queue into arguments that the kernel ignores.
_WAIT_MARK: Final = 0x6B637069
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
        if arguments[4] != _WAIT_MARK:
            return None
        call = "msgrcv" if arguments[5] & _RECEIVES else "msgsnd"
        return Wait(call, arguments[5] & _ID_MASK)
    return Wait(call, arguments[0] & _ID_MASK)


def knows_waits(machine: str) -> bool:
    """Whether `waits` knows a machine's system calls."""
    return machine in _CALLS


@dataclass(frozen=True, slots=True)
class UnixRow:
    """One line of /proc/net/unix.

    Attributes:
        inode: the socket's inode.
        type: ``"stream"``, ``"dgram"`` or ``"seqpacket"``.
        listening: it accepts connections.
        connected: it is connected.
        name: its path, or ``@name``; "" for none.
    """

    inode: int
    type: str
    listening: bool
    connected: bool
    name: str


_TYPES: Final = {1: "stream", 2: "dgram", 5: "seqpacket"}
_ACCEPTS: Final = 0x10000
_CONNECTED: Final = 3
_UNIX_FIELDS: Final = 7


def unix_rows(text: bytes) -> Iterator[UnixRow]:
    """Read /proc/net/unix."""
    # A name may hold anything, line ends too: each socket's line starts with an address.
    for line in re.split(rb"\n(?=[0-9a-f]{8,}: [0-9A-F]{8} )", text)[1:]:
        fields = line.rstrip(b"\n").split(None, _UNIX_FIELDS)
        if len(fields) < _UNIX_FIELDS:
            continue
        name = fields[7] if len(fields) > _UNIX_FIELDS else b""
        yield UnixRow(
            inode=int(fields[6]),
            type=_TYPES.get(int(fields[4], 16), "other"),
            listening=bool(int(fields[3], 16) & _ACCEPTS),
            connected=int(fields[5], 16) == _CONNECTED,
            name=os.fsdecode(name),
        )
