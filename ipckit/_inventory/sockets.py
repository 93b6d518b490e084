"""UNIX sockets that have a name: bound sockets, and stale socket files."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections import defaultdict
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core.socket_paths import kernel_path
from ipckit._inventory.judge import NOT_ASKED, Verdict, group_of, judge, user_of
from ipckit._inventory.model import IpcObject, Process, Use
from ipckit._inventory.proc_text import UnixRow, mounts, unix_rows
from ipckit._inventory.processes import in_words, read
from ipckit._inventory.sock_diag import unix_sockets

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from ipckit._inventory.processes import Processes

# Where programs put their socket files, and how deep below to search for stale ones.
_DIRECTORIES: Final = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - looked at, not written to
_DEPTH: Final = 3
_MOST_ENTRIES: Final = 50_000  # 40 ms
_MOST_IN_DIRECTORY: Final = 10_000
_INODE_MASK: Final = (1 << 32) - 1  # sock_diag(7) has the low bits of an inode only
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
    devices = _devices()
    for row in bound:
        # A relative path starts at a directory that is not known.
        there = _status(row.name) if row.name.startswith("/") else None
        status = there if there is not None and _is_at(row, there, devices) else None
        verdict, holders = NOT_ASKED, tuple[Process, ...]()
        if processes is not None:
            pids = processes.sockets.get(row.inode, {})
            holders = processes.holding({pid: in_words(hows) for pid, hows in pids.items()})
            verdict = judge(holders, (), held="the socket is bound", orphaned="")
        details: dict[str, int | str] = {
            "type": row.type,
            "listening": int(row.listening),
            "connections": connections[row.name],
        }
        if status is None and row.name.startswith("/"):
            details["file"] = "missing" if there is None else "elsewhere"
        yield _object(row.name, row.inode, status, verdict, details, now=now, holders=holders)


def _status(path: str) -> os.stat_result | None:
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return found if stat.S_ISSOCK(found.st_mode) else None


def _devices() -> frozenset[int]:
    """Return the devices of the mounted file systems; none if they can't be read."""
    try:
        return frozenset(mount.device for mount in mounts(read("/proc/self/mountinfo")))
    except OSError:
        return frozenset()


def _file_of(status: os.stat_result) -> tuple[int, int]:
    """Return a file as `UnixRow.file` has it."""
    return status.st_dev, status.st_ino & _INODE_MASK


def _is_at(row: UnixRow, status: os.stat_result, devices: frozenset[int]) -> bool:
    """Return whether a socket may be bound to the file that is at its path here.

    It is not if the process that bound it has another root directory, which any user can arrange,
    or if the file was replaced. True if that can't be known.
    """
    if row.file in {None, _file_of(status)}:
        return True
    # btrfs and overlayfs have files whose st_dev is not the device of the file system. Those can't
    # be compared with what the kernel says about a socket.
    return status.st_dev not in devices


def is_bound(found: list[UnixRow], path: str, status: os.stat_result) -> bool:
    """Return whether one of the sockets is bound to a file.

    Args:
        found: the sockets, from `rows`.
        path: the path of the file.
        status: its status.
    """
    devices = _devices()
    return any(
        row.file == _file_of(status) or (row.name == path and _is_at(row, status, devices))
        for row in found
        if not row.connected
    )


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
        identity=identity_of(status) if status else (inode,),
    )


def stale(
    found: list[UnixRow], now: float, *, judged: bool, unseen: list[str] | None = None
) -> Iterator[IpcObject]:
    """Yield the socket files to which no socket of this network namespace is bound.

    Only the usual directories are searched.

    Args:
        found: the bound sockets.
        now: seconds since the epoch.
        judged: find out, by a connection attempt, whether a socket is bound at each file. If
            false, every state is unknown.
        unseen: a list; a line is appended if there were too many files to look at.
    """
    known = _files_of(found)
    places = [*_DIRECTORIES, os.environ.get("XDG_RUNTIME_DIR", "")]
    lone: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
    for path in _socket_files(filter(None, places), [] if unseen is None else unseen):
        status = _status(os.fspath(path))
        if status is not None and _file_of(status) not in known:
            lone.setdefault((status.st_dev, status.st_ino), (path, status))
    for path, status in lone.values():
        try:
            verdict = _verdict(path, status) if judged else NOT_ASKED
        except OSError:
            continue  # it, or its directory, was removed or replaced
        yield _object(os.fspath(path), status.st_ino, status, verdict, {"file": "only"}, now=now)


