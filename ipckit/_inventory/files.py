"""Objects that are files: POSIX segments, semaphores and queues, channels, topics, memfds."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.files import is_alone, open_regular
from ipckit._inventory.bridges import is_of_object
from ipckit._inventory.judge import NOT_ASKED, Verdict, group_of, judge, user_of
from ipckit._inventory.model import FILE_PREFIXES, IpcObject, Process, StoredMessage, Use
from ipckit._inventory.proc_text import mounts
from ipckit._inventory.processes import SHM, Processes, read
from ipckit._inventory.recognize import has_object_name, is_object
from ipckit._inventory.rings import messages_of, ring_of
from ipckit.errors import Corrupt, InvalidArgument, from_errno

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from ipckit._inventory.model import Kind
    from ipckit._inventory.processes import Found
    from ipckit._inventory.rings import Ring

_BLOCK: Final = 512  # st_blocks counts these
_VALUE_BYTES: Final = 4
_QUEUE_BYTES: Final = 80  # the size of every POSIX queue's file, as fstat reports it
# The labels of the memfds of Channel.anonymous and Topic.anonymous.
_MEMFD_NAMES: Final[dict[str, Kind]] = {"ipckit-channel": "channel", "ipckit-topic": "topic"}
_DESCRIPTOR: Final = re.compile(r"\bfd (\d+)")
NOT_MOUNTED: Final = (
    "POSIX queues: no mqueue file system is mounted here; run as root, which needs no mount"
)
_NOT_RECOGNIZED: Final = Verdict(
    "unknown",
    "not recognized as an IPC object; no process has it open or mapped",
    ("whether it is an IPC object",),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in /dev/shm or in the mqueue file system, and the object that it is.

    Attributes:
        kind: the kind of the object.
        name: the name of the object.
        file: the name of the file.
        directory: an open descriptor of the file's directory.
        status: the file's status.
    """

    kind: Kind
    name: str
    file: str
    directory: int
    status: os.stat_result


def _kind(file: str) -> tuple[Kind, str]:
    """Return the kind and the name of the object that a file of /dev/shm is."""
    for kind, prefix in FILE_PREFIXES.items():
        if file.startswith(prefix):
            slash = "/" if kind == "posix-semaphore" else ""
            return kind, slash + file.removeprefix(prefix)
    return "posix-segment", f"/{file}"


