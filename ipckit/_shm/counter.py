"""Counter: a signed 64-bit number in shared memory that is changed atomically."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast, final

import ipckit._native as native
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.lazy_numpy import np
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._shm.array_handle import ArrayHandle
from ipckit._shm.array_header import header_for
from ipckit._shm.memory import Memory
from ipckit._shm.shared_array import SharedArray
from ipckit.errors import InvalidArgument, LayoutMismatch

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._payload.structs import Struct
    from ipckit._shm.array_header import ArrayHeader
    from ipckit._shm.lending import ArrayMemory

_BYTES: Final = 8


@final
@public("ipckit.shm")
class Counter(native.Counter, ArrayHandle):
    """A signed 64-bit number that threads and processes change atomically, without a lock.

    Create one with `create`, as an object of its own, or with `view`, in memory that you have. No
    change is lost or seen half, and a process that is killed blocks nobody. A pickle of a counter
    is a reference. Without a name, nothing is left after the last process has dropped it.

    A sum that does not fit into 64 bits raises OverflowError, and the value stays.

    Example:
        >>> from ipckit import Counter
        >>> done = Counter.create()
        >>> done.add(), done.add(10), done.value
        (1, 11, 11)
        >>> done.compare_exchange(11, 0), done.compare_exchange(11, 5), done.value
        (True, False, 0)

    To apply another function than a sum, try until no other process changed the value in between:

        >>> def raise_to(counter, n):  # the maximum of all processes
        ...     while (old := counter.value) < n and not counter.compare_exchange(old, n):
        ...         pass
        >>> raise_to(done, 7)
        >>> done.value
        7
    """

    _factories = "Counter.create, open, open_or_create, view or from_fd"
    _passed_as = "Counter"
    _word = "counter"
    _create_call = 'Counter.create("{}")'

    # The parameters are those of `__init__`, because `type.__call__` passes the same ones to both.
    def __new__(
        cls,
        source: Buffer | ArrayMemory,
        place: int | ArrayHeader,
        *,
        owner: bool = False,
        unpickled: bool = False,
    ) -> Self:
        """Find the number in the memory."""
        del owner, unpickled
        if isinstance(place, int):
            return super().__new__(cls, cast("Buffer", source), place)
        memory = cast("ArrayMemory", source)
        return super().__new__(cls, memory.buf, place.offset)

    def __init__(
        self,
        source: Buffer | ArrayMemory,
        place: int | ArrayHeader,
        *,
        owner: bool = False,
        unpickled: bool = False,
    ) -> None:
        own = None if isinstance(place, int) else cast("ArrayMemory", source)
        super().__init__(own, owner=owner, unpickled=unpickled)

    # -- create and open ---------------------------------------------------------------------------

    @classmethod
    def create(cls, name: str | None = None, *, value: int = 0, mode: int = 0o600) -> Self:
        """Create a counter.

        Args:
            name: a name by which other processes can open it, such as ``"jobs-done"``; None (the
                default) creates an anonymous counter.
            value: its first value, by default 0.
            mode: permission bits of a named counter, 0 to 0o777, by default 0o600; the umask has no
                effect.

        Raises:
            AlreadyExists: the name is in use.
            OverflowError: `value` does not fit into 64 bits.
            LimitReached: the memory or /dev/shm is exhausted, or RLIMIT_NOFILE is reached.
            InvalidArgument: `name` or `mode` is out of range.
            IpcError: also as for `PosixSharedMemory.create`.

        Example:
            >>> from ipckit import Counter
            >>> with Counter.create("ipckit-example", value=5) as counter:
            ...     with Counter.open("ipckit-example") as other:  # usually in another process
            ...         other.add()
            ...     counter.value
            6
            6

        See memfd_create(2) and shm_open(3).
        """

        def fill(target: Any) -> None:
            target[()] = value

        native.Counter(bytearray(_BYTES), 0).value = value  # raises as the setter does
        return cls._create(_header(), name, mode, fill if value else None)

    @classmethod
    def open(cls, name: str, *, readonly: bool = False, timeout: float | None = 1.0) -> Self:
        """Open a named counter; never creates or owns it.

        Args:
            name: the counter's name.
            readonly: map it for reading only, by default False.
            timeout: seconds to wait until its creator has created it fully, by default 1; None
                waits for ever.

        Raises:
            NotFound: there is no counter of that name.
            Corrupt: the memory of that name has no header.
            LayoutMismatch: it is an array, and not a counter.
            AccessDenied: the counter's mode forbids it.
            Timeout: the memory still has no header; its creator may have died.
            InvalidArgument: `name` is invalid.

        See shm_open(3).
        """
        return cls._open(name, Deadline(timeout), readonly=readonly)

    @classmethod
    def open_or_create(
        cls,
        name: str,
        *,
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Self:
        """Open a named counter, or create it; the handle owns it only if it created it.

        Args:
            name: the counter's name.
            mode: permission bits of a new counter, by default 0o600. An existing counter must not
                give other users more rights.
            timeout: seconds to wait for another process that creates it, by default 1; None waits
                for ever.
            owner_uid: a user whose counter is accepted, besides this user and root.

        Raises:
            AccessDenied: the existing counter belongs to another user, or gives other users more
                rights than `mode`.
            IpcError: also as for `create` and `open`.

        Example:
            >>> from ipckit import Counter
            >>> with Counter.open_or_create("ipckit-example") as counter:
            ...     counter.add()
            1
        """
        return cls._open_or_create(_header(), name, mode=mode, timeout=timeout, owner_uid=owner_uid)

    @classmethod
    def from_fd(cls, fd: int, *, readonly: bool = False) -> Self:
        """Open a counter whose descriptor this process received; never owns the counter.

        The handle takes over the descriptor and closes it.

        Args:
            fd: the descriptor, from the `fileno` of a handle in another process.
            readonly: map it for reading only, by default False.

        Raises:
            Corrupt: it is not the memory of a counter.
            LayoutMismatch: it is an array, and not a counter.
            InvalidArgument: `fd` is closed, is not shared memory, or is a memfd that its sender
                can shrink.
            AccessDenied: the descriptor is read-only and `readonly` is False.

        See mmap(2).
        """
        return cls._from_fd(fd, readonly=readonly)

    @classmethod
    def view(
        cls,
        memory: Memory | SharedArray[Any] | npt.NDArray[Any] | Struct | Buffer,
        offset: int = 0,
    ) -> Self:
        """Use 8 bytes of memory as a counter, such as one item of an array or a field of a struct.

        All processes must change these bytes by counters only, or by the atomic operations of C and
        C++ on an ``int64_t``. The counter keeps the memory mapped.

        Args:
            memory: shared memory, a SharedArray, or a contiguous bytes-like object such as a numpy
                array or a Struct.
            offset: bytes from its start, by default 0. The address must be a multiple of 8.

        Raises:
            InvalidArgument: the 8 bytes are not inside the memory, or not aligned; or the memory is
                not contiguous.
            TypeError: `memory` is not bytes-like.
            ClosedHandle: the handle `memory` is closed.

        Example:
            >>> import numpy as np
            >>> from ipckit import Counter, SharedArray
            >>> done = SharedArray.create(100, np.int64)  # a counter for each of 100 workers
            >>> mine = Counter.view(done.array[7:8])
            >>> mine.add(3)
            3
            >>> done.array.sum()
            np.int64(3)
        """
        source: Any = memory
        if isinstance(memory, Memory):
            source = memory.buf
        elif isinstance(memory, SharedArray):
            source = memory.array
        try:
            return construct(cls, source, offset)
        except (IndexError, ValueError, BufferError) as exc:
            raise InvalidArgument(str(exc), errno=errno.EINVAL, op="view") from None

    @classmethod
    def _over(
        cls,
        memory: ArrayMemory,
        header: ArrayHeader,
        *,
        owner: bool = False,
        unpickled: bool = False,
    ) -> Self:
        if header.shape != () or header.dtype != np.dtype(np.int64):
            message = f"the memory contains the array {header.describe()}, not a counter"
            hint = "Counter.view makes a counter of an item of an array"
            target = cls._describe(getattr(memory, "name", None))
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=target, hint=hint)
        return super()._over(memory, header, owner=owner, unpickled=unpickled)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        self._detach()
        super()._release()

    def _size_text(self) -> str:
        return f"value {self.value}{', read-only' if self.readonly else ''}"

    @property
    def _target(self) -> str:
        return "counter in other memory" if self._memory is None else super()._target

    def _backing(self, op: str) -> ArrayMemory:
        return _no_memory(op) if self._memory is None else self._memory


def _no_memory(op: str) -> NoReturn:
    message = f"{op}: the counter is an address in memory of this process; "
    message += "pass the handle of the memory, and use Counter.view there"
    raise TypeError(message)


def _header() -> ArrayHeader:
    return header_for(np.dtype(np.int64), (), "C")
