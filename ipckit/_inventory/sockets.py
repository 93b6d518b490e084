"""UNIX sockets that have a name: those that are bound, and files that nobody is behind."""

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

# Where programs leave their sockets; how deep below is looked for files that nobody is behind.
_WRONG_TYPE: Final = errno.EPROTOTYPE
_DIRECTORIES: Final = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - looked at, not written to
_DEPTH: Final = 3
_MOST_ENTRIES: Final = 20_000


_FORGEABLE: Final = (
    "UNIX sockets' names as they are: this kernel does not answer sock_diag, and in /proc/net/unix "
    "a name can look like another socket"
)


def rows(unseen: list[str] | None = None) -> list[UnixRow]:
    """The sockets of the network namespace that are bound to a name.

    Args:
        unseen: gets a line for what can't be seen.
    """
    told: list[str] = [] if unseen is None else unseen
    try:
        found = unix_sockets()
    except OSError:
        try:
            found = list(unix_rows(read("/proc/net/unix")))
            told.append(_FORGEABLE)
        except OSError as exc:
            found = []
            told.append(f"UNIX sockets that are bound: /proc/net/unix: {exc.strerror}")
    return [row for row in found if row.name]


def named(found: list[UnixRow], processes: Processes | None, now: float) -> Iterator[IpcObject]:
    """One object for each socket that others can reach by a name.

    An accepted connection shows its listener's name too: it is counted, and not an object.
    """
    connections: dict[str, int] = defaultdict(int)
    bound: list[UnixRow] = []
    for row in found:
        if row.connected and row.type != "dgram":
            connections[row.name] += 1
        elif row.inode:  # 0 is of a connection that ended before it was accepted
            bound.append(row)
    for row in bound:
        # A relative path is one from a directory that is not known.
        status = _status(row.name) if row.name.startswith("/") else None
        verdict, holders = NOT_ASKED, tuple[Process, ...]()
        if processes is not None:
            pids = processes.sockets.get(row.inode, {})
            holders = processes.holding({pid: ", ".join(how) for pid, how in pids.items()})
            verdict = judge(holders, (), held="the socket is there", orphaned="")
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
    """Socket files in the usual directories that no socket of this network namespace is bound to.

    Args:
        found: the sockets that are there.
        now: seconds since the epoch.
        judged: whether to ask, by trying to connect, if anybody is behind a file all the same.
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
        # A listener that came after `found` was read is not to get a connection: it may take that
        # for a client, and multiprocessing's fork server ends when such a client says nothing.
        known = _files_of(rows())
    for file, (path, status) in lone.items():
        if file in known:
            continue
        verdict = _verdict(path, status.st_uid) if judged else NOT_ASKED
        yield _object(os.fspath(path), status.st_ino, status, verdict, {"file": "only"}, now=now)


def _verdict(path: Path, owner: int) -> Verdict:
    answered = answers(path)
    if answered is None:
        return Verdict("unknown", "it may not be connected to", ("who is behind it",))
    if answered:
        return Verdict("held", "a process answers, of another network namespace")
    # A refusal says that no process listens, not that none is bound.
    bound = bound_elsewhere(path.name, owner)
    if bound is None:
        unseen = ("sockets of other network namespaces",)
        return Verdict("unknown", "a process that can't be seen may be behind it", unseen)
    if bound:
        return Verdict("held", "a process of another network namespace has such a socket")
    return Verdict("orphaned", "no process answers at that path")


def bound_elsewhere(name: str, owner: int) -> bool | None:
    """Whether a socket of another network namespace may be bound to a file; None if not known.

    Args:
        name: the file's name without its directory, which another process may call otherwise.
        owner: the file's owner, whose processes can have made it.
    """
    # The end of a line: of a path, or of a relative one alone.
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
                told = (process / "net/unix").read_bytes()
                if any(end in told for end in wanted):
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
    """A process's network namespace; None if only its tracers may know, who are fewer."""
    try:
        return os.readlink(process / "ns/net")  # noqa: PTH115 - text, not a path to follow
    except PermissionError:
        return None


def _files_of(found: list[UnixRow]) -> set[tuple[int, int]]:
    """The device and inode of each file that a socket is bound to."""
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
    """Whether a socket is behind a socket file; None where that can't be told.

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
                return True  # its queue of connections is full
            except OSError as exc:
                if exc.errno == _WRONG_TYPE:
                    continue
                return None
            return True
    return True
