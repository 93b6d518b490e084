"""Bell: an eventfd that wakes a worker which was idle for a second.

A process that waits in a channel wakes 25 times a second to check its peers. So a worker that was
idle for a second waits for its bell instead, and uses no processor time. When the pool has sent a
job, it rings the bell of a worker that is marked on the board as sleeping.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Any, Final

from ipckit._core.descriptors import Descriptor, descriptor_error, duplicate_for_child

# A worker marks itself as sleeping, and then checks the channel. The pool sends a job, and then
# checks the board. A processor other than x86 may reorder these steps, so that the pool does not
# ring. This timeout limits the delay.
_LOOK_MS: Final = 10_000


class Bell:
    """An eventfd for which one worker waits; see eventfd(2).

    Args:
        fd: the descriptor, which this object then owns; by default a new one.
    """

    def __init__(self, fd: int | None = None) -> None:
        try:
            flags = os.EFD_NONBLOCK | os.EFD_CLOEXEC
            self._fd = Descriptor(os.eventfd(0, flags) if fd is None else fd)
        except OSError as exc:
            raise descriptor_error(exc.errno or 0, op="eventfd", target="ProcessPool") from None

    def ring(self) -> None:
        """Wake the worker."""
        with suppress(OSError):
            os.eventfd_write(self._fd.number, 1)

    def wait(self) -> bool:
        """Sleep until the bell rings. Return False if a task has closed the descriptor."""
        waiting = select.poll()
        waiting.register(self._fd.number, select.POLLIN)
        found = waiting.poll(_LOOK_MS)
        if found and not found[0][1] & select.POLLIN:
            return False
        with suppress(OSError):
            os.eventfd_read(self._fd.number)
        return True

    def close(self) -> None:
        """Close the descriptor; idempotent."""
        self._fd.close()

    def __getstate__(self) -> Any:
        return duplicate_for_child(self._fd.number)

    def __setstate__(self, fd: Any) -> None:
        self.__init__(fd.detach())  # type: ignore[misc]