@contextmanager
def memory_directory() -> Generator[int]:
    """Open the directory /dev/shm for the length of the block; may raise OSError."""
    fd = os.open(SHM, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def queue_directory() -> Generator[int | None]:
    """Open the directory of POSIX queues for the length of the block.

    A mounted mqueue file system may belong to another IPC namespace. A private mount, which root
    can create, is therefore tried first.

    Yields:
        A descriptor, or None if the directory can't be opened.
    """
    fd, text = None, b""
    try:
        fd = native.mqueue_directory()
    except OSError:
        with suppress(OSError):  # /proc may not be mounted
            text = read("/proc/self/mountinfo")
        for mount in mounts(text):
            if mount.type == b"mqueue":
                with suppress(OSError):
                    fd = os.open(mount.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    break
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def entries(directory: int, *, queues: bool) -> Iterator[Entry]:
    """Yield the objects in a directory: that of POSIX queues, or /dev/shm."""
    for file in sorted(os.listdir(directory)):
        if not queues and is_of_object(file):
            continue
        with suppress(FileNotFoundError):
            status = os.stat(file, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                kind, name = _kind(file)
                if queues:
                    kind, name = "posix-queue", f"/{file}"
                yield Entry(kind, name, file, directory, status)


@contextmanager
def opened(directory: int, file: str) -> Generator[int | None]:
    """Open a file for the length of the block.

    Args:
        directory: a descriptor of the directory.
        file: the file's name in the directory.

    Yields:
        A descriptor, or None if the caller may not open the file.

    Raises:
        FileNotFoundError: there is no such file.
    """
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(file, flags, dir_fd=directory)
    except FileNotFoundError:
        raise
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _looked_at(entry: Entry) -> Generator[int | None]:
    """Open the file of an entry; see `opened`.

    Raises:
        FileNotFoundError: another file has its name now. It may be a FIFO or a directory.
    """
    with opened(entry.directory, entry.file) as fd:
        if fd is not None:
            now = os.fstat(fd)
            if (now.st_dev, now.st_ino) != (entry.status.st_dev, entry.status.st_ino):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        yield fd


def _size_and_use(entry: Entry, fd: int | None) -> tuple[int, Use, dict[str, int | str]]:
    if entry.kind == "posix-queue":
        return _queue(entry, fd)
    used = Use(bytes=entry.status.st_blocks * _BLOCK)
    details: dict[str, int | str] = {"inode": entry.status.st_ino}
    if entry.kind == "posix-semaphore":
        data = b"" if fd is None else os.pread(fd, native.SEM_T_SIZE, 0)
        if len(data) == native.SEM_T_SIZE:
            # glibc on 64 bits: the value, then the number of waiters.
            value, waiting = (
                int.from_bytes(data[at : at + _VALUE_BYTES], sys.byteorder)
                for at in (0, _VALUE_BYTES)
            )
            used = Use(bytes=used.bytes, values=(value,))
            details["waiting"] = waiting
    return entry.status.st_size, used, details


@contextmanager
def _held(holders: Sequence[Process], identity: tuple[int, ...]) -> Generator[int | None]:
    """Open a file without a name for reading, by the descriptor of a process that has it.

    Args:
        holders: the processes, each with its descriptors in `how`.
        identity: the device and inode of the file.

    Yields:
        A descriptor, or None if the caller may not open the file.
    """
    numbers = [(each.pid, fd) for each in holders for fd in _DESCRIPTOR.findall(each.how)]
    fd = None
    for pid, number in numbers:
        with suppress(OSError):
            fd = open_regular(f"/proc/{pid}/fd/{number}")
        if fd is not None:
            break
    if fd is None:
        yield None
        return
    try:
        status = os.fstat(fd)
        yield fd if (status.st_dev, status.st_ino) == identity else None
    finally:
        os.close(fd)


def _ring_kind(kind: Kind, name: str) -> Kind | None:
    """Return which kind of ring an object is, also one without a name; None if it is none."""
    return kind if kind in {"channel", "topic"} else _MEMFD_NAMES.get(name)


def _ring(
    kind: Kind, fd: int | None, processes: Processes | None
) -> tuple[Ring | None, tuple[str, ...]]:
    """Return what the memory of a channel or topic tells, and what could not be seen of it."""
    if fd is None:
        return None, ("its messages and peers, because it belongs to another user",)
    try:
        return ring_of(kind, fd, processes), ()
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            return None, (f"its messages and peers: the file is not a {kind}",)
        return None, (f"its messages and peers: {exc.strerror}",)


@contextmanager
def _opened_ring(item: IpcObject) -> Generator[int]:
    """Open a channel or topic for reading.

    Raises:
        OSError: the caller may not read it, or it does not exist any more.
    """
    with ExitStack() as stack:
        if item.removable:
            directory = stack.enter_context(memory_directory())
            fd = stack.enter_context(opened(directory, item.file_name))
        else:
            fd = stack.enter_context(_held(item.holders, item.identity))
        if fd is None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != item.identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        yield fd


def messages(item: IpcObject, most: int) -> list[StoredMessage]:
    """Return messages of a channel or topic, which stay; see `ipckit.inventory.messages`."""
    kind = _ring_kind(item.kind, item.name)
    if kind is None:
        message = f"this is a {item.kind}; only the messages of channels and topics can be read"
        raise InvalidArgument(message, errno=errno.EINVAL, target=item.address)
    try:
        with _opened_ring(item) as fd:
            found = messages_of(kind, fd, most)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            message = f"the file is not a {kind}, or is damaged"
            raise Corrupt(message, errno=errno.EBADMSG, target=item.address) from None
        raise from_errno(exc.errno or errno.EIO, op="open", target=item.address) from None
    return [StoredMessage(data, returned) for data, returned in found]


def _queue(entry: Entry, fd: int | None) -> tuple[int, Use, dict[str, int | str]]:
    details: dict[str, int | str] = {"inode": entry.status.st_ino}
    if fd is None:
        return 0, Use(), details
    fields = dict(part.split(":", 1) for part in os.read(fd, 256).decode().split() if ":" in part)
    _, most, longest, queued = native.mq_getattr(fd)
    details |= {"maxmsg": most, "msgsize": longest}
    details |= {
        name.lower(): int(value) for name, value in fields.items() if name != "QSIZE" and value
    }
    return most * longest, Use(messages=queued, bytes=int(fields["QSIZE"])), details


def object_of(entry: Entry, processes: Processes | None, now: float) -> IpcObject:
    """Return the `IpcObject` of an entry.

    Args:
        entry: the file.
        processes: what /proc showed; None to leave the state unknown.
        now: seconds since the epoch.

    Raises:
        FileNotFoundError: the file was removed or replaced since its directory was read.
    """
    with _looked_at(entry) as fd:
        return _object_of(entry, fd, processes, now)


def _object_of(entry: Entry, fd: int | None, processes: Processes | None, now: float) -> IpcObject:
    status = entry.status
    size, used, details = _size_and_use(entry, fd)
    ring, unseen = None, tuple[str, ...]()
    if entry.kind in {"channel", "topic"}:
        ring, unseen = _ring(entry.kind, fd, processes)
    if ring is not None:
        used, details = ring.used, details | ring.details
    times = {"modified": status.st_mtime}
    if entry.kind != "posix-queue":  # a queue's other times change when it is inspected
        times["changed"] = status.st_ctime
    verdict, holders, known = NOT_ASKED, tuple[Process, ...](), True
    if processes is not None:
        holders = processes.holders_of((status.st_dev, status.st_ino))
        doubts, held = [], ""
        sure = entry.kind == "posix-queue" or is_object(entry.file, fd)
        # A file with the name of a semaphore that the caller may not read is not called a person's
        # data.
        known = sure or (fd is None and has_object_name(entry.file))
        if not holders:
            alone = is_alone(fd)
            held = "open or mapped" if alone is False else ""
            if alone is None and not processes.complete:
                doubts = ["whether a process has it open, because it belongs to another user"]
        verdict = judge(
            holders, (), doubts=doubts, held=held, orphaned="no process has it open or mapped"
        )
        if verdict.state == "orphaned" and not sure:
            verdict = _NOT_RECOGNIZED
    return IpcObject(
        kind=entry.kind,
        name=entry.name,
        key=None,
        id=status.st_ino,
        uid=status.st_uid,
        gid=status.st_gid,
        owner=user_of(status.st_uid),
        group=group_of(status.st_gid),
        mode=stat.S_IMODE(status.st_mode),
        size=size,
        used=used,
        holders=holders,
        times=times,
        age=max(0.0, now - max(times.values())),
        state=verdict.state,
        reason=verdict.reason,
        unseen=verdict.unseen + unseen,
        payload="" if ring is None else ring.payload,
        peers=() if ring is None else ring.peers,
        details=details,
        identity=(status.st_dev, status.st_ino),
        recognized=known,
    )


def unlinked(
    processes: Processes, seen: set[tuple[int, int]], queues: int | None
) -> Iterator[IpcObject]:
    """Yield the objects without a name: memfds, and unlinked files that a process still has.

    Args:
        processes: what /proc showed.
        seen: the device and inode of each object that has a name.
        queues: the device of POSIX queues. None if they could not be listed; then every queue that
            a process has open is included, also one with a name.
    """
    for file, found in processes.files.items():
        kind = None if file in seen else _kind_of_found(processes, file, found, queues)
        if kind is None:
            continue
        holders = processes.holders_of(file)
        verdict = judge(holders, (), held="open", orphaned="")
        path = found.path.removeprefix(os.fspath(SHM))
        name = _kind(path[1:])[1] if kind in FILE_PREFIXES else path
        details: dict[str, int | str] = {"inode": file[1]}
        if found.deleted and kind != "memfd":
            details["unlinked"] = 1
        name = name.removeprefix("/memfd:")
        ring, unseen, ring_kind = None, tuple[str, ...](), _ring_kind(kind, name)
        if ring_kind is not None:
            with _held(holders, file) as fd:
                ring, unseen = _ring(ring_kind, fd, processes)
        if found.size is None:
            unseen = ("its size: it is mapped, but not open",)
        yield IpcObject(
            kind=kind,
            name=name,
            key=None,
            id=file[1],
            uid=found.uid,
            gid=found.gid,
            owner="" if found.uid is None else user_of(found.uid),
            group="" if found.gid is None else group_of(found.gid),
            mode=found.mode,
            size=found.size,
            used=Use() if ring is None else ring.used,
            holders=holders,
            state=verdict.state,
            reason=verdict.reason,
            unseen=unseen,
            payload="" if ring is None else ring.payload,
            peers=() if ring is None else ring.peers,
            details=details if ring is None else details | ring.details,
            identity=file,
        )


def _kind_of_found(
    processes: Processes, file: tuple[int, int], found: Found, queues: int | None
) -> Kind | None:
    if found.path.startswith("/memfd:"):
        return "memfd"
    if file[0] == processes.shm_device and found.deleted:
        return _kind(Path(found.path).name)[0]
    if queues is not None:
        return "posix-queue" if found.deleted and file[0] == queues else None
    # On a device without a disk, only the file of a queue has this size and is in the root.
    is_queue = found.size == _QUEUE_BYTES and os.major(file[0]) == 0 and "/" not in found.path[1:]
    return "posix-queue" if is_queue and not found.foreign else None
