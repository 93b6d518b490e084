"""SharedStruct: a struct in shared memory that is loaded and stored as a whole."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, final

import ipckit._native as native
from ipckit._core import processes
from ipckit._core.own_token import keep_own_token
from ipckit._core.public import public
from ipckit._payload.structs import Struct
from ipckit.errors import InvalidArgument, LayoutMismatch, WouldBlock

if TYPE_CHECKING:
    from typing_extensions import Buffer

S = TypeVar("S", bound=Struct)

_DIGITS: Final = 16  # of a fingerprint, in the header of a shared struct

keep_own_token()


def checked_struct(struct: type[S]) -> type[S]:
    """Return the argument if it is a Struct class.

    Raises:
        TypeError: it is not.
    """
    kind: object = struct  # a caller without a type checker can pass anything
    if isinstance(kind, type) and issubclass(kind, Struct):
        return struct
    message = f"struct must be a Struct class, not {struct!r}"
    raise TypeError(message)


def _of_fixed_size(struct: type[S]) -> type[S]:
    """Return the argument if it is a Struct class whose records have one size.

    Raises:
        TypeError: it is not.
    """
    if checked_struct(struct).flexible:
        message = f"{struct.__name__} has a flexible array member, so it has no fixed size to share"
        raise TypeError(message)
    return struct


@final
@public("ipckit.shm")
class SharedStruct(native.SharedStruct, Generic[S]):
    """A struct in shared memory that every process loads and stores as a whole.

    ``memory.shared(Stu)`` creates one. `load` returns a copy of what one `store` wrote, never a
    mixture of two. It never waits for a writer, not even for one that died in `store`. `store`
    replaces the struct. If the writer is killed before it has finished, readers still see the
    previous struct. In memory that no process has stored to, the struct is all zeros.

    Writers take turns of some nanoseconds. If a writer was stopped in its turn, `store` raises
    `WouldBlock` instead of waiting. If it died, `store` takes its turn over. To compute a value
    from the previous one, hold a lock around `load` and `store`.

    It needs `SharedStruct.bytes_for(Stu)` bytes at a multiple of 8.

    Args:
        memory: writable memory, or read-only memory to load from.
        struct: the Struct class.
        offset: bytes from the start of the memory; by default 0.

    Raises:
        LayoutMismatch: the memory contains a struct of another layout.
        TypeError: `struct` is not a Struct class, or it has a flexible array member.
        InvalidArgument: the struct does not fit, or `offset` is not a multiple of 8.

    Example:
        >>> from ipckit import Int, MappedFile, SharedStruct, Struct
        >>> class Point(Struct):
        ...     x: Int
        ...     y: Int
        >>> with MappedFile.anonymous(SharedStruct.bytes_for(Point)) as memory:
        ...     shared = memory.shared(Point)
        ...     shared.store(Point(1, 2))
        ...     shared.load()
        Point(x=1, y=2)
    """

    def __new__(cls, memory: Buffer, struct: type[S], offset: int = 0) -> Self:
        """Attach to the struct at an offset in memory, or initialize it there."""
        _of_fixed_size(struct)
        fingerprint = int(struct.fingerprint[:_DIGITS], 16) or 1
        try:
            self = super().__new__(cls, memory, offset, struct, fingerprint)
        except native.CallFailed:  # EBADMSG
            found, size = native.shared_struct_header(memory, offset)
            message = (
                f"the memory contains a struct of {size} bytes with fingerprint {found:016x}, not "
                f"{struct.__name__} of {struct.size} bytes with fingerprint {fingerprint:016x}"
            )
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="shared") from None
        except (IndexError, OverflowError, ValueError) as exc:
            raise InvalidArgument(str(exc), errno=errno.EINVAL, op="shared") from None
        self._struct = struct
        return self

    _struct: type[S]

    @staticmethod
    def bytes_for(struct: type[Struct]) -> int:
        """Return the size in bytes of a shared struct: a header, and two slots for the struct."""
        return native.shared_struct_size(_of_fixed_size(struct).size)

    if TYPE_CHECKING:

        def load(self) -> S:
            """Return a copy of the struct, as one `store` wrote it.

            Raises:
                Corrupt: a process that is not a writer keeps changing the counter of stores.
            """
            ...

        def store(self, value: S, /) -> None:
            """Replace the struct.

            Args:
                value: an instance of the Struct class.

            Raises:
                TypeError: the value is not of the Struct class, or the memory is read-only.
                WouldBlock: another process was stopped while it stored.
            """
            ...

    def _contended(self, holder: int) -> None:
        """Free the turn of a writer that died; `store` calls this if the turn is not free.

        Args:
            holder: the token of the process that has the turn.

        Raises:
            WouldBlock: that process is alive.
        """
        if processes.is_dead(holder):
            self.take_over(holder)
            return
        message = f"process {processes.pid_of(holder)} is storing, and has not finished"
        raise WouldBlock(message, errno=errno.EAGAIN, op="store", target=self._struct.__name__)

    def __repr__(self) -> str:
        return f"<SharedStruct {self._struct.__name__}, {self.count} stores>"

    def __reduce__(self) -> tuple[Any, ...]:
        message = "a shared struct is an address in this process: pickle the memory's handle"
        raise TypeError(message)
