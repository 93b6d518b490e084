"""The limits of the kernel and of a process that apply to IPC: value, use, how to raise."""

from __future__ import annotations

import errno
import os
import re
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipckit import inventory
from ipckit._core.files import SHM
from ipckit._core.limits import mqueue_charge, sysctl
from ipckit.errors import AccessDenied, NotFound
from ipckit.msgq import limits, list_queues, usage
from ipckit.sem import list_sets, semaphore_limits, semaphore_usage
from ipckit.shm import list_segments, memory_limits, memory_usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.sem import SysVSemaphoreLimits

# A limit from here on counts as unlimited: shmmax and shmall are near 2**64 by default.
_BOUNDLESS: Final = 2**60
_SHM: Final = Path(SHM)
# The maximum that the kernel accepts for a sysctl; see ipc/util.h and ipc_namespace.h.
_CEILINGS: Final = {
    "kernel.msgmni": 32768,
    "kernel.shmmni": 32768,
    "kernel.msgmax": 2**31 - 1,
    "kernel.msgmnb": 2**31 - 1,
    "fs.mqueue.msg_max": 65536,
    "fs.mqueue.msgsize_max": 2**24,
    "fs.mqueue.msg_default": 65536,
    "fs.mqueue.msgsize_default": 2**24,
}
_SEM_CEILINGS: Final = (65535, 2**31 - 1, 1000, 32768)
_LIMIT_LINE: Final = re.compile(r"(Max .*?)\s{2,}(\S+)\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        name: the sysctl, such as ``"kernel.msgmax"``, or ``"kernel.sem SEMMNI"`` for a field;
            ``"RLIMIT_NOFILE"``; or ``"/dev/shm size"``.
        value: the limit; None if there is none.
        used: how much is used now, in total or by the largest object; None if it does not apply
            or can't be seen.
        unit: the unit of both, such as ``"bytes"``.
        meaning: what it limits.
        change: the command that raises it; "" if it can't be raised.
    """

    name: str
    value: int | None
    used: int | None
    unit: str
    meaning: str
    change: str

    @property
    def share(self) -> float | None:
        """The used part of the limit, 1.0 for all; None if it is not known."""
        if self.value is None or self.used is None or self.value == 0:
            return None
        return self.used / self.value

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        share = self.share
        return {**asdict(self), "share": None if share is None else round(share, 4)}


def _doubled(name: str, value: int) -> str:
    """Return the command that doubles a sysctl, or "" if it is at its maximum."""
    ceiling = _CEILINGS.get(name, _BOUNDLESS)
    return "" if value >= ceiling else f"sysctl -w {name}={min(max(1, value * 2), ceiling)}"


def _sysctl(name: str, value: int | None, used: int | None, unit: str, meaning: str) -> Limit:
    if value is not None and value >= _BOUNDLESS:
        return Limit(name, None, used, unit, meaning, "")
    return Limit(name, value, used, unit, meaning, "" if value is None else _doubled(name, value))


def _messages() -> Iterator[Limit]:
    most, now, queues = limits(), usage(), list_queues()
    longest = max((each.cbytes for each in queues), default=0)
    yield _sysctl("kernel.msgmax", most.msgmax, None, "bytes", "one System V message")
    meaning = "all messages in one new System V queue; USED: the fullest"
    yield _sysctl("kernel.msgmnb", most.msgmnb, longest, "bytes", meaning)
    yield _sysctl("kernel.msgmni", most.msgmni, now.queues, "queues", "System V queues")


def _sem_change(most: SysVSemaphoreLimits, field: int) -> str:
    values = [most.semmsl, most.semmns, most.semopm, most.semmni]
    if values[field] >= _SEM_CEILINGS[field]:
        return ""
    values[field] = min(values[field] * 2, _SEM_CEILINGS[field])
    return f'sysctl -w kernel.sem="{" ".join(map(str, values))}"'


def _semaphores() -> Iterator[Limit]:
    most, now = semaphore_limits(), semaphore_usage()
    largest = max((each.nsems for each in list_sets()), default=0)
    for field, name, value, used, unit, meaning in (
        (
            0,
            "SEMMSL",
            most.semmsl,
            largest,
            "semaphores",
            "one System V set; USED: the largest",
        ),
        (1, "SEMMNS", most.semmns, now.semaphores, "semaphores", "all System V sets together"),
        (2, "SEMOPM", most.semopm, None, "operations", "one semop call"),
        (3, "SEMMNI", most.semmni, now.sets, "sets", "System V semaphore sets"),
    ):
        change = _sem_change(most, field)
        yield Limit(f"kernel.sem {name}", value, used, unit, meaning, change)


def _memory() -> Iterator[Limit]:
    most, now = memory_limits(), memory_usage()
    largest = max((each.segsz for each in list_segments()), default=0)
    meaning = "one System V segment; USED: the largest"
    yield _sysctl("kernel.shmmax", most.shmmax, largest, "bytes", meaning)
    yield _sysctl("kernel.shmall", most.shmall, now.pages, "pages", "all System V segments")
    yield _sysctl("kernel.shmmni", most.shmmni, now.segments, "segments", "System V segments")


def _charged(uid: int | None) -> tuple[int | None, int | None]:
    """Return the number of POSIX queues, and the bytes charged to a user; None if not visible."""
    found = inventory.survey(["posix-queue"], holders=False)
    if found.unseen and not found.objects:
        return None, None
    total = 0
    for each in found.objects:
        if each.uid == uid:
            most, longest = (int(each.details.get(name, 0)) for name in ("maxmsg", "msgsize"))
            total += mqueue_charge(most, longest)
    return len(found.objects), total


def _mqueue(queues: int | None) -> Iterator[Limit]:
    for field, used, unit, meaning in (
        ("queues_max", queues, "queues", "POSIX queues"),
        ("msg_max", None, "messages", "one POSIX queue, without CAP_SYS_RESOURCE"),
        ("msgsize_max", None, "bytes", "one message of a POSIX queue, without CAP_SYS_RESOURCE"),
        ("msg_default", None, "messages", "one POSIX queue created without attributes"),
        (
            "msgsize_default",
            None,
            "bytes",
            "one message, if created without attributes",
        ),
    ):
        name = f"fs.mqueue.{field}"
        yield _sysctl(name, sysctl(name), used, unit, meaning)


def is_hidden(pid: int) -> bool:
    """Return whether a process exists that /proc does not show.

    With hidepid=invisible, /proc does not show the processes of other users; see proc(5).
    """
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not Path(f"/proc/{pid}").exists()
    except (OSError, OverflowError):
        return False
    return False


def process_limits(pid: int) -> dict[str, tuple[int | None, int | None]]:
    """Return the soft and hard limits of a process, by their names in ``/proc/PID/limits``.

    Raises:
        NotFound: there is no such process.
        AccessDenied: it belongs to another user, and /proc hides it.
    """
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    except (FileNotFoundError, ProcessLookupError, PermissionError) as exc:
        if isinstance(exc, PermissionError) or is_hidden(pid):
            message = "it belongs to another user, and /proc hides its limits"
            raise AccessDenied(
                message, errno=errno.EACCES, target=f"pid {pid}", hint="run as root"
            ) from None
        message = "no such process"
        raise NotFound(message, errno=errno.ESRCH, target=f"pid {pid}") from None
    found: dict[str, tuple[int | None, int | None]] = {}
    for line in lines:
        match = _LIMIT_LINE.match(line)
        if match:
            soft, hard = (int(part) if part.isdecimal() else None for part in match.groups()[1:])
            found[match[1]] = (soft, hard)
    return found


def _own_limits() -> dict[str, tuple[int | None, int | None]]:
    """Return what `process_limits` returns for this process, without /proc."""
    found: dict[str, tuple[int | None, int | None]] = {}
    for title, number in (
        ("Max msgqueue size", resource.RLIMIT_MSGQUEUE),
        ("Max locked memory", resource.RLIMIT_MEMLOCK),
        ("Max open files", resource.RLIMIT_NOFILE),
    ):
        soft, hard = (
            None if each == resource.RLIM_INFINITY else each for each in resource.getrlimit(number)
        )
        found[title] = (soft, hard)
    return found


def open_files(pid: int) -> int | None:
    """Return the number of descriptors that a process has open; None if it can't be seen."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - only how many
    except OSError:
        return None


def _locked_bytes(pid: int) -> int | None:
    try:
        # The file also has the name that the process gave itself, which may not be UTF-8.
        status = Path(f"/proc/{pid}/status").read_bytes()
        match = re.search(rb"^VmLck:\s+(\d+) kB", status, re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


def _process(pid: int, charged: int | None) -> Iterator[Limit]:
    try:
        found = process_limits(pid)
    except NotFound:
        if pid != os.getpid():
            raise
        found = _own_limits()
    for name, title, option, used, unit, meaning in (
        (
            "MSGQUEUE",
            "Max msgqueue size",
            "msgqueue",
            charged,
            "bytes",
            "POSIX queues of a user",
        ),
        (
            "MEMLOCK",
            "Max locked memory",
            "memlock",
            _locked_bytes(pid),
            "bytes",
            "locked memory",
        ),
        (
            "NOFILE",
            "Max open files",
            "nofile",
            open_files(pid),
            "files",
            "open descriptors",
        ),
    ):
        soft, hard = found.get(title, (None, None))
        wanted = "unlimited" if soft is None else str(soft * 2)
        highest = wanted if hard is not None and soft is not None and soft * 2 > hard else ""
        change = f"prlimit --pid {pid} --{option}={wanted}:{highest}" if soft is not None else ""
        yield Limit(f"RLIMIT_{name}", soft, used, unit, meaning, change)


def _shm() -> Iterator[Limit]:
    try:
        at = os.statvfs(_SHM)
    except OSError:
        return
    size, used = at.f_blocks * at.f_frsize, (at.f_blocks - at.f_bfree) * at.f_frsize
    change = f"mount -o remount,size={max(size * 2, 2**30)} {_SHM}"
    meaning = "POSIX segments and semaphores; in Docker --shm-size"
    yield Limit(f"{_SHM} size", size or None, used, "bytes", meaning, change if size else "")
    files = f"mount -o remount,nr_inodes={at.f_files * 2} {_SHM}"
    count = at.f_files - at.f_ffree
    meaning = "POSIX segments and semaphores"
    yield Limit(
        f"{_SHM} files", at.f_files or None, count, "files", meaning, files * bool(at.f_files)
    )


def _sockets() -> Iterator[Limit]:
    for name, unit, meaning in (
        ("net.unix.max_dgram_qlen", "datagrams", "unread datagrams of one UNIX socket"),
        ("net.core.somaxconn", "connections", "connections that wait for accept on one listener"),
        ("net.core.wmem_max", "bytes", "SO_SNDBUF, which limits one datagram, without privileges"),
        ("vm.max_map_count", "mappings", "memory mappings of one process"),
    ):
        value = sysctl(name)
        if value is not None:  # another network namespace may not have it
            yield _sysctl(name, value, None, unit, meaning)


def table(pid: int | None = None) -> list[Limit]:
    """Return every limit that applies to IPC, with its use.

    Args:
        pid: the process whose RLIMIT_* to include; by default this process.

    Raises:
        NotFound: there is no process `pid`.
        AccessDenied: it belongs to another user, and /proc hides it.
    """
    pid = os.getpid() if pid is None else pid
    queues, charged = _charged(_owner(pid))
    return [
        *_messages(),
        *_semaphores(),
        *_memory(),
        *_mqueue(queues),
        *_process(pid, charged),
        *_shm(),
        *_sockets(),
    ]
