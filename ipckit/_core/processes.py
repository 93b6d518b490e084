"""Who a process is, so that others can tell later whether it lives: never a bare pid.

A token is 64 bits: the pid (22), a piece of the pid namespace's inode (16) and of
the start time in clock ticks (26). A pid that is used again has another start time.

/proc shows start times as the reader's time namespace counts. A token has the time of the
initial time namespace, so that processes of different ones agree; see time_namespaces(7).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_PID_BITS: Final = 22
_NAMESPACE_BITS: Final = 16
_START_BITS: Final = 26
_THREADS_FIELD: Final = 17
_START_FIELD: Final = 19  # of those behind the name in /proc/PID/stat; proc(5) calls it 22
_DEAD_STATES: Final = frozenset("ZXx")
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_NS_PER_SECOND: Final = 10**9


def _namespace() -> int:
    """A piece of this process's pid namespace; 0 where it can't be known."""
    try:
        inode = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0
    return inode & ((1 << _NAMESPACE_BITS) - 1)


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """The state and the start time of a process; None where /proc shows none of that pid."""
    try:
        # Another pid namespace's /proc would tell of another process.
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115 - text, not a path
            return None
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may itself hold some.
    fields = text[text.rindex(b")") + 2 :].split()
    state, threads = chr(fields[0][0]), int(fields[_THREADS_FIELD])
    # A main thread can end, and be a zombie, while others go on.
    return "R" if threads > 1 else state, int(fields[_START_FIELD])


def _time_namespace(pid: int | str = "self", *, children: bool = False) -> str:
    """A process's time namespace, or that of its children; "" if it can't be known."""
    name = "time_for_children" if children else "time"
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}")  # noqa: PTH115 - text, not a path
    except OSError:
        return ""


def _time_offset() -> int | None:
    """How many clock ticks this process's time namespace is ahead of the initial one.

    None if that can't be known: the kernel shows the offset of the children's namespace, and a
    process that called unshare(CLONE_NEWTIME) is not in that.
    """
    try:
        text = Path("/proc/self/timens_offsets").read_text()
    except OSError:
        return 0  # a kernel without time namespaces: before 5.6, or built so
    for line in text.splitlines():
        name, seconds, ns = line.split()
        if name == "boottime":
            ahead = (int(seconds) * _NS_PER_SECOND + int(ns)) * _TICKS // _NS_PER_SECOND
            inside = _time_namespace() == _time_namespace(children=True)
            return ahead if inside else None
    return None


def token() -> int:
    """This process's token; never 0."""
    found, offset = _state_and_start(os.getpid()), _time_offset()
    start = 0 if found is None or offset is None else found[1] - offset
    # Without the offset the start would be wrong, and others would take this process for dead.
    # Nobody judges a process of namespace 0.
    namespace = 0 if offset is None else _namespace()
    return (
        os.getpid() << (_NAMESPACE_BITS + _START_BITS)
        | namespace << _START_BITS
        | start & ((1 << _START_BITS) - 1)
    )


def pid_of(token: int) -> int:
    """The pid in a token, as its own namespace counts."""
    return token >> (_NAMESPACE_BITS + _START_BITS) & ((1 << _PID_BITS) - 1)


def is_dead(token: int) -> bool:
    """Whether the process of a token is certainly gone; false where that can't be known.

    A process of another pid namespace can't be judged from here, nor one of a
    namespace that is not known. One of another time namespace can be. A zombie is
    gone: it runs no more.
    """
    own = _namespace()
    if own == 0 or token >> _START_BITS & ((1 << _NAMESPACE_BITS) - 1) != own:
        return False
    pid = pid_of(token)
    if pid == 0:
        return True  # no process ever has that number
    # The kernel knows all; /proc may hide other users' processes (hidepid).
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:
        found = _state_and_start(pid)
    except OSError:
        return False
    if found is None:
        return False
    state, start = found
    return state in _DEAD_STATES or _is_another(pid, start, token)


def _is_another(pid: int, start: int, token: int) -> bool:
    """Whether a process certainly started at another moment than the one of a token."""
    offset = _time_offset()
    if offset is None:
        return False
    span = 1 << _START_BITS
    apart = (start - offset - token) % span
    if apart in {0, 1, span - 1}:
        # An offset that is not a whole number of ticks can move the start by one.
        return apart != 0 and _time_namespace(pid) == _time_namespace() != ""
    return True
