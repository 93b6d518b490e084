"""`current`: tell a running method about the call that it serves."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

from ipckit._core.public import public

if TYPE_CHECKING:
    from ipckit._rpc.caller import Caller


@final
@public("ipckit.rpc")
class CurrentCall:
    """The call that a method serves; `current` returns it.

    Example:
        >>> import threading
        >>> from ipckit.rpc import Client, Service, current
        >>> with Service.create("doc-current") as service:
        ...     @service.method
        ...     def gave_up() -> bool:
        ...         return current().cancelled
        ...     thread = threading.Thread(target=service.serve)  # usually another process
        ...     thread.start()
        ...     with Client.open("doc-current") as client:
        ...         client.gave_up(timeout=10)
        ...     service.close()
        ...     thread.join()
        False
    """

    __slots__ = ("_caller", "_id", "_method", "_slot")

    def __init__(self, method: str, caller: Caller, slot: int, number: int) -> None:
        self._method, self._caller, self._slot, self._id = method, caller, slot, number

    @property
    def method(self) -> str:
        """The name of the method."""
        return self._method

    @property
    def cancelled(self) -> bool:
        """Whether the client no longer waits for the result.

        True if the timeout of the call has passed, its Future was cancelled, the iteration of its
        stream has ended, or the client has closed or died. A long method can check this from time
        to time and return early. Its result is dropped.
        """
        return self._caller.has_left(self._slot, self._id)

    def __repr__(self) -> str:
        return f"<CurrentCall of {self._method}>"


# The method's name, the client, and the slot and the number of the call.
CURRENT: Final[ContextVar[tuple[str, Caller, int, int] | None]] = ContextVar(
    "ipckit.rpc.current", default=None
)


@public("ipckit.rpc")
def current() -> CurrentCall:
    """Return the call that the running method serves.

    Raises:
        RuntimeError: no method of a service runs in this context.

    >>> from ipckit.rpc import current
    >>> def count(limit: int) -> int:
    ...     done = 0
    ...     while done < limit and not current().cancelled:
    ...         done += 1
    ...     return done
    """
    found = CURRENT.get()
    if found is None:
        message = "no method of a service is running here"
        raise RuntimeError(message)
    return CurrentCall(*found)
