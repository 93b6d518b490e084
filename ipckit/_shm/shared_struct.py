"""SharedStruct: a struct in shared memory that is read and replaced whole."""

from __future__ import annotations

import errno
import struct as struct_module
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar

import ipckit._native as native
from ipckit._core import processes
from ipckit._core.forks import at_fork
from ipckit._core.public import public
from ipckit._payload.structs import Struct
from ipckit.errors import InvalidArgument, LayoutMismatch, WouldBlock

if TYPE_CHECKING:
    from typing_extensions import Buffer

S = TypeVar("S", bound=Struct)

_DIGITS: Final = 16
_HEADER: Final = struct_module.Struct("=QQ")  # seqlock_header's fingerprint and size


def checked_struct(struct: type[S]) -> type[S]:
    """A Struct class, or the TypeError for anything else."""
    kind: object = struct  # callers without a type checker give anything
    if isinstance(kind, type) and issubclass(kind, Struct):
        return struct
    message = f"a Struct class is wanted, not {struct!r}"
    raise TypeError(message)


def _name_this_process() -> None:
    native.set_writer_token(processes.token())


_name_this_process()
at_fork("tokens", after_in_child=_name_this_process)


@public("ipckit.shm")
class SharedStruct(native.SharedStruct, Generic[S]):
    """A struct in shared memory, of which every process sees one store whole, never a mixture.

    ``memory.shared(Stu)`` makes one. `load` gives a copy of what the last `store`
    put there: it never sees a torn struct, and never waits for a writer, not even
    for one that died half-way. `store` replaces the struct; what a writer that is
    killed had begun is not seen by anybody. Memory that nobody has stored to is a
    struct of zeros.

    Writers take turns of some nanoseconds. Where one was stopped in its turn,
    `store` raises `WouldBlock` instead of waiting; where it died, its place is
    taken. To change a value that depends on the old one, hold a lock around
    `load` and `store`.

    It takes `SharedStruct.bytes_for(Stu)` bytes, at a multiple of 8.

    Args:
        memory: writable memory, or read-only memory to load from.
        struct: the Struct class.
        offset: bytes from the start of the memory.

    Raises:
        LayoutMismatch: another layout was stored there.
        InvalidArgument: it does not fit, or `offset` is no multiple of 8.
    """

    def __new__(cls, memory: Buffer, struct: type[S], offset: int = 0) -> Self:
        """Find or begin the struct at a place in memory."""
        checked_struct(struct)
        fingerprint = int(struct.fingerprint[:_DIGITS], 16) or 1
        try:
            self = super().__new__(cls, memory, offset, struct, fingerprint)
        except OSError:
            found, size = _HEADER.unpack_from(memory, offset)
            message = (
                f"the memory holds a struct of {size} bytes with fingerprint {found:016x}, not "
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
        """The bytes that a shared struct takes: a header of 32, and room for two."""
        return native.shared_struct_size(checked_struct(struct).size)

    if TYPE_CHECKING:

        def load(self) -> S:
            """The struct as one store left it; a copy of one's own.

            Raises:
                Corrupt: somebody turns the counter who is no writer.
            """
            ...

        def store(self, value: S, /) -> None:
            """Replace the struct.

            Raises:
                TypeError: the value is not of the struct's class, or the memory is read-only.
                WouldBlock: another process is storing and does not get done.
            """
            ...

    def _contended(self, holder: int) -> None:
        """Called by `store` where another writer stays: free its place if it died."""
        if processes.is_dead(holder):
            self.take_over(holder)
            return
        message = f"process {processes.pid_of(holder)} is storing, and does not get done"
        raise WouldBlock(message, errno=errno.EAGAIN, op="store", target=self._struct.__name__)

    def __repr__(self) -> str:
        return f"<SharedStruct {self._struct.__name__}, {self.count} stores>"

    def __reduce__(self) -> tuple[Any, ...]:
        message = "a shared struct is a place in this process's memory: pickle the memory's handle"
        raise TypeError(message)
