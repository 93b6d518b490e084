"""UNIX sockets that have a name: bound sockets, and stale socket files."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core.socket_paths import SOCKET_TYPES, kernel_path
from ipckit._inventory.judge import NOT_ASKED, Verdict, group_of, judge, user_of
from ipckit._inventory.model import IpcObject, Process, Use
from ipckit._inventory.proc_text import UnixRow, unix_rows
from ipckit._inventory.processes import read
from ipckit._inventory.sock_diag import unix_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit._inventory.processes import Processes

_WRONG_TYPE: Final = errno.EPROTOTYPE
# Where programs put their socket files, and how deep below to search for stale ones.
_DIRECTORIES: Final = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - looked at, not written to
_DEPTH: Final = 3
_MOST_ENTRIES: Final = 20_000
_FORGEABLE: Final = (
    "the exact names of UNIX sockets: the kernel or a sandbox refuses sock_diag(7), and in "
    "/proc/net/unix a name that contains a line end can look like another socket"
)


def all_rows(unseen: list[str] | None = None) -> list[UnixRow]:
    """Return the sockets of this network namespace.

    Args:
        unseen: a list; a line is appended for what could not be seen.
    """
    unseen = [] if unseen is None else unseen
    try:
        return unix_sockets()
    except OSError:
        try:
            found = list(unix_rows(read("/proc/net/unix")))
            unseen.append(_FORGEABLE)
        except OSError as exc:
            found = []
            unseen.append(f"bound UNIX sockets: /proc/net/unix: {exc.strerror}")
    return found


def rows(unseen: list[str] | None = None) -> list[UnixRow]:
    """Return those of `all_rows` that are bound to a name."""
    return [row for row in all_rows(unseen) if row.name]


def named(found: list[UnixRow], processes: Processes | None, now: float) -> Iterator[IpcObject]:
    """Yield an object for each socket that other processes can reach by a name.

    An accepted connection also shows its listener's name. It counts as a connection of the
    listener, not as an object.
    """
    connections: dict[str, int] = defaultdict(int)
    bound: list[UnixRow] = []
    for row in found:
        if row.connected and row.type != "dgram":
            connections[row.name] += 1
        elif row.inode:  # 0 means a connection that ended before it was accepted
            bound.append(row)
    for row in bound:
        # A relative path starts at a directory that is not known.
        status = _status(row.name) if row.name.startswith("/") else None
        verdict, holders = NOT_ASKED, tuple[Process, ...]()
        if processes is not None:
            pids = processes.sockets.get(row.inode, {})
            holders = processes.holding({pid: ", ".join(how) for pid, how in pids.items()})
            verdict = judge(holders, (), held="the socket is bound", orphaned="")
        details: dict[str, int | str] = {
            "type": row.type,
            "listening": int(row.listening),
            "connections": connections[row.name],
        }
        if status is None and row.name.startswith("/"):
            details["file"] = "missing"
        yield _object(row.name, row.inode, status, verdict, details, now=now, holders=holders)


def _status(path: str) -> os.stat_result | None:
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISSOCK(found.st_mode) else None


def _object(
    name: str,
    inode: int,
    status: os.stat_result | None,
    verdict: Verdict,
    details: dict[str, int | str],
    *,
    now: float,
    holders: tuple[Process, ...] = (),
) -> IpcObject:
    return IpcObject(
        kind="socket",
        name=name,
        key=None,
        id=inode,
        uid=status.st_uid if status else None,
        gid=status.st_gid if status else None,
        owner=user_of(status.st_uid) if status else "",
        group=group_of(status.st_gid) if status else "",
        mode=stat.S_IMODE(status.st_mode) if status else None,
        size=None,
        used=Use(attached=int(details.get("connections", 0))),
        holders=holders,
        times={"changed": status.st_ctime} if status else {},
        age=max(0.0, now - status.st_ctime) if status else None,
        state=verdict.state,
        reason=verdict.reason,
        unseen=verdict.unseen,
        details=details,
        identity=(status.st_dev, status.st_ino, status.st_mtime_ns) if status else (inode,),
    )


def stale(found: list[UnixRow], now: float, *, judged: bool) -> Iterator[IpcObject]:
    """Yield the socket files to which no socket of this network namespace is bound.

    Only the usual directories are searched.

    Args:
        found: the bound sockets.
        now: seconds since the epoch.
        judged: find out, by a connection attempt, whether a process answers at each file. If
            false, every state is unknown.
    """
    known = _files_of(found)
    places = [*_DIRECTORIES, os.environ.get("XDG_RUNTIME_DIR", "")]
    lone: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
    budget = [_MOST_ENTRIES]
    for place in filter(None, places):
        for path in _socket_files(Path(place), _DEPTH, budget):
            status = _status(os.fspath(path))
            if status is not None and (status.st_dev, status.st_ino) not in known:
                lone.setdefault((status.st_dev, status.st_ino), (path, status))
    if judged and lone:
        # Do not connect to a listener that was bound after `found` was read. It may take the
        # connection for a client, and multiprocessing's fork server exits when a client sends
        # nothing.
        known = _files_of(rows())
    for file, (path, status) in lone.items():
        if file in known:
            continue
        verdict = _verdict(path, status.st_uid) if judged else NOT_ASKED
        yield _object(os.fspath(path), status.st_ino, status, verdict, {"file": "only"}, now=now)


def _verdict(path: Path, owner: int) -> Verdict:
    answered = answers(path)
    if answered is None:
        return Verdict(
            "unknown",
            "permission denied while checking for a listener",
            ("whether a process listens",),
        )
    if answered:
        return Verdict("held", "a process in another network namespace answers")
    # A refused connection means that no process listens. A process may still be bound.
    bound = bound_elsewhere(path.name, owner)
    if bound is None:
        unseen = ("sockets of other network namespaces",)
        return Verdict(
            "unknown", "a process that could not be inspected may be bound to it", unseen
        )
    if bound:
        return Verdict(
            "held", "a process in another network namespace has a socket with this file name"
        )
    return Verdict("orphaned", "no process answers at that path")


def bound_elsewhere(name: str, owner: int) -> bool | None:
    """Return whether a socket of another network namespace may be bound to a socket file.

    Args:
        name: the name of the file without its directory, because another process may see the
            directory under another path.
        owner: the file's owner. Only a process of this user can have created it.

    Returns:
        None if it can't be known, because a process of the owner could not be inspected.
    """
    # How a line of /proc/net/unix ends: with a path, or with a relative path of one part.
    wanted = tuple(before + os.fsencode(name) + b"\n" for before in (b"/", b" "))
    seen = {_network_of(Path("/proc/self"))}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        uid = -1
        try:
            uid = process.stat().st_uid
            namespace = _network_of(process)
            if namespace not in seen:
                text = (process / "net/unix").read_bytes()
                if any(end in text for end in wanted):
                    return True
                if namespace is not None:
                    seen.add(namespace)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            if uid == owner:
                return None
    return False


def _network_of(process: Path) -> str | None:
    """Return a process's network namespace; None if the caller may not trace the process."""
    try:
        return os.readlink(process / "ns/net")  # noqa: PTH115 - text, not a path to follow
    except PermissionError:
        return None


