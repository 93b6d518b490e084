"""Whether another process is really asleep in a system call, from ``/proc``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core.processes import process_stat
from ipckit._core.public import public

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# One name stands for the family that the C library may pick from: glibc's semop() can be a
# semtimedop, its poll() a ppoll. AArch64 never had the older half of each family.
_NUMBERS: Final[Mapping[str, Mapping[str, frozenset[int]]]] = {
    machine: {name: frozenset(numbers) for name, numbers in table.items()}
    for machine, table in {
        "x86_64": {
            "accept": (43, 288),
            "clock_nanosleep": (35, 230),
            "connect": (42,),
            "epoll_wait": (232, 281, 441),
            "fcntl": (72,),
            "flock": (73,),
            "futex": (202, 449),
            "mq_timedreceive": (243,),
            "mq_timedsend": (242,),
            "msgrcv": (70,),
            "msgsnd": (69,),
            "pause": (34,),
            "poll": (7, 271),
            "read": (0,),
            "recvfrom": (45,),
            "recvmsg": (47,),
            "select": (23, 270),
            "semop": (65, 220),
            "sendmsg": (46,),
            "sendto": (44,),
            "sigsuspend": (130,),
            "sigtimedwait": (128,),
            "wait": (61, 247),
            "write": (1,),
        },
        "aarch64": {
            "accept": (202, 242),
            "clock_nanosleep": (101, 115),
            "connect": (203,),
            "epoll_wait": (22, 441),
            "fcntl": (25,),
            "flock": (32,),
            "futex": (98, 449),
            "mq_timedreceive": (183,),
            "mq_timedsend": (182,),
            "msgrcv": (188,),
            "msgsnd": (189,),
            "pause": (73,),
            "poll": (73,),
            "read": (63,),
            "recvfrom": (207,),
            "recvmsg": (212,),
            "select": (72,),
            "semop": (192, 193),
            "sendmsg": (211,),
            "sendto": (206,),
            "sigsuspend": (133,),
            "sigtimedwait": (137,),
            "wait": (95, 260),
            "write": (64,),
        },
    }.items()
}

_ALIASES: Final[Mapping[str, str]] = {
    "accept4": "accept",
    "epoll_pwait": "epoll_wait",
    "epoll_pwait2": "epoll_wait",
    "futex_waitv": "futex",
    "nanosleep": "clock_nanosleep",
    "ppoll": "poll",
    "pselect6": "select",
    "rt_sigsuspend": "sigsuspend",
    "rt_sigtimedwait": "sigtimedwait",
    "semtimedop": "semop",
    "wait4": "wait",
    "waitid": "wait",
}

_SHARED_FUTEX: Final = "shared_futex"
_FUTEX_PRIVATE_FLAG: Final = 128

_FIRST_PAUSE: Final = 50e-6
_LONGEST_PAUSE: Final = 5e-3


def _numbers(names: Sequence[str]) -> Mapping[int, bool]:
    """The calls' numbers, and of each whether only a futex that processes share counts."""
    machine = os.uname().machine
    table = _NUMBERS.get(machine)
    if table is None:
        message = f"the system call numbers of {machine} are not known here"
        raise NotImplementedError(message)
    found: dict[int, bool] = {}
    for name in names:
        shared = name == _SHARED_FUTEX
        numbers = table.get("futex" if shared else _ALIASES.get(name, name))
        if numbers is None:
            known = ", ".join(sorted([*table, _SHARED_FUTEX]))
            message = f"unknown system call {name!r}; known: {known}"
            raise ValueError(message)
        for number in numbers:
            found[number] = shared and found.get(number, True)
    if not found:
        message = "name one system call or more"
        raise ValueError(message)
    return found


def _state(task: Path) -> str:
    return process_stat((task / "stat").read_bytes()).state


def _asleep(pid: int, numbers: Mapping[int, bool]) -> frozenset[str]:
    """One line for each thread that sleeps in one of the calls."""
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
            continue  # that thread ended meanwhile
    return frozenset(lines)


def where(pid: int) -> str:
    """What each thread of a process does, for a message: its state and system call.

    Args:
        pid: the process.

    Returns:
        One line a thread; "gone" where there is no such process.
    """
    lines: list[str] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            call = (task / "syscall").read_text().strip()
            lines.append(f"thread {task.name}: state {_state(task)}, system call {call}")
    except OSError as exc:
        lines.append("gone" if isinstance(exc, FileNotFoundError) else str(exc))
    return "\n".join(lines)


@public("ipckit.testing")
def wait_blocked(pid: int, *names: str, timeout: float = 30.0) -> None:
    """Wait until a thread of a process sleeps inside one of some system calls.

    It reads ``/proc/PID/task/*/syscall`` (see proc(5)), which needs the right to
    trace the process: the same user, or root with CAP_SYS_PTRACE.

    Args:
        pid: the process to watch.
        names: system calls, such as ``"msgrcv"`` or ``"futex"``. A name stands for
            its family: ``"semop"`` is semtimedop too, ``"poll"`` is ppoll too.
            Threads of one interpreter also wait for each other in ``"futex"``, for its
            lock among others; ``"shared_futex"`` is one that processes may share, such as a
            POSIX semaphore's.
        timeout: seconds, 0 or more.

    Raises:
        ValueError: no name, or one that is not known.
        NotImplementedError: a machine whose numbers are not known.
        ProcessLookupError: the process ended, or there is none.
        PermissionError: this process may not look.
        TimeoutError: no thread slept there in time; the message says what they did.
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
            message = f"process {pid} ended before it slept in {' or '.join(names)}"
            raise ProcessLookupError(message)
        # Twice the same line (arguments and stack pointer too): asleep, not passing through.
        if now & before:
            return
        if time.monotonic() >= end:
            message = f"process {pid} did not sleep in {' or '.join(names)}:\n{where(pid)}"
            raise TimeoutError(message)
        # The kernel tells nobody that a process fell asleep, so this has to look again.
        time.sleep(pause)
        before, pause = now, min(2 * pause, _LONGEST_PAUSE)
