"""Check the machine: limits, /dev/shm, descriptors, systemd, and a peer's namespaces."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.model import Finding
from ipckit._cli.limits_table import is_hidden, open_files, process_limits, table
from ipckit._core.files import SHM
from ipckit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit._cli.limits_table import Limit
    from ipckit.inventory import IpcObject

_ROOT: Final = Path("/")
_SMALL_SHM: Final = 64 * 2**20
_NEARLY: Final = 0.8
_FIRST_USER: Final = 1000  # systemd does not touch the objects of system users, which are below
_LAST_USER: Final = 60000
_AS_ROOT: Final = "run ipckit doctor as root"
_SETTING: Final = re.compile(r"^\s*RemoveIPC\s*=\s*(\S+)", re.MULTILINE)
_NAMESPACES: Final = {
    "ipc": "System V objects and POSIX queues",
    "net": "abstract UNIX sockets",
    "pid": "process ids",
}


# -- limits and /dev/shm ---------------------------------------------------------------------------


def _near(limit: Limit) -> Finding | None:
    share = limit.share
    if share is None or share < _NEARLY:
        return None
    what = f"{limit.used:,} of {limit.value:,} {limit.unit} are used ({share:.0%}): {limit.meaning}"
    check = "shm-full" if limit.name.startswith(SHM) else "limit"
    return Finding(
        check, limit.name, what, limit.change or "remove orphaned objects: ipckit gc --delete"
    )


def limits() -> Iterator[Finding]:
    """Check for limits that are nearly reached, and a /dev/shm that is small or nearly full."""
    for limit in table():
        if limit.name in {"RLIMIT_NOFILE", "RLIMIT_MEMLOCK"}:
            continue  # limits of this process, which are irrelevant
        if limit.name == f"{SHM} size" and limit.value and limit.value <= _SMALL_SHM:
            size = limit.value // 2**20
            docker = " (Docker's default)" if limit.value == _SMALL_SHM else ""
            what = f"{SHM} has only {size} MiB{docker}"
            cure = "docker run --shm-size=1g, or mount -o remount,size=1G /dev/shm"
            yield Finding("shm-small", SHM, what, cure)
        found = _near(limit)
        if found is not None:
            yield found


def descriptors(pids: Iterable[int]) -> Iterator[Finding]:
    """Check for processes that have nearly reached their RLIMIT_NOFILE."""
    for pid in pids:
        used = open_files(pid)
        if not used:
            continue
        try:
            soft, _ = process_limits(pid).get("Max open files", (None, None))
            name = os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).removesuffix("\n")
        except OSError:
            continue  # it has exited
        if soft and used >= soft * _NEARLY:
            what = f"{name} has {used:,} of {soft:,} descriptors open"
            cure = (
                f"to list them: ls -l /proc/{pid}/fd; to raise the limit: "
                f"prlimit --pid {pid} --nofile={soft * 2}:"
            )
            yield Finding("descriptors", f"pid {pid}", what, cure)


def neighbours() -> list[int]:
    """Return the processes known to be in this process's IPC namespace."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    own = _namespace("self", "ipc")
    return [pid for pid in pids if _namespace(pid, "ipc") == own]


# -- systemd ---------------------------------------------------------------------------------------


def _removes_ipc(root: Path) -> bool:
    """Return whether logind removes a user's objects at logout, which is its default."""
    files: dict[str, Path] = {}
    for directory in ("usr/lib", "run", "etc"):  # a later file replaces one of the same name
        folder = root / directory / "systemd/logind.conf.d"
        files.update({path.name: path for path in folder.glob("*.conf")})
    setting = "yes"
    for path in [root / "etc/systemd/logind.conf", *(files[name] for name in sorted(files))]:
        try:
            found = _SETTING.findall(path.read_text())
        except (OSError, UnicodeDecodeError):
            continue
        setting = found[-1] if found else setting
    return setting.lower() in {"yes", "true", "on", "1", "y", "t"}


def remove_ipc(objects: Iterable[IpcObject], root: Path = _ROOT) -> Iterator[Finding]:
    """Check for systemd-logind removing a user's objects when the last session ends."""
    if not (root / "run/systemd/system").is_dir() or not _removes_ipc(root):
        return
    removable = {"sysv-queue", "sysv-segment", "sysv-semaphores"}
    owners = {
        each.owner
        for each in objects
        if (each.kind in removable or each.kind.startswith("posix"))
        and _FIRST_USER <= (each.uid or 0) <= _LAST_USER
    }
    if owners:
        names = ", ".join(sorted(owners))
        what = f"systemd removes all IPC objects of {names} when the user's last session ends"
        cure = (
            "set RemoveIPC=no in /etc/systemd/logind.conf, and run systemctl restart "
            f"systemd-logind; or run loginctl enable-linger {min(owners)}"
        )
        yield Finding("remove-ipc", "/etc/systemd/logind.conf", what, cure)


# -- another process's namespaces ------------------------------------------------------------------


def _namespace(pid: int | str, name: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/{name}")  # noqa: PTH115 - text, not a path
    except OSError:
        return None  # permission denied, or it has exited


def peer(pid: int) -> Iterator[Finding]:
    """Check whether a process is in other namespaces than this process.

    Raises:
        NotFound: there is no such process.
    """
    subject = f"pid {pid}"
    if is_hidden(pid):
        text = "it belongs to another user, and /proc hides it"
        yield Finding("unseen", subject, text, _AS_ROOT, "note")
        return
    if not Path(f"/proc/{pid}").is_dir():
        message = "no such process"
        raise NotFound(message, errno=errno.ESRCH, target=subject)
    enter = (
        f"run a command there: nsenter --target {pid} --{{}} COMMAND; or share the namespace: "
        "docker run --{}=container:NAME"
    )
    for name, what in _NAMESPACES.items():
        other = _namespace(pid, name)
        if other is None:
            text = f"permission denied while reading its {name} namespace"
            yield Finding("unseen", subject, text, _AS_ROOT, "note")
        elif other != _namespace("self", name):
            text = f"it is in another {name} namespace, which has other {what}"
            option = {"net": "network"}.get(name, name)
            cure = enter.format(name, option)
            yield Finding("peer-namespace", subject, text, cure)
    try:
        there = Path(f"/proc/{pid}/root/dev/shm").stat()
        here = Path(SHM).stat()
    except PermissionError:
        text = "permission denied while reading its /dev/shm"
        yield Finding("unseen", subject, text, _AS_ROOT, "note")
    except OSError:
        text = "it has no /dev/shm, so it can't use POSIX segments and semaphores"
        cure = "in its mount namespace: mount -t tmpfs tmpfs /dev/shm"
        yield Finding("peer-namespace", subject, text, cure)
    else:
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            text = "it has another /dev/shm, with other POSIX segments and semaphores"
            yield Finding("peer-namespace", subject, text, enter.format("mount", "ipc"))
