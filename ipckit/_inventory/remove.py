"""Remove objects, after a last check of which processes hold each."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager, suppress
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

import posix_ipc

import ipckit._native as native
from ipckit._core import directory_entry as entry
from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.files import is_alone
from ipckit._core.mqueue_files import file_of
from ipckit._core.sysv import table_of
from ipckit._inventory import files, sockets, sysv
from ipckit._inventory.processes import Processes
from ipckit._inventory.recognize import is_object
from ipckit.errors import (
    InUse,
    InvalidArgument,
    IpcError,
    NotFound,
    from_errno,
)
from ipckit.msgq import SysVMessageQueue
from ipckit.sem import SysVSemaphoreSet
from ipckit.shm import SysVSharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from ipckit._core.sysv import Table
    from ipckit._inventory.model import IpcObject

# How old the list of waiting processes may be when an object is removed: seconds. It takes a few
# milliseconds for every hundred processes to collect it, and there can be thousands of objects.
_FRESH: Final = 0.05


def _remove_segment(ident: int) -> None:
    native.shm_control(ident, native.IPC_RMID)


def _remove_set(ident: int) -> None:
    native.sem_get(ident, 0, native.IPC_RMID)


# For each kind: the kernel's table, the judgement from a status, and the call that removes an id.
_SYSV: Final[dict[str, tuple[Table[Any], Callable[..., IpcObject], Callable[[int], None]]]] = {
    "sysv-queue": (table_of(SysVMessageQueue), sysv.queue, native.msg_remove),
    "sysv-segment": (table_of(SysVSharedMemory), sysv.segment, _remove_segment),
    "sysv-semaphores": (table_of(SysVSemaphoreSet), sysv.semaphores, _remove_set),
}


class Remover:
    """Removes objects one after another.

    Args:
        force: also remove objects that a live process holds.
        orphans: remove orphaned objects only.
        unknown: with `orphans`, also remove IPC objects with the state unknown.
        ignored: pids of processes that do not count as holders.
    """

    def __init__(
        self,
        *,
        force: bool = False,
        orphans: bool = False,
        unknown: bool = False,
        ignored: frozenset[int] = frozenset(),
    ) -> None:
        self._force = force
        self._orphans = orphans
        self._takes_unknown = unknown or not orphans
        self._ignored = ignored
        self._processes: Processes | None = None

    def remove(self, item: IpcObject) -> None:
        """Remove an object if it is still the one that was surveyed.

        Raises:
            InUse: a live process holds it or uses it, or may do so.
            NotFound: it no longer exists, or another object has its name now.
            AccessDenied: it belongs to another user.
            InvalidArgument: it has no name or id to remove.
        """
        if not item.removable:
            message = "it has no name to remove; the kernel frees it when its last holder exits"
            raise InvalidArgument(message, errno=errno.EINVAL, target=item.address)
        if item.kind in _SYSV:
            self._remove_sysv(item)
        elif item.kind == "socket":
            self._remove_socket(item)
        else:
            self._remove_file(item)

    def attempt(self, item: IpcObject) -> IpcError | None:
        """Remove an object; return the error if it was not removed, else None."""
        try:
            self.remove(item)
        except IpcError as exc:
            return exc
        except OSError as exc:  # such as too many open files, or /proc is not mounted
            return _failed(item, exc, "remove")
        return None

    def _fresh_waits(self) -> Processes:
        """Return which processes wait on what, at most `_FRESH` seconds old."""
        found = self._processes
        if found is None or time.monotonic() - found.taken > _FRESH:
            found = self._processes = Processes(waits_only=True)
        return found

    def _refuse(self, item: IpcObject, state: str, reason: str) -> None:
        """Raise InUse if an object in this state must not be removed."""
        if self._force or state == "orphaned" or (state == "unknown" and self._takes_unknown):
            return
        message = {
            "held": "a process holds it",
            "used": "it is in use",
            "unknown": "it may be in use",
        }[state]
        raise InUse(
            f"{message}: {reason}" if reason else message,
            errno=errno.EBUSY,
            target=item.address,
            hint="" if self._orphans else "to remove it anyway, use --force (force=True)",
        )

    def _refuse_used(self, item: IpcObject, *, used: bool) -> None:
        """Raise InUse if an object was used after it was chosen for its state or age."""
        if self._orphans and used:
            message = "it was used after it was listed"
            raise InUse(message, errno=errno.EBUSY, target=item.address)

    def _remove_sysv(self, item: IpcObject) -> None:
        table, judged, rmid = _SYSV[item.kind]
        processes = self._fresh_waits()
        status = table.find(item.id)
        if status is None:
            raise _missing(item)
        now = judged(status, processes, time.time(), self._ignored)
        if now.identity != item.identity:
            raise _changed(item)
        self._refuse(item, now.state, now.reason)
        self._refuse_used(item, used=now.times != item.times)
        # Another object can't get this id between the check and the removal: the kernel increments
        # the upper half of the id for each new object in a slot. Only root can choose an id, by
        # kernel.msg_next_id and the like.
        try:
            rmid(item.id)
        except OSError as exc:
            if exc.errno in {errno.EINVAL, errno.EIDRM}:
                raise _missing(item) from None
            raise _failed(item, exc, table.call) from None

    @contextmanager
    def _directory(self, item: IpcObject) -> Generator[int | None]:
        if item.kind == "posix-queue":
            with files.queue_directory() as found:
                yield found
        else:
            with files.memory_directory() as found:
                yield found

    def _remove_file(self, item: IpcObject) -> None:
        with self._directory(item) as directory:
            if directory is None:
                self._unlink_unseen_queue(item)
                return
            name = item.file_name

            def same(status: os.stat_result) -> bool:
                file = status.st_dev, status.st_ino
                return file == item.identity and stat.S_ISREG(status.st_mode)

            try:
                # While the file is open, its inode number is not reused.
                with files.opened(directory, name) as fd:
                    if fd is not None and not same(os.fstat(fd)):
                        raise _changed(item)
                    self._refuse_unrecognized(item, name, fd)
                    self._refuse_file(item, is_alone=is_alone(fd))
                    now = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    self._refuse_used(item, used=now.st_mtime != item.times.get("modified"))
                    if not entry.unlink_same(directory, name, same):
                        raise _changed(item)
            except OSError as exc:
                if isinstance(exc, (InUse, NotFound)):
                    raise
                raise _failed(item, exc, "unlink") from None

    def _refuse_unrecognized(self, item: IpcObject, name: str, fd: int | None) -> None:
        """Raise InUse for a file without evidence that it is an IPC object, unless it was named."""
        if self._orphans and item.kind != "posix-queue" and not is_object(name, fd):
            message = "this file is not recognized as an IPC object"
            hint = f"if it is one, remove it by name: ipckit rm {quote(item.address)}"
            raise InUse(message, errno=errno.EBUSY, target=item.address, hint=hint)

    def _refuse_file(self, item: IpcObject, *, is_alone: bool | None) -> None:
        if self._force or is_alone:
            return
        if is_alone is False:
            reason = item.reason if item.holders else "a process has it open or mapped"
            self._refuse(item, "held", reason)
        processes = Processes()
        holders = processes.holders_of((item.identity[0], item.identity[1]))
        if holders:
            self._refuse(item, "held", f"pid {holders[0].pid}: {holders[0].how}")
        if not processes.complete:
            self._refuse(item, "unknown", "could not see whether a process has it open")

    def _unlink_unseen_queue(self, item: IpcObject) -> None:
        """Unlink a queue that was found only as an open descriptor of some process."""
        self._refuse(item, item.state, item.reason)
        try:
            # If its mode forbids to open it, it can only be identified by its name.
            with suppress(PermissionError):
                queue = native.mq_open(item.name, os.O_RDONLY, 0, 0, 0)
                try:
                    if file_of(queue) != item.identity:
                        raise _changed(item)
                finally:
                    os.close(queue)
            posix_ipc.unlink_message_queue(item.name)
        except NotFound:
            raise
        except BINDING_ERRORS as exc:
            raise from_binding(exc, op="mq_unlink", target=item.address) from None

    def _remove_socket(self, item: IpcObject) -> None:
        name = item.name.rpartition("/")[2]
        try:
            with (
                entry.directory_of(item.name, strict=True) as directory,
                sockets.pinned(name, directory=directory) as (held, status),
            ):
                if not sockets.same_socket(status, item.identity):
                    raise _changed(item)
                if not self._force:
                    self._refuse_socket(item, held, status)
                if not entry.unlink_same(
                    directory, name, lambda status: sockets.same_socket(status, item.identity)
                ):
                    raise _changed(item)
        except entry.UntrustedLinkError as exc:
            raise NotFound(
                f"{exc.strerror}; it was not followed",
                errno=errno.ELOOP,
                op="unlink",
                target=item.address,
                hint="list the objects again, or name the socket by a path without that link",
            ) from None
        except OSError as exc:
            if isinstance(exc, (InUse, NotFound)):
                raise
            raise _failed(item, exc, "unlink") from None

    def _refuse_socket(self, item: IpcObject, held: Path, status: os.stat_result) -> None:
        """Raise InUse if a process is bound to a socket file.

        Args:
            item: the socket.
            held: a path that leads to the file that was checked.
            status: the status of that file.
        """
        bound = sockets.is_bound(sockets.rows(), item.name, status)
        answered = True if bound else sockets.answers(held)
        if answered:
            self._refuse(item, "held", item.reason or "a socket is bound to it")
        elif answered is None:
            self._refuse(item, "unknown", "could not check whether a socket is bound to it")


def _changed(item: IpcObject) -> NotFound:
    message = "it was replaced or changed after it was listed"
    hint = "list the objects again: ipckit ls"
    return NotFound(message, errno=errno.ENOENT, target=item.address, hint=hint)


def _failed(item: IpcObject, exc: OSError, op: str) -> IpcError:
    """Return the error for a failed removal."""
    code = exc.errno or errno.EIO
    denied = code in {errno.EACCES, errno.EPERM}
    return from_errno(
        code,
        op=op,
        target=item.address,
        message=f"permission denied: the owner is {item.owner}" if denied else "",
        hint="only the owner or root can remove it" if denied else "",
    )


def _missing(item: IpcObject) -> NotFound:
    message = "it was removed already"
    return NotFound(message, errno=errno.ENOENT, target=item.address)
