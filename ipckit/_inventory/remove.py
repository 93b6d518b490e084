"""Removing objects, after a last look at who holds each."""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import posix_ipc
import sysv_ipc

import ipckit._native as native
from ipckit._core import directory_entry as entry
from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.mqueue_files import file_of
from ipckit._inventory import files, sockets, sysv
from ipckit._inventory.processes import Processes
from ipckit._inventory.recognize import is_object
from ipckit.errors import (
    AccessDenied,
    InUse,
    InvalidArgument,
    IpcError,
    NotFound,
    Removed,
    from_errno,
)
from ipckit.msgq import SysVMessageQueue
from ipckit.sem import SysVSemaphoreSet
from ipckit.shm import SysVSharedMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ipckit._core.sysv import Table
    from ipckit._inventory.model import IpcObject

# How old a look at who waits on queues may be when the next one is removed: seconds. It takes a
# few milliseconds for every hundred processes, and there can be thousands of objects.
_FRESH: Final = 0.05


def _remove_segment(ident: int) -> None:
    native.shm_control(ident, native.IPC_RMID)


def _remove_set(ident: int) -> None:
    native.sem_get(ident, 0, native.IPC_RMID)


_SYSV: Final[dict[str, tuple[Table[Any], Callable[..., IpcObject], Callable[[int], None]]]] = {
    "sysv-queue": (SysVMessageQueue._table, sysv.queue, sysv_ipc.remove_message_queue),
    "sysv-segment": (SysVSharedMemory._table, sysv.segment, _remove_segment),
    "sysv-semaphores": (SysVSemaphoreSet._table, sysv.semaphores, _remove_set),
}


