"""What the awaitable faces of all handles have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import ref

from ipckit._aio.line import Waiters
from ipckit._core.public import public

if TYPE_CHECKING:
    from types import TracebackType

H = TypeVar("H")


def waiters_of(handle: Any) -> Waiters:
    """Who waits for a handle: the same for each face of it."""
    waiters: Waiters | None = handle._awaiting
    if waiters is None:
        found = ref(handle)  # no circle: a handle that is dropped is to say so at once
        waiters = handle._awaiting = Waiters(lambda: str(getattr(found(), "_target", "")))
    return waiters


@public("ipckit.aio")
class Face(Generic[H]):
    """A handle, with the calls that can wait as coroutines.

    Whatever else the handle can do is in `handle`. ``async with`` does what the handle's own
    ``with`` does.
    """

    __slots__ = ("_handle", "_waiters")

    def __init__(self, handle: H, waiters: Waiters) -> None:
        self._handle = handle
        self._waiters = waiters

    @property
    def handle(self) -> H:
        """The handle itself."""
        return self._handle

    @property
    def closed(self) -> bool:
        """Whether the handle was closed."""
        handle: Any = self._handle
        return bool(handle.closed)

    def close(self) -> None:
        """Close the handle; idempotent, never raises. Calls that wait for it raise ClosedHandle."""
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
