"""Process tokens: they identify a process, so that others can check later whether it is alive.

A pid is not enough, because the kernel reuses pids. A token is 64 bits: the pid
(22 bits), the low bits of the pid namespace's inode (16) and of the start time in clock ticks (26).
A later process of the same pid has another start time.

/proc shows start times as the reader's time namespace counts them. A token has the time of the
initial time namespace, so that processes of different namespaces agree; see time_namespaces(7).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PID_BITS: Final = 22
_NAMESPACE_BITS: Final = 16
_START_BITS: Final = 26
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_NS_PER_SECOND: Final = 10**9

# Indices of fields of /proc/PID/stat after the name. proc_pid_stat(5) counts from 1, including the
# pid and the name, so its numbers are higher by 3.
_PARENT_FIELD: Final = 1
_FLAGS_FIELD: Final = 6
_THREADS_FIELD: Final = 17
_START_FIELD: Final = 19
_PROCESSOR_FIELD: Final = 36
_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD
_DEAD_STATES: Final = frozenset("ZXx")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The status in /proc/PID/stat, of a process or of a thread.

    Attributes:
        name: the program's name, 15 bytes at most.
        state: one letter, such as ``"S"``.
        parent: the pid of its parent; 0 if that is in another pid namespace.
        threads: the number of threads of the process.
        kernel: whether it is a thread of the kernel, which has no memory and no descriptors.
        start: when it started, in clock ticks since boot.
        processor: the processor on which it ran last.
    """

    name: str
    state: str
    parent: int
    threads: int
    kernel: bool
    start: int
    processor: int

    @property
    def runs(self) -> bool:
        """Whether any thread still runs. The main thread can end before the others."""
        return self.state not in _DEAD_STATES or self.threads > 1


def process_stat(text: bytes) -> ProcessStat:
    """Parse the text of /proc/PID/stat; see proc_pid_stat(5)."""
    # The name is in parentheses, and may contain parentheses and blanks.
    end = text.rindex(b")")
    fields = text[end + 2 :].split()
    return ProcessStat(
        name=os.fsdecode(text[text.index(b"(") + 1 : end]),
        state=chr(fields[0][0]),
        parent=int(fields[_PARENT_FIELD]),
        threads=int(fields[_THREADS_FIELD]),
        kernel=bool(int(fields[_FLAGS_FIELD]) & _KERNEL_THREAD),
        start=int(fields[_START_FIELD]),
        processor=int(fields[_PROCESSOR_FIELD]),
    )


def _namespace() -> int:
    """The low bits of this process's pid namespace; 0 if /proc does not show it."""
    try:
        inode = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
    return namespace_bits(inode)


def _stat_of(pid: int) -> ProcessStat | None:
    """The status of a process; None if /proc shows no process of that pid."""
    try:
        # The /proc of another pid namespace would show another process.
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 - text, not a path
            return None
        return process_stat(Path(f"/proc/{pid}/stat").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return None


def _time_namespace(pid: int | str = "self", *, children: bool = False) -> str:
    """The time namespace of a process, or of its children; "" if /proc does not show it."""
    name = "time_for_children" if children else "time"
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}")  # noqa: PTH115 - text, not a path
    except OSError:
        return ""


def _time_offset() -> int | None:
    """Return by how many clock ticks this process's time namespace is ahead of the initial one.

    None if that is unknown. The kernel shows the offset of the children's namespace, and a process
    that called unshare(CLONE_NEWTIME) is not in that namespace.
    """
    try:
        text = Path("/proc/self/timens_offsets").read_text()
    except OSError:
        return 0  # the kernel has no time namespaces: before 5.6, or built without them
    for line in text.splitlines():
        name, seconds, ns = line.split()
        if name == "boottime":
            ahead = (int(seconds) * _NS_PER_SECOND + int(ns)) * _TICKS // _NS_PER_SECOND
            inside = _time_namespace() == _time_namespace(children=True)
            return ahead if inside else None
    return None


def token() -> int:
    """This process's token; never 0."""
    found, offset = _stat_of(os.getpid()), _time_offset()
    start = 0 if found is None or offset is None else found.start - offset
    # If the offset is unknown, the start time is wrong, and other processes would conclude that
    # this one exited. So the token has namespace 0, for which `is_dead` always returns False.
    namespace = 0 if offset is None else _namespace()
    return (
        os.getpid() << (_NAMESPACE_BITS + _START_BITS)
        | namespace << _START_BITS
        | start & ((1 << _START_BITS) - 1)
    )


def pid_of(token: int) -> int:
    """Return the pid in a token, which is a pid of the process's own namespace."""
    return token >> (_NAMESPACE_BITS + _START_BITS) & ((1 << _PID_BITS) - 1)


def pid_here(token: int) -> int | None:
    """Return the pid in a token; None if it is the pid of another pid namespace."""
    own = _namespace()
    return pid_of(token) if own and namespace_of(token) == own else None


def namespace_of(token: int) -> int:
    """Return the low 16 bits of the inode of the pid namespace in a token."""
    return token >> _START_BITS & ((1 << _NAMESPACE_BITS) - 1)


def namespace_bits(inode: int) -> int:
    """Return what `namespace_of` returns for the processes of a pid namespace."""
    return inode & ((1 << _NAMESPACE_BITS) - 1)


def runs(pid: int) -> bool:
    """Return whether a process of this pid runs, or may run; a zombie does not.

    A later process can have the pid of one that exited.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    try:
        found = _stat_of(pid)
    except OSError:
        return True
    return found is None or found.runs


def is_dead(token: int) -> bool:
    """Return whether the process of a token has certainly exited; False if that is unknown.

    It is unknown for a process of another pid namespace, or of an unknown one. It is known for a
    process of another time namespace. A zombie has exited: it runs no more code.
    """
    own = _namespace()
    if own == 0 or namespace_of(token) != own:
        return False
    pid = pid_of(token)
    if pid == 0:
        return True  # no process has that pid
    # /proc may hide the processes of other users (hidepid); kill(2) does not.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:
        found = _stat_of(pid)
    except OSError:
        return False
    if found is None:
        return False
    return not found.runs or _is_another(pid, found.start, token)


def _is_another(pid: int, start: int, token: int) -> bool:
    """Return whether a process certainly started at another time than the process of a token."""
    offset = _time_offset()
    if offset is None:
        return False
    span = 1 << _START_BITS
    apart = (start - offset - token) % span
    if apart in {0, 1, span - 1}:
        # An offset that is not a whole number of ticks can move the start by one tick.
        return apart != 0 and _time_namespace(pid) == _time_namespace() != ""
    return True
