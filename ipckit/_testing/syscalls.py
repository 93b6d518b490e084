"""Wait until another process is asleep in a system call, from ``/proc``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core.call_numbers import NUMBERS
from ipckit._core.processes import process_stat
from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ALIASES: Final[Mapping[str, str]] = {
    "accept4": "accept",
    "epoll_pwait": "epoll_wait",
    "epoll_pwait2": "epoll_wait",
    "futex_waitv": "futex",
    "nanosleep": "clock_nanosleep",
    "ppoll": "poll",
    "pselect6": "select",
    "readv": "read",
    "rt_sigsuspend": "sigsuspend",
    "rt_sigtimedwait": "sigtimedwait",
    "semtimedop": "semop",
    "wait4": "wait",
    "waitid": "wait",
    "writev": "write",
}

_SHARED_FUTEX: Final = "shared_futex"
_FUTEX_PRIVATE_FLAG: Final = 128

_FIRST_PAUSE: Final = 50e-6
_LONGEST_PAUSE: Final = 5e-3


def _numbers(names: Sequence[str]) -> Mapping[int, bool]:
    """Return the numbers of the calls, each with whether only a shared futex counts."""
    machine = os.uname().machine
    table = NUMBERS.get(machine)
    if table is None:
        message = f"ipckit does not know the system call numbers of {machine}"
        raise NotImplementedError(message)
    found: dict[int, bool] = {}
    for name in names:
        shared = name == _SHARED_FUTEX
        numbers = table.get("futex" if shared else _ALIASES.get(name, name))
        if numbers is None:
            known = ", ".join(sorted([*table, _SHARED_FUTEX]))
            message = f"unknown system call {name!r}; known calls: {known}"
            raise ValueError(message)
        for number in numbers:
            found[number] = shared and found.get(number, True)
    if not found:
        message = "expected at least one system call"
        raise ValueError(message)
    return found


def _state(task: Path) -> str:
    return process_stat((task / "stat").read_bytes()).state


def _asleep(pid: int, numbers: Mapping[int, bool]) -> frozenset[str]:
    """Return a line for each thread that sleeps in one of the calls."""
    lines: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            line = (task / "syscall").read_text().strip()
            number, *arguments = line.split()
            if not number.isdecimal() or int(number) not in numbers or _state(task) not in "SD":
                continue
            if numbers[int(number)] and int(arguments[1], 16) & _FUTEX_PRIVATE_FLAG:
                continue
            lines.append(f"{task.name} {line}")
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has exited
    return frozenset(lines)


def where(pid: int) -> str:
    """Return the state and the system call of each thread of a process, for a message.

    Args:
        pid: the process.

    Returns:
        One line for each thread; "it has exited" if there is no such process.
    """
    lines: list[str] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            call = (task / "syscall").read_text().strip()
            lines.append(f"thread {task.name}: state {_state(task)}, system call {call}")
    except OSError as exc:
        lines.append("it has exited" if isinstance(exc, FileNotFoundError) else str(exc))
    return "\n".join(lines)


@public("ipckit.testing")
def wait_blocked(pid: int, *names: str, timeout: float = 30.0) -> None:
    """Wait until a thread of a process sleeps in one of the named system calls.

    It reads ``/proc/PID/task/*/syscall`` (see proc(5)), which requires permission to trace the
    process: the same user, or CAP_SYS_PTRACE.

    Args:
        pid: the process.
        names: system calls, such as ``"msgrcv"`` or ``"futex"``. A name includes its variants:
            ``"semop"`` also means semtimedop, ``"poll"`` also ppoll. Threads of one interpreter
            also wait for each other in ``"futex"``, for example for its lock;
            ``"shared_futex"`` means only a futex that processes may share, such as that of a
            POSIX semaphore.
        timeout: seconds, 0 or more; by default 30.

    Raises:
        ValueError: no name was given, or one is not known.
        NotImplementedError: ipckit does not know the system call numbers of this machine.
        ProcessLookupError: the process has exited, or never existed.
        PermissionError: this process may not trace the other.
        TimeoutError: no thread slept in such a call in time; the message says what each did.

    Example:
        >>> import subprocess
        >>> child = subprocess.Popen(["sleep", "60"])
        >>> wait_blocked(child.pid, "nanosleep")
        >>> child.kill()
        >>> child.wait()
        -9
    """
    numbers = _numbers(names)
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    before: frozenset[str] = frozenset()
    while True:
        try:
            now = _asleep(pid, numbers)
            ended = _state(Path(f"/proc/{pid}")) in "ZX"
        except FileNotFoundError:
            now, ended = before, True
        if ended:
            message = f"process {pid} exited before it slept in {' or '.join(names)}"
            raise ProcessLookupError(message)
        # The same line twice, including the arguments and the stack pointer: it is asleep.
        if now & before:
            return
        if time.monotonic() >= end:
            message = f"process {pid} did not sleep in {' or '.join(names)}:\n{where(pid)}"
            raise TimeoutError(message)
        # The kernel has no event for a process that falls asleep, so poll.
        time.sleep(pause)
        before, pause = now, min(2 * pause, _LONGEST_PAUSE)
