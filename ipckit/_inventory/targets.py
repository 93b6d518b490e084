"""Find the object on which a thread waits, from the system call in which it sleeps."""

from __future__ import annotations

import os
import re
import stat
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.blocked_calls import Call, Wait, call_of, wait_of
from ipckit._inventory.proc_text import socket_name
from ipckit._inventory.processes import link, read
from ipckit._inventory.sockets import all_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from ipckit._inventory.model import IpcObject, Kind
    from ipckit._inventory.proc_text import UnixRow
    from ipckit._inventory.processes import Processes

_WAITS_FOR: Final = {
    "msgrcv": "message",
    "msgsnd": "room",
    "semop": "semaphore",
    "mq_timedreceive": "message",
    "mq_timedsend": "room",
    "accept": "connection",
    "connect": "connection",
    "read": "data",
    "recvfrom": "data",
    "recvmmsg": "data",
    "recvmsg": "data",
    "sendmmsg": "room",
    "sendmsg": "room",
    "sendto": "room",
    "write": "room",
    "flock": "lock",
    "fcntl": "lock",
}
_SYSTEM_V: Final = frozenset({"sysv-queue", "sysv-semaphores"})
_LOCKS: Final = frozenset({7, 38})  # F_SETLKW, F_OFD_SETLKW
# How often a running thread is looked at again, and all of them together, and after how many
# seconds. A thread in a timed wait of ipckit wakes up every few milliseconds.
_LOOKS: Final = 3
_MOST_LOOKS: Final = 40
_LOOK_INTERVAL: Final = 0.001
_MANY: Final = frozenset({"poll", "select", "epoll_wait"})
_POLLFD: Final = struct.Struct("=ihh")
_POLLOUT: Final = 0x004
_MOST_DESCRIPTORS: Final = 4096
_SEMBUF: Final = struct.Struct("=Hhh")  # sem_num, sem_op, sem_flg
_MOST_OPERATIONS: Final = 1000
_TFD: Final = re.compile(rb"^tfd:\s*(\d+)\s+events:\s*([0-9a-f]+)", re.MULTILINE)
_SOCKADDR: Final = 110  # bytes of sockaddr_un
# A glibc mutex, see pthread_mutex_t: the futex word, a count, then the owner's thread id.
_MUTEX: Final = struct.Struct("=iIi")
_LOCKED: Final = 2  # the futex word of a plain mutex for which threads wait
_WAITERS: Final = 0x80000000  # FUTEX_WAITERS; the low bits are the owner's thread id
_OWNER: Final = 0x3FFFFFFF  # FUTEX_TID_MASK


@dataclass(frozen=True, slots=True)
class Target:
    """The object on which a thread waits.

    Attributes:
        item: the object.
        pid: the process.
        tid: the thread.
        waits_for: as in `ipckit.inventory.Wait`.
        call: as in `ipckit.inventory.Wait`.
        index: the semaphore in its set; None for others, and if it is not known.
        owner: the thread that owns a mutex, if its memory says so; 0 for none.
        socket: the inode of a socket; 0 for others.
    """

    item: IpcObject
    pid: int
    tid: int
    waits_for: str
    call: str
    index: int | None = None
    owner: int = 0
    socket: int = 0


