"""Face: the base of the awaitable faces of all handles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import ref

from ipckit._aio.wait_queue import Waiters
from ipckit._core.public import public

if TYPE_CHECKING:
    from types import TracebackType

H = TypeVar("H")


def waiters_of(handle: Any) -> Waiters:
    """Return the waiters of a handle, which all of its faces share."""
    waiters: Waiters | None = handle._awaiting
    if waiters is not None:
        return waiters
    # A weak reference, because a cycle would delay the warning of a dropped handle.
    found = ref(handle)
    made = Waiters(lambda: str(getattr(found(), "_target", "")))
    # In one step, because `close` wakes only these, and another thread may have made some.
    shared: Waiters = handle.__dict__.setdefault("_awaiting", made)
    return shared


@public("ipckit.aio")
class Face(Generic[H]):
    """A handle whose calls that can wait are coroutines.

    The other methods are those of `handle`. ``async with`` does what the handle's own ``with``
    does.

    Example:
        >>> import asyncio
        >>> from ipckit import PosixSemaphore, aio
        >>> async def main():
        ...     with PosixSemaphore.create(value=1).lifetime() as gate:
        ...         face = aio.wrap(gate)
        ...         await face.acquire(timeout=1)
        ...         return face.handle.value
        >>> asyncio.run(main())
        0
    """

    __slots__ = ("_handle", "_waiters")
    _send_instead = "send its attribute handle"  # for an error of `send_handle`

    def __init__(self, handle: H, waiters: Waiters) -> None:
        self._handle = handle
        self._waiters = waiters

    @property
    def handle(self) -> H:
        """The wrapped handle."""
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether the handle was closed."""
        handle: Any = self._handle
        return bool(handle.closed)

    def close(self) -> None:
        """Close the handle; idempotent; never raises. Waiting calls raise ClosedHandle."""
        handle: Any = self._handle
        handle.close()

    async def __aenter__(self) -> Self:
        handle: Any = self._handle
        handle.__enter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        handle: Any = self._handle
        handle.__exit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"aio.wrap({self._handle!r})"