def _files_of(found: list[UnixRow]) -> set[tuple[int, int]]:
    """Return the device and inode of each file to which a socket is bound."""
    statuses = (_status(row.name) for row in found if row.name.startswith("/"))
    return {(status.st_dev, status.st_ino) for status in statuses if status}


def _socket_files(directory: Path, depth: int, budget: list[int]) -> Iterator[Path]:
    try:
        with os.scandir(directory) as listed:
            for entry in listed:
                budget[0] -= 1
                if budget[0] < 0:
                    return
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        if depth > 1:
                            yield from _socket_files(Path(entry.path), depth - 1, budget)
                    elif stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                        yield Path(entry.path)
    except OSError:
        return


def answers(path: Path) -> bool | None:
    """Return whether a socket accepts connections at a socket file; None if it can't be known.

    A listener gets a connection that is closed at once.
    """
    for kind in SOCKET_TYPES.values():
        with socket.socket(socket.AF_UNIX, kind) as probe:
            probe.setblocking(False)  # noqa: FBT003 - a full backlog is an answer
            try:
                with kernel_path(path) as address:
                    probe.connect(address)
            except ConnectionRefusedError:
                return False
            except BlockingIOError:
                return True  # the backlog is full
            except OSError as exc:
                if exc.errno == _WRONG_TYPE:
                    continue
                return None
            return True
    return True