class Targets:
    """Finds the objects on which the threads of a process wait.

    Attributes:
        rows: the UNIX sockets of this network namespace, by inode.
        connected: the processes that have a connection to a socket that is an object.
    """

    def __init__(self, objects: Collection[IpcObject], processes: Processes) -> None:
        self._processes = processes
        self._looks_left = _MOST_LOOKS
        self._by_id = {(each.kind, each.id): each for each in objects if each.kind in _SYSTEM_V}
        self._segments = {each.id: each for each in objects if each.kind == "sysv-segment"}
        self._by_file = {
            each.identity[:2]: each
            for each in objects
            if each.key is None and each.kind != "socket" and len(each.identity) > 1
        }
        sockets = [each for each in objects if each.kind == "socket"]
        self._by_inode = {each.id: each for each in sockets if "type" in each.details}
        self._by_name: dict[str, IpcObject] = {}
        for each in sockets:
            if "type" in each.details and (
                each.name not in self._by_name or each.details.get("listening")
            ):
                self._by_name[each.name] = each
        self.rows: dict[int, UnixRow] = {each.inode: each for each in all_rows()} if sockets else {}
        self.connected = {
            pid
            for inode, pids in processes.sockets.items()
            if self._socket(inode) is not None
            for pid in pids
        }

    def _socket(self, inode: int) -> IpcObject | None:
        """Return the object that a socket is, or to which it is connected."""
        if inode in self._by_inode:
            return self._by_inode[inode]
        row = self.rows.get(inode)
        if row is None or not row.connected:
            return None
        other = self.rows.get(row.peer)
        return self._by_name.get(row.name or (other.name if other else ""))

    def of(self, pid: int) -> Iterator[Target]:
        """Yield the objects on which the threads of a process wait; none if that is hidden."""
        base = f"/proc/{pid}/task"
        with suppress(OSError):
            for task in os.listdir(base):  # noqa: PTH208 - names are all it takes
                # The thread, or the whole process, may exit at any moment.
                with suppress(FileNotFoundError, ProcessLookupError):
                    yield from self._of_thread(pid, int(task), self._call(f"{base}/{task}/syscall"))

    def _call(self, path: str) -> str:
        """Return the call in which a thread sleeps, also if it has just woken up for a moment."""
        text = read(path).decode()
        for _ in range(_LOOKS):
            if not text.startswith("running") or not self._looks_left:
                break
            self._looks_left -= 1
            time.sleep(_LOOK_INTERVAL)
            text = read(path).decode()
        return text

    def _of_thread(self, pid: int, tid: int, text: str) -> Iterator[Target]:
        wait = wait_of(text, self._processes.machine)
        if wait is not None:
            if self._processes.shares_ipc(pid):
                yield from self._system_v(pid, tid, wait)
            return
        call = call_of(text, self._processes.machine)
        if call is None:
            return
        if call.name == "futex":
            found = self._futex(pid, tid, call)
            if found is not None:
                yield found
        elif call.name in _MANY:
            yield from self._any_of(pid, tid, call)
        else:
            yield from self._descriptor(pid, tid, call)

    def _system_v(self, pid: int, tid: int, wait: Wait) -> Iterator[Target]:
        kind: Kind = "sysv-semaphores" if wait.call == "semop" else "sysv-queue"
        item = self._by_id.get((kind, wait.id))
        if item is None:
            return
        waits_for, index = _WAITS_FOR[wait.call], None
        if wait.call == "semop" and wait.arguments:
            index, change = _awaited(pid, wait)
            waits_for = "zero" if change == 0 else waits_for
        call = "sleep" if wait.timed else wait.call
        yield Target(item, pid, tid, waits_for, call, index)

    # -- descriptors -------------------------------------------------------------------------------

    def _item_of(self, pid: int, fd: int) -> tuple[IpcObject | None, int]:
        """Return the object behind a descriptor, and the inode of a socket."""
        target = link(f"/proc/{pid}/fd/{fd}")
        if target.startswith("socket:["):
            inode = int(target[8:-1])
            return self._socket(inode), inode
        try:
            status = os.stat(f"/proc/{pid}/fd/{fd}")  # noqa: PTH116 - a path of /proc
        except OSError:
            return None, 0
        if not stat.S_ISREG(status.st_mode):
            return None, 0
        return self._by_file.get((status.st_dev, status.st_ino)), 0

    def _descriptor(self, pid: int, tid: int, call: Call) -> Iterator[Target]:
        if call.name == "fcntl" and call.arguments[1] not in _LOCKS:
            return
        fd = call.arguments[0] & 0xFFFFFFFF
        item, inode = self._item_of(pid, fd)
        if call.name == "connect" and inode:
            item = self._by_name.get(_asked_name(pid, call.arguments[1], call.arguments[2]))
        if item is None:
            return
        waits_for = _WAITS_FOR[call.name]
        if item.kind == "posix-queue" and call.name in {"read", "write"}:
            return  # a read of a queue's status never waits
        yield Target(item, pid, tid, waits_for, call.name, socket=inode)

    def _any_of(self, pid: int, tid: int, call: Call) -> Iterator[Target]:
        """Yield the objects among the descriptors of poll, select and epoll_wait."""
        seen: set[tuple[str, str]] = set()
        for fd, writes in _descriptors(pid, call):
            item, inode = self._item_of(pid, fd)
            if item is None:
                continue
            waits_for = "room" if writes else "data" if inode else "message"
            if inode and item.id == inode and item.details.get("listening"):
                waits_for = "connection"
            if (item.address, waits_for) not in seen:
                seen.add((item.address, waits_for))
                yield Target(item, pid, tid, waits_for, call.name, socket=inode)

    # -- memory ------------------------------------------------------------------------------------

    def _futex(self, pid: int, tid: int, call: Call) -> Target | None:
        """Return the object whose memory has the futex on which a thread sleeps."""
        address = call.arguments[0]
        item = self._mapped_at(pid, address)
        if item is None:
            return None
        waits_for, owner = "change", 0
        if item.kind == "posix-semaphore":
            waits_for = "semaphore"
        elif not item.peers and item.kind not in {"channel", "topic"}:
            owner = _mutex_owner(pid, address, call.arguments[2] & 0xFFFFFFFF)
            waits_for = "lock" if owner else "change"
        return Target(item, pid, tid, waits_for, "futex", owner=owner)

    def _mapped_at(self, pid: int, address: int) -> IpcObject | None:
        """Return the object that is mapped at an address of a process."""
        for line in read(f"/proc/{pid}/maps").split(b"\n"):
            span, _, rest = line.partition(b" ")
            start, _, end = span.partition(b"-")
            if not end or not int(start, 16) <= address < int(end, 16):
                continue
            _, _, device, inode, path = [*rest.split(None, 4), b""][:5]
            if path.startswith(b"/SYSV"):
                return self._segments.get(int(inode)) if self._processes.shares_ipc(pid) else None
            major, _, minor = device.partition(b":")
            return self._by_file.get((os.makedev(int(major, 16), int(minor, 16)), int(inode)))
        return None


