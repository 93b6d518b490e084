"""The functions of `ipckit.inventory`: survey the objects, select some, remove them."""

from __future__ import annotations

import errno
import math
import os
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ipckit._core.arguments import int_argument
from ipckit._core.lazy_names import LazyModule
from ipckit._core.public import public
from ipckit._inventory import sysv
from ipckit._inventory.model import KINDS, IpcObject, Kind, StoredMessage, Survey
from ipckit.errors import InvalidArgument
from ipckit.msgq import list_queues
from ipckit.sem import list_sets
from ipckit.shm import list_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit._inventory import files, sockets
    from ipckit._inventory import processes as proc
    from ipckit._inventory import remove as removal
    from ipckit.errors import IpcError
else:
    # Each takes as long to import as the survey of one kind, which may not need it.
    files = LazyModule("ipckit._inventory.files")
    proc = LazyModule("ipckit._inventory.processes")
    removal = LazyModule("ipckit._inventory.remove")
    sockets = LazyModule("ipckit._inventory.sockets")

_SYSTEM_V = frozenset[Kind]({"sysv-queue", "sysv-segment", "sysv-semaphores"})
_IN_SHM = frozenset[Kind]({"posix-segment", "posix-semaphore", "channel", "topic"})
_OPEN_ONLY = frozenset[Kind]({*_IN_SHM, "posix-queue", "memfd"})


@public("ipckit.inventory")
def survey(
    kinds: Iterable[Kind] | None = None, *, holders: bool = True, ignore_self: bool = False
) -> Survey:
    """List the IPC objects in the namespaces of this process.

    It requires no privileges. Without them it sees less, and `Survey.unseen` says what.

    Args:
        kinds: the kinds to list, of `KINDS`; by default all.
        holders: find the processes that hold each object, from ``/proc``. If false, every state
            is unknown, and memfds are not listed.
        ignore_self: do not count this process as a possible creator of an object. It is for
            command line tools, which only look at objects.

    Returns:
        The objects, and what could not be seen. UNIX sockets without a name are not listed.

    Example:
        >>> import ipckit
        >>> queue = ipckit.SysVMessageQueue.create(None)
        >>> queue.send(b"hello")
        >>> found = {each.id: each for each in survey(["sysv-queue"]).objects}
        >>> found[queue.id].used.messages
        1
        >>> found[queue.id].state
        'used'
        >>> queue.unlink()
        >>> queue.close()

    See proc(5), sysvipc(7), shm_overview(7), mq_overview(7), sock_diag(7).
    """
    return observe(kinds, holders=holders, ignore_self=ignore_self)[0]


def observe(
    kinds: Iterable[Kind] | None = None,
    *,
    holders: bool = True,
    ignore_self: bool = False,
    stale_sockets: bool = True,
) -> tuple[Survey, proc.Processes | None]:
    """Return what `survey` returns, and what /proc showed; None for that without `holders`.

    The search for stale sockets takes long, and no process holds them.
    """
    wanted = frozenset(KINDS if kinds is None else kinds)
    now = time.time()
    with ExitStack() as stack:
        # List the objects first and the holders second. In the other order, the holder of a new
        # object would be missed.
        unseen: list[str] = []
        # All three tables, even for one kind: `mark_companions` compares the objects of all.
        system_v = bool(wanted & _SYSTEM_V)
        queues = list_queues() if system_v else []
        segments = list_segments() if system_v else []
        sets = list_sets() if system_v else []
        queue_files = None
        if "posix-queue" in wanted:
            queue_files = stack.enter_context(files.queue_directory())
        entries = list(_entries(wanted, stack, queue_files, unseen))
        rows = sockets.rows(unseen) if "socket" in wanted else []
        processes = proc.Processes() if holders else None
        if processes is not None:
            unseen += processes.unseen
        ignored = frozenset({os.getpid()} if ignore_self else ())
        objects = [sysv.queue(each, processes, now, ignored) for each in queues]
        objects += [sysv.segment(each, processes, now, ignored) for each in segments]
        objects += [sysv.semaphores(each, processes, now, ignored) for each in sets]
        if processes is not None:
            objects = sysv.mark_companions(objects, processes)
        objects = [each for each in objects if each.kind in wanted]
        for entry in entries:
            with suppress(FileNotFoundError):  # it was unlinked
                objects.append(files.object_of(entry, processes, now))
        if processes is not None and wanted & _OPEN_ONLY:
            seen = {(each.status.st_dev, each.status.st_ino) for each in entries}
            queues_on = None if queue_files is None else os.fstat(queue_files).st_dev
            found = files.unlinked(processes, seen, queues_on)
            objects += [each for each in found if each.kind in wanted]
        if "socket" in wanted:
            objects += sockets.named(rows, processes, now)
            if stale_sockets:
                objects += sockets.stale(rows, now, judged=processes is not None, unseen=unseen)
    order = {kind: index for index, kind in enumerate(KINDS)}
    objects.sort(key=lambda each: (order[each.kind], each.name, each.id))
    return Survey(tuple(objects), tuple(unseen), now), processes