class Remover:
    """Removes objects one after another.

    Args:
        force: also what a live process holds.
        orphans: nothing but what is orphaned for certain.
        unknown: with `orphans`, also an IPC object whose state can't be told.
        ignored: processes that hold nothing, whatever it looks like.
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
        """Remove an object if it is still the one that was looked at.

        Raises:
            InUse: a live process holds it or uses it, or may do so.
            NotFound: it is gone, or another one has its name by now.
            AccessDenied: it is another user's.
            InvalidArgument: it has no name to remove, and goes with its last holder.
        """
        if not item.removable:
            message = "it has no name to remove; it goes with the last process that has it"
            raise InvalidArgument(message, errno=errno.EINVAL, target=item.address)
        if item.kind in _SYSV:
            self._remove_sysv(item)
        elif item.kind == "socket":
            self._remove_socket(item)
        else:
            self._remove_file(item)

    def attempt(self, item: IpcObject) -> IpcError | None:
        """Remove an object; gives why that was not to be, or None."""
        try:
            self.remove(item)
        except IpcError as exc:
            return exc
        return None

    def _looked(self) -> Processes:
        """Who waits on what, seen just now."""
        found = self._processes
        if found is None or time.monotonic() - found.taken > _FRESH:
            found = self._processes = Processes(waits_only=True)
        return found

    def _refuse(self, item: IpcObject, state: str, reason: str) -> None:
        """Raise InUse for an object that is not to be removed in this state."""
        if self._force or state == "orphaned" or (state == "unknown" and self._takes_unknown):
            return
        verb = "held" if state == "held" else "in use" if state == "used" else "not known unused"
        raise InUse(
            f"it is {verb}: {reason}" if reason else f"it is {verb}",
            errno=errno.EBUSY,
            target=item.address,
            hint="" if self._orphans else "--force removes it all the same",
        )

    def _refuse_used(self, item: IpcObject, *, used: bool) -> None:
        """Raise InUse for an object that was used since it was chosen for its state or age."""
        if self._orphans and used:
            raise InUse("it was used since", errno=errno.EBUSY, target=item.address)

    def _remove_sysv(self, item: IpcObject) -> None:
        table, judged, rmid = _SYSV[item.kind]
        processes = self._looked()
        status = table.find(item.id)
        if status is None:
            raise NotFound("it is gone already", errno=errno.ENOENT, target=item.address)
        now = judged(status, processes, time.time(), self._ignored)
        if now.identity != item.identity:
            raise _changed(item)
        self._refuse(item, now.state, now.reason)
        self._refuse_used(item, used=now.times != item.times)
        # Another object can't get this id meanwhile: the kernel counts an id's upper half up for
        # each new object in its slot. Only root can choose an id, by kernel.msg_next_id and so on.
        try:
            rmid(item.id)
        except BINDING_ERRORS as exc:
            error = from_binding(exc, op=table.call, target=item.address)
            if isinstance(error, AccessDenied):
                error = table.denied(item.id, item.address)
            if isinstance(error, (Removed, InvalidArgument)):
                error = NotFound("it is gone already", errno=errno.ENOENT, target=item.address)
            raise error from None

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
                # While it is open its inode number is not used again.
                with files.opened(directory, name) as fd:
                    if fd is not None and not same(os.fstat(fd)):
                        raise _changed(item)
                    self._refuse_stranger(item, name, fd)
                    self._refuse_file(item, is_alone=files.is_alone(fd))
                    now = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    self._refuse_used(item, used=now.st_mtime != item.times.get("modified"))
                    if not entry.unlink_same(directory, name, same):
                        raise _changed(item)
            except OSError as exc:
                if isinstance(exc, (InUse, NotFound)):
                    raise
                raise from_errno(exc.errno or errno.EIO, op="unlink", target=item.address) from None

    def _refuse_stranger(self, item: IpcObject, name: str, fd: int | None) -> None:
        """Raise InUse for a file that nothing shows to be an IPC object, unless it was named."""
        if self._orphans and item.kind != "posix-queue" and not is_object(name, fd):
            message = "not ours to judge: nothing shows that this file is an IPC object"
            hint = "ipckit rm removes a file that is named"
            raise InUse(message, errno=errno.EBUSY, target=item.address, hint=hint)

    def _refuse_file(self, item: IpcObject, *, is_alone: bool | None) -> None:
        if self._force or is_alone:
            return
        if is_alone is False:
            reason = item.reason if item.holders else "a process has it open or mapped"
            self._refuse(item, "held", reason)
        processes = Processes()
        holders = processes.having((item.identity[0], item.identity[1]))
        if holders:
            self._refuse(item, "held", f"pid {holders[0].pid}: {holders[0].how}")
        if not processes.complete:
            self._refuse(item, "unknown", "who has it open can't be seen")

    def _unlink_unseen_queue(self, item: IpcObject) -> None:
        """Unlink a queue that was seen only because a process has it open."""
        self._refuse(item, item.state, item.reason)
        try:
            # If its mode forbids to open it, its name is all that there is to go by.
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
                _pinned(directory, name) as fd,
            ):
                judged = os.fstat(fd)
                if not _is_socket(judged, item.identity):
                    raise _changed(item)
                if not self._force:
                    self._refuse_socket(item, fd)
                if not entry.unlink_same(
                    directory, name, lambda status: _is_socket(status, item.identity)
                ):
                    raise _changed(item)
        except entry.UntrustedLinkError as exc:
            raise NotFound(
                f"{exc.strerror}: it is not followed",
                errno=errno.ELOOP,
                op="unlink",
                target=item.address,
                hint="look again, or name it by a path without that link",
            ) from None
        except OSError as exc:
            if isinstance(exc, (InUse, NotFound)):
                raise
            raise from_errno(exc.errno or errno.EIO, op="unlink", target=item.address) from None

    def _refuse_socket(self, item: IpcObject, fd: int) -> None:
        """Raise InUse for a socket's file that a process is behind; `fd` is of O_PATH."""
        bound = any(row.name == item.name and not row.connected for row in sockets.rows())
        # By the descriptor the probe reaches the file that was judged, whatever has its path now.
        answered = True if bound else sockets.answers(Path(f"/proc/self/fd/{fd}"))
        if answered is False:
            answered = sockets.bound_elsewhere(Path(item.name).name, os.fstat(fd).st_uid)
        if answered:
            self._refuse(item, "held", item.reason or "a process answers")
        elif answered is None:
            self._refuse(item, "unknown", "a process that can't be seen may be behind it")


@contextmanager
def _pinned(directory: int, name: str) -> Generator[int]:
    """Hold an entry of a directory without opening the file: its inode number stays its own."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_socket(status: os.stat_result, identity: tuple[int, ...]) -> bool:
    """Whether a file is the socket's file that was judged."""
    # On ext4 the next file that is made gets the inode number of the one that was removed last.
    file = status.st_dev, status.st_ino, status.st_mtime_ns
    return file == identity and stat.S_ISSOCK(status.st_mode)


def _changed(item: IpcObject) -> NotFound:
    message = "it is gone, and another has its name; or it was changed since"
    return NotFound(message, errno=errno.ENOENT, target=item.address, hint="look again")
