"""What IPC objects exist, who holds them, and which are left over.

``survey(["sysv-queue"]).objects`` are the queues, each an `IpcObject`; `remove` takes one away if
nobody alive holds it. Nothing here takes root; what could not be seen is said.
"""

from __future__ import annotations

import errno
import math
import os
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._inventory import files, sockets, sysv
from ipckit._inventory.model import KINDS, IpcObject, Kind, Survey
from ipckit._inventory.processes import Processes
from ipckit._inventory.remove import Remover
from ipckit.errors import InvalidArgument
from ipckit.msgq import list_queues
from ipckit.sem import list_sets
from ipckit.shm import list_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit.errors import IpcError

_SYSTEM_V = frozenset[Kind]({"sysv-queue", "sysv-segment", "sysv-semaphores"})
_IN_SHM = frozenset[Kind]({"posix-segment", "posix-semaphore", "channel"})
_OPEN_ONLY = frozenset[Kind]({*_IN_SHM, "posix-queue", "memfd"})


@public("ipckit.inventory")
def survey(
    kinds: Iterable[Kind] | None = None, *, holders: bool = True, ignore_self: bool = False
) -> Survey:
    """Look at what exists in this process's namespaces.

    Args:
        kinds: which of `KINDS`; all by default.
        holders: also find the processes that hold each object, from ``/proc``; without them
            every state is unknown, and memfds are not seen.
        ignore_self: this process holds no objects, whatever it looks like.

    Returns:
        The objects, and what could not be seen. UNIX sockets without a name are left out.
    """
    wanted = frozenset(KINDS if kinds is None else kinds)
    now = time.time()
    with ExitStack() as stack:
        # What exists first, then who holds it: a holder that comes later is not missed by mistake.
        unseen: list[str] = []
        # One of the three tells of the others.
        system_v = bool(wanted & _SYSTEM_V)
        queues = list_queues() if system_v else []
        segments = list_segments() if system_v else []
        sets = list_sets() if system_v else []
        queue_files = None
        if "posix-queue" in wanted:
            queue_files = stack.enter_context(files.queue_directory())
        entries = list(_entries(wanted, stack, queue_files, unseen))
        rows = sockets.rows(unseen) if "socket" in wanted else []
        processes = Processes() if holders else None
        if processes is not None:
            unseen += processes.unseen
        ignored = frozenset({os.getpid()} if ignore_self else ())
        objects = [sysv.queue(each, processes, now, ignored) for each in queues]
        objects += [sysv.segment(each, processes, now, ignored) for each in segments]
        objects += [sysv.semaphores(each, processes, now, ignored) for each in sets]
        if processes is not None:
            objects = sysv.together(objects, processes)
        objects = [each for each in objects if each.kind in wanted]
        for entry in entries:
            with suppress(FileNotFoundError):  # unlinked meanwhile
                objects.append(files.made(entry, processes, now))
        if processes is not None and wanted & _OPEN_ONLY:
            seen = {(each.status.st_dev, each.status.st_ino) for each in entries}
            queues_on = None if queue_files is None else os.fstat(queue_files).st_dev
            found = files.unlinked(processes, seen, queues_on)
            objects += [each for each in found if each.kind in wanted]
        if "socket" in wanted:
            objects += sockets.named(rows, processes, now)
            objects += sockets.stale(rows, now, judged=processes is not None)
    order = {kind: index for index, kind in enumerate(KINDS)}
    objects.sort(key=lambda each: (order[each.kind], each.name, each.id))
    return Survey(tuple(objects), tuple(unseen), now)


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
    """Remove one object, unless a live process holds it.

    It is looked at again just before; what can't be seen to be held is removed.

    Args:
        item: as `survey` gave it.
        force: also what a live process holds.

    Raises:
        InUse: a live process holds it, waits on it, made it or used it last.
        NotFound: it is gone, or another one has its name by now; or a symbolic link that another
            user can change leads to a socket's file, and is not followed.
        AccessDenied: it is another user's.
        InvalidArgument: it has no name, and goes with its last holder: a memfd, an abstract socket.

    See msgctl(2), shmctl(2), semctl(2), shm_unlink(3), mq_unlink(3), unlink(2).
    """
    Remover(force=force).remove(item)


@public("ipckit.inventory")
def select(
    items: Iterable[IpcObject],
    *,
    unknown: bool = False,
    creator_pid: int | None = None,
    older_than: float | None = None,
) -> list[IpcObject]:
    """Choose what `collect` can remove: what is orphaned, and on request what can't be judged.

    The kernel has the creator's pid on record for System V segments only. For queues and semaphore
    sets the processes that used them last stand in for it. For other kinds, and for a queue or
    set that was never used, no process is on record, so that `creator_pid` chooses none of them.

    Args:
        items: as `survey` gave them.
        unknown: also choose objects in the state ``"unknown"``. A live process may use one of
            them, so one of the other two arguments must narrow the choice. A file that is not
            `recognized` as an IPC object is never chosen.
        creator_pid: only what the process with this pid made; 1 or more.
        older_than: only what was not changed or used for so many seconds; 0 or more.

    Returns:
        The objects, in the order of `items`.

    Raises:
        TypeError: `creator_pid` is not an int, or `older_than` not a number.
        InvalidArgument: an argument is out of range, or `unknown` comes without one that narrows
            the choice; an `older_than` of 0 does not.

    Example:
        >>> queues = survey(["sysv-queue"]).objects
        >>> stale = select(queues, unknown=True, older_than=3600)

        ``collect(stale, unknown=True)`` removes them.
    """
    if creator_pid is not None and int_argument("creator_pid", creator_pid) < 1:
        message = f"creator_pid is {creator_pid}; it takes 1 or more"
        raise InvalidArgument(message, errno=errno.EINVAL)
    if older_than is not None and (
        isinstance(older_than, bool) or not isinstance(older_than, int | float)
    ):
        message = f"older_than is a number of seconds, not {type(older_than).__name__}"
        raise TypeError(message)
    if older_than is not None and not 0 <= older_than < math.inf:
        message = f"older_than is {older_than}; it takes 0 or more seconds"
        raise InvalidArgument(message, errno=errno.EINVAL)
    if unknown and creator_pid is None and not older_than:
        message = "unknown takes creator_pid or an older_than above 0 with it"
        hint = "a live process may use an object that can't be judged"
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
    """Remove what is orphaned, and on request what can't be judged, and nothing else.

    Each object is looked at again just before it is removed.

    Args:
        items: as `survey` or `select` gave them.
        ignore_self: this process holds no objects, whatever it looks like.
        unknown: also remove those in the state ``"unknown"``; give only what `select` chose. A
            file that is not `recognized` as an IPC object stays.

    Yields:
        Each object, with None once it was removed, or with why it was not: `InUse` if a process
        holds it by now, used it since, or that can't be seen; `NotFound`, `AccessDenied`.
    """
    ignored = frozenset({os.getpid()} if ignore_self else ())
    remover = Remover(orphans=True, unknown=unknown, ignored=ignored)
    for item in items:
        yield item, remover.attempt(item)