def _entries(
    wanted: frozenset[Kind], stack: ExitStack, queue_files: int | None, unseen: list[str]
) -> Iterator[files.Entry]:
    if wanted & _IN_SHM:
        try:
            directory = stack.enter_context(files.memory_directory())
        except OSError as exc:
            unseen.append(f"POSIX shared memory and semaphores: /dev/shm: {exc.strerror}")
        else:
            found = files.entries(directory, queues=False)
            yield from (each for each in found if each.kind in wanted)
    if "posix-queue" in wanted:
        if queue_files is None:
            unseen.append(files.NOT_MOUNTED)
        else:
            yield from files.entries(queue_files, queues=True)


@public("ipckit.inventory")
def remove(item: IpcObject, *, force: bool = False) -> None:
    """Remove one object, unless a live process holds or uses it.

    It checks the object again just before the removal. It also removes an object whose state is
    unknown.

    Args:
        item: the object, from `survey`.
        force: remove the object even if a live process holds or uses it; by default false.

    Raises:
        InUse: a live process holds it, waits on it, created it or used it last.
        NotFound: it no longer exists, or another object has its name now. For the file of a
            socket also: its path contains a symbolic link that another user can change.
        AccessDenied: it belongs to another user.
        InvalidArgument: it has no name to remove, such as a memfd or an abstract socket. The
            kernel frees it when its last holder exits.

    Example:
        >>> import ipckit
        >>> queue = ipckit.SysVMessageQueue.create(None)
        >>> ident = queue.id
        >>> queue.close()
        >>> [item] = [each for each in survey(["sysv-queue"]).objects if each.id == ident]
        >>> remove(item)
        >>> remove(item)
        Traceback (most recent call last):
        ...
        ipckit.errors.NotFound: q:...: it was removed already

    See msgctl(2), shmctl(2), semctl(2), shm_unlink(3), mq_unlink(3), unlink(2).
    """
    removal.Remover(force=force).remove(item)


@public("ipckit.inventory")
def messages(item: IpcObject, most: int = 10) -> list[StoredMessage]:
    """Return messages of a channel or topic. They stay, and no process is disturbed.

    Args:
        item: the channel or topic, from `survey`.
        most: the maximum number of messages; by default 10.

    Returns:
        The next messages of a channel, in the order in which they will be received; or the newest
        messages of a topic that are still in memory, the oldest of them first. A message that a
        process receives at the same time may be missing.

    Raises:
        AccessDenied: the caller may not read the object.
        NotFound: it no longer exists, or another object has its name now.
        Corrupt: the file is not a channel or topic, or it is damaged.
        InvalidArgument: the object is of another kind, or `most` is negative.

    Example:
        >>> import ipckit
        >>> with ipckit.Channel.create("messages-example") as channel:
        ...     channel.send(b"hello")
        ...     [item] = [x for x in survey(["channel"]).objects if x.name == "messages-example"]
        ...     [each.data for each in messages(item)]
        [b'hello']
    """
    if int_argument("most", most) < 0:
        message = f"most must be 0 or more, not {most}"
        raise InvalidArgument(message, errno=errno.EINVAL, target=item.address)
    return files.messages(item, most)