def _memory(pid: int, address: int, size: int) -> bytes:
    """Return bytes of a process's memory; fewer or none if they can't be read."""
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(fd, size, address)
    except (OSError, OverflowError, ValueError):
        return b""
    finally:
        os.close(fd)


def _awaited(pid: int, wait: Wait) -> tuple[int | None, int]:
    """Return the semaphore for which a thread waits, and the change that it wants.

    /proc shows the call; the operations are in the memory of the process.

    Returns:
        None for the semaphore if it can't be known.
    """
    address, count = wait.arguments[1], wait.arguments[2]
    data = _memory(pid, address, min(count, _MOST_OPERATIONS) * _SEMBUF.size)
    whole = len(data) // _SEMBUF.size * _SEMBUF.size
    operations = [(index, change) for index, change, _ in _SEMBUF.iter_unpack(data[:whole])]
    if len(operations) == 1:
        return operations[0]
    for index, change in operations:
        try:
            value = native.sem_get(wait.id, index, native.GETVAL)
        except OSError:
            break
        if value + change < 0 if change else value != 0:
            return index, change
    return None, -1


def _asked_name(pid: int, address: int, size: int) -> str:
    """Return the name in a sockaddr_un; "" if it can't be read."""
    data = _memory(pid, address, min(size, _SOCKADDR))
    return socket_name(data[2:]) if len(data) > 2 else ""  # noqa: PLR2004 - the family's bytes


def _descriptors(pid: int, call: Call) -> Iterator[tuple[int, bool]]:
    """Yield the descriptors for which a thread waits, and whether only for room to write."""
    if call.name == "epoll_wait":
        with suppress(OSError):
            text = read(f"/proc/{pid}/fdinfo/{call.arguments[0] & 0xFFFFFFFF}")
            for fd, events in _TFD.findall(text):
                yield int(fd), int(events, 16) & 0xFFF == _POLLOUT
    elif call.name == "poll":
        count = min(call.arguments[1], _MOST_DESCRIPTORS)
        data = _memory(pid, call.arguments[0], count * _POLLFD.size)
        whole = len(data) // _POLLFD.size * _POLLFD.size
        for fd, events, _ in _POLLFD.iter_unpack(data[:whole]):
            if fd >= 0:
                yield fd, events & ~0x18 == _POLLOUT  # POLLERR, POLLHUP
    else:
        size = min(call.arguments[0] & 0xFFFFFFFF, _MOST_DESCRIPTORS) + 7 >> 3
        found: dict[int, bool] = {}
        for at, writes in ((call.arguments[2], True), (call.arguments[1], False)):
            bits = int.from_bytes(_memory(pid, at, size) if at else b"", sys.byteorder)
            found |= {fd: writes for fd in range(size * 8) if bits >> fd & 1}
        yield from found.items()


def _mutex_owner(pid: int, address: int, expected: int) -> int:
    """Return the thread that owns a mutex, if the futex at an address looks like one; else 0.

    Args:
        pid: the process that waits.
        address: the address of the futex in its memory.
        expected: the value for which it sleeps.
    """
    if expected & _WAITERS:
        return expected & _OWNER
    if expected != _LOCKED:
        return 0
    data = _memory(pid, address, _MUTEX.size)
    if len(data) < _MUTEX.size:
        return 0
    word, _, owner = _MUTEX.unpack(data)
    return owner if word == _LOCKED and owner > 0 else 0
