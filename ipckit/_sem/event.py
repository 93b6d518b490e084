"""An event: processes wait until another process sets it."""

from __future__ import annotations

from typing import Final, final

from ipckit._core.public import public
from ipckit._sem.primitive import PlainPrimitive

_UNSET: Final = 1
_SET: Final = 0  # semop(2) can wait for this value without changing it


@final
@public("ipckit.sem")
class Event(PlainPrimitive):
    """A flag that any number of processes can wait for.

    >>> from ipckit.sem import Event
    >>> with Event.create().lifetime() as ready:
    ...     ready.set()
    ...     ready.wait(timeout=1)  # returns at once
    ...     ready.clear()
    ...     ready.is_set()
    False
    """

    kind = "an event"
    _initial = (_UNSET,)

    def set(self) -> None:
        """Set the event: all processes that wait for it continue.

        Raises:
            Removed: the event was removed.
            ClosedHandle: the handle is closed.
        """
        self.semaphores[0].value = _SET

    def clear(self) -> None:
        """Clear the event: `wait` waits again.

        Raises:
            Removed: the event was removed.
            ClosedHandle: the handle is closed.
        """
        self.semaphores[0].value = _UNSET

    def is_set(self) -> bool:
        """Return whether the event is set now."""
        return self.semaphores[0].value == _SET

    def wait(self, *, timeout: float | None = None) -> None:
        """Wait until the event is set.

        Args:
            timeout: seconds to wait; 0 does not wait, None waits for ever.

        Raises:
            WouldBlock: the event is not set, and `timeout` is 0.
            Timeout: the event was not set until the deadline.
            Removed: the event was removed, during the call or before it.
            InvalidArgument: `timeout` is negative.
            ClosedHandle: the handle is closed.
        """
        self.semaphores[0].wait_zero(timeout=timeout)