@public("ipckit.inventory")
def select(
    items: Iterable[IpcObject],
    *,
    unknown: bool = False,
    creator_pid: int | None = None,
    older_than: float | None = None,
) -> list[IpcObject]:
    """Select the objects that `collect` can remove: orphaned ones, and on request unknown ones.

    The kernel records the creator's pid for System V segments only. For queues and semaphore sets,
    the processes that used them last count as the creator. For other kinds, and for a queue or set
    that was never used, no process is recorded, so `creator_pid` selects none of them.

    Args:
        items: the objects, from `survey`.
        unknown: also select objects with the state ``"unknown"``; by default false. A live
            process may use one of them, so another argument must narrow the selection. A file
            that is not `recognized` as an IPC object is never selected.
        creator_pid: select only objects of the process with this pid, 1 or more.
        older_than: select only objects that were not changed or used for this many seconds, 0 or
            more.

    Returns:
        The selected objects, in the order of `items`.

    Raises:
        TypeError: `creator_pid` is not an int, or `older_than` is not a number.
        InvalidArgument: an argument is out of range; or `unknown` is given without `creator_pid`
            and without an `older_than` above 0.

    Example:
        >>> queues = survey(["sysv-queue"]).objects
        >>> stale = select(queues, unknown=True, older_than=3600)

        ``collect(stale, unknown=True)`` removes them.
    """
    if creator_pid is not None and int_argument("creator_pid", creator_pid) < 1:
        message = f"creator_pid must be 1 or more, not {creator_pid}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    if older_than is not None and (
        isinstance(older_than, bool) or not isinstance(older_than, int | float)
    ):
        message = f"older_than must be a number of seconds, not {type(older_than).__name__}"
        raise TypeError(message)
    if older_than is not None and not 0 <= older_than < math.inf:
        message = f"older_than must be 0 or more seconds, not {older_than}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    if unknown and creator_pid is None and not older_than:
        message = "unknown=True needs creator_pid, or older_than above 0"
        hint = "a live process may use an object whose state is unknown"
        raise InvalidArgument(message, errno=errno.EINVAL, hint=hint)
    states = {"orphaned", "unknown"} if unknown else {"orphaned"}
    return [
        item
        for item in items
        if item.state in states
        and item.recognized
        and item.removable
        and (creator_pid is None or creator_pid in item.creator_pids)
        and (not older_than or (item.age or 0.0) >= older_than)
    ]


@public("ipckit.inventory")
def collect(
    items: Iterable[IpcObject], *, ignore_self: bool = False, unknown: bool = False
) -> Iterator[tuple[IpcObject, IpcError | None]]:
    """Remove orphaned objects, and on request those with the state unknown.

    It checks each object again just before the removal.

    Args:
        items: the objects, from `survey` or `select`.
        ignore_self: do not count this process as a possible creator of an object; see `survey`.
        unknown: also remove objects with the state ``"unknown"``; by default false. Pass only
            objects that `select` selected. A file that is not `recognized` as an IPC object
            stays.

    Yields:
        Each object and None if it was removed, or the error: `InUse` if a process holds it or may
        hold it, or used it after it was listed; `NotFound`, `AccessDenied`.

    Example:
        >>> import ipckit
        >>> queue = ipckit.SysVMessageQueue.create(None)
        >>> queue.send(b"hello")
        >>> items = [each for each in survey(["sysv-queue"]).objects if each.id == queue.id]
        >>> for item, error in collect(items):
        ...     print("removed" if error is None else type(error).__name__)
        InUse
        >>> queue.unlink()
        >>> queue.close()

    See msgctl(2), shmctl(2), semctl(2), shm_unlink(3), mq_unlink(3), unlink(2).
    """
    ignored = frozenset({os.getpid()} if ignore_self else ())
    remover = removal.Remover(orphans=True, unknown=unknown, ignored=ignored)
    for item in items:
        yield item, remover.attempt(item)
