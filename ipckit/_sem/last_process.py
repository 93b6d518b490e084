"""Semaphore sets that end with the last process that has them: the locks without a key.

The kernel never removes a set by itself. So a process that created sets without a key removes them
when it exits. Its forked children can use them too, and may run longer. A pipe tells which process
is the last: the children inherit its write end, so a read returns the end of the file only after
all others have exited or were killed.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.descriptors import Descriptor, identity
from ipckit._sem.stat import SETS

if TYPE_CHECKING:
    from ipckit.keys import Key


class _Group:
    """The sets that one process created, and the pipe that its children inherit.

    Raises:
        OSError: no descriptor is free.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.sets: dict[int, Key | None] = {}
        self._ends = [Descriptor(fd) for fd in os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)]
        self._pipe = identity(self._ends[0].number)

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def end(self) -> None:
        """Remove the sets, unless another process has them."""
        reader, writer = self._ends
        with suppress(OSError):
            # A daemon may have closed all descriptors, and have other files there now.
            if not self._pipe == identity(reader.number) == identity(writer.number):
                reader.owned = writer.owned = False
                return
            writer.close()
            if os.read(reader.number, 1) != b"":
                return
            for ident, key in self.sets.items():
                found = SETS.find(ident)
                if found is not None and found.key == key:
                    with suppress(OSError):
                        native.sem_get(ident, 0, native.IPC_RMID)


_groups: Final[list[_Group]] = []


def keep(ident: int, key: Key | None) -> None:
    """Let a set end with the last process that has it: this one, or a forked child.

    Without a free descriptor the set stays until it is unlinked.
    """
    if not _groups or _groups[-1].pid != os.getpid():
        try:
            group = _Group()
        except OSError:
            return
        if not _groups:
            atexit.register(_exit)
        _groups.append(group)
    _groups[-1].sets[ident] = key


def forget(ident: int) -> None:
    """Leave a set alone: it was unlinked, or it shall stay."""
    for group in _groups[:]:
        if group.sets.pop(ident, group) is not group and not group.sets:
            group.close()
            _groups.remove(group)


def _exit() -> None:
    # multiprocessing waits for its children when this process exits, and the children do not run
    # the functions of atexit. So this process removes the sets after that.
    util = sys.modules.get("multiprocessing.util")
    if util is not None and not util.is_exiting():
        util.Finalize(None, _end, exitpriority=-1000)
    else:
        _end()


def _end() -> None:
    while _groups:
        _groups.pop().end()
