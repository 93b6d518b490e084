"""The message of `create` for a name or key that exists: whether a process holds the object."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit._core.files import is_alone
from ipckit._core.processes import runs

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Use:
    """Whether a process holds an object.

    Attributes:
        held: None if that can't be known.
        evidence: the end of a sentence about the object, such as ``"no process has it open"``.
    """

    held: bool | None
    evidence: str


UNKNOWN: Final = Use(None, "")


def exists(noun: str, class_name: str, key: str, use: Use) -> tuple[str, str]:
    """Return the message and the hint for an object that exists already.

    Args:
        noun: the word for the object, such as ``"queue"``.
        class_name: the class whose `create` failed.
        key: the key or name as Python source.
        use: whether a process holds it.
    """
    message = f"the {noun} already exists"
    if use.evidence:
        message += f", and {use.evidence}"
    opened = f"open it with {class_name}.open({key}), or use open_or_create"
    removed = f"{class_name}.remove({key}) or `ipckit gc`"
    if use.held:
        return message, opened
    if use.held is None:
        return message, f"{opened}; if no process needs it, remove it with {removed}"
    return message, f"use open_or_create to continue with it, or remove it with {removed}"


def file_use(path: str) -> Use:
    """Return whether a process has a file open or mapped; UNKNOWN for a file of another user."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return UNKNOWN
    try:
        return fd_use(fd)
    finally:
        os.close(fd)


def fd_use(fd: int) -> Use:
    """Return whether the file of a descriptor is open or mapped elsewhere."""
    alone = is_alone(fd)
    if alone is None:
        return UNKNOWN
    if alone:
        return Use(held=False, evidence="no process has it open")
    who = "this process" if _open_here(fd) else "a process"
    return Use(held=True, evidence=f"{who} has it open")


def _open_here(fd: int) -> bool:
    """Return whether this process has another descriptor of the same file."""
    wanted = os.fstat(fd)
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names
    except OSError:
        return False
    for number in numbers:
        try:
            found = os.fstat(number)
        except OSError:
            continue  # the descriptor of the listing
        if number != fd and (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def last_users(pids: Iterable[int]) -> Use:
    """Return whether the processes run that the kernel recorded as an object's last users.

    Args:
        pids: their pids; 0 for a process that has no pid in this namespace.
    """
    recorded = sorted(set(pids))
    if not recorded or 0 in recorded:
        return UNKNOWN
    if os.getpid() in recorded:
        return Use(None, "this process used it last")
    running = [pid for pid in recorded if runs(pid)]
    if running:
        return Use(held=True, evidence=f"process {running[0]} used it last and still runs")
    shown = " and ".join(map(str, recorded))
    if len(recorded) == 1:
        return Use(held=False, evidence=f"process {shown}, which used it last, has exited")
    return Use(held=False, evidence=f"processes {shown}, which used it last, have exited")