def _verdict(path: Path, status: os.stat_result) -> Verdict:
    """Judge a socket file to which no socket of this network namespace is bound.

    Raises:
        FileNotFoundError: it was removed, or another file is at its path.
    """
    with pinned(path) as (held, now):
        if not same_socket(now, identity_of(status)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        answered = answers(held)
    if answered is None:
        return Verdict(
            "unknown",
            "could not check whether a socket is bound to it",
            ("whether a socket is bound to it",),
        )
    if answered:
        return Verdict("held", "a socket that is not listed here is bound to it")
    return Verdict("orphaned", "no socket is bound to it")


def _files_of(found: list[UnixRow]) -> set[tuple[int, int]]:
    """Return each file to which a socket is bound, as `UnixRow.file` has it."""
    devices = _devices()
    files = {row.file for row in found if row.file is not None}
    for row in found:
        status = _status(row.name) if row.name.startswith("/") else None
        if status is not None and _is_at(row, status, devices):
            files.add(_file_of(status))
    return files


def _socket_files(places: Iterable[str], unseen: list[str]) -> Iterator[Path]:
    """Yield the socket files in some directories and below, those near the top first.

    Any user can make a million files in /tmp. They hide at most those of the same directory and
    those that are deeper.
    """
    left, cut = _MOST_ENTRIES, list[str]()
    level = [Path(place) for place in places]
    for _ in range(_DEPTH):
        below: list[Path] = []
        for directory in level:
            if not left:
                cut.append(os.fspath(directory))
                continue
            most = min(left, _MOST_IN_DIRECTORY)
            try:
                with os.scandir(directory) as listed:
                    for entry in islice(listed, most):
                        left -= 1
                        if entry.is_dir(follow_symlinks=False):
                            below.append(Path(entry.path))
                        elif _is_socket(entry):
                            yield Path(entry.path)
                    if next(listed, None) is not None:
                        cut.append(os.fspath(directory))
            except OSError:
                continue
        level = below
    if cut:
        more = f" and {len(cut) - 1} more directories" if len(cut) > 1 else ""
        unseen.append(f"all stale sockets: too many files to look at in {cut[0]}{more}")


def _is_socket(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a directory is a socket; false if it was removed."""
    # The directory has the types of these two.
    if entry.is_file(follow_symlinks=False) or entry.is_symlink():
        return False
    try:
        return stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
    except OSError:
        return False


@contextmanager
def pinned(
    path: str | os.PathLike[str], *, directory: int | None = None
) -> Generator[tuple[Path, os.stat_result]]:
    """Hold a file by O_PATH for a ``with`` block. Its inode number is not reused meanwhile.

    Args:
        path: the file.
        directory: a descriptor of the directory that a relative path starts at.

    Yields:
        A path that leads to this file, also if another file is at `path` by then; and its status.
    """
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield Path(f"/proc/self/fd/{fd}"), os.fstat(fd)
    finally:
        os.close(fd)


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what tells a socket file from a later one at the same path."""
    # On ext4 the next new file gets the inode number of the file that was removed last.
    return status.st_dev, status.st_ino, status.st_mtime_ns


def same_socket(status: os.stat_result, identity: tuple[int, ...]) -> bool:
    """Return whether a file is the socket file with this identity."""
    return identity_of(status) == identity and stat.S_ISSOCK(status.st_mode)


def answers(path: Path) -> bool | None:
    """Return whether a process has a socket bound at a socket file; None if it can't be known.

    It connects a datagram socket, which a stream listener does not notice: the kernel looks for the
    socket first, and then refuses the type. A connection that is closed at once would end some
    servers, such as multiprocessing's forkserver.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            with kernel_path(path) as address:
                probe.connect(address)
        except ConnectionRefusedError:
            return False
        except OSError as exc:
            # EPERM: a datagram socket that takes messages from one other socket only.
            return True if exc.errno in {errno.EPROTOTYPE, errno.EPERM} else None
    return True
