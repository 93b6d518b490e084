"""What all shared memory has: a mapping, and ways to look at it."""

from __future__ import annotations

import errno
import math
import mmap
import os
from abc import abstractmethod
from operator import index
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from ipckit._core.arguments import int_argument
from ipckit._core.descriptors import identity
from ipckit._core.handle import Capabilities, Handle, closed_handle
from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit._payload.dtypes import check_array, check_dtype
from ipckit._payload.structs import Struct
from ipckit._shm.mapping import GUARD, reach
from ipckit._shm.shared_struct import SharedStruct, checked_struct
from ipckit.errors import InvalidArgument, IpcError, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from typing_extensions import Buffer

    import ipckit._native as native

    Shape = int | tuple[int, ...]

S = TypeVar("S", bound=Struct)
ScalarT = TypeVar("ScalarT", bound="np.generic")

MEMORY_CAPS: Final = Capabilities(
    pollable=False, timed=False, priorities=False, typed_receive=False, unlink_destroys_now=False
)


@public("ipckit.shm")
class Memory(Handle):
    """Memory that processes share, as bytes, numpy arrays and structs.

    The memory stays mapped while anything looks at it: arrays, memoryviews and
    structs stay good after `close`, after the object is unlinked and in a forked
    child. `close` ends only the making of new ones.
    """

    caps = MEMORY_CAPS

    def __init__(self, mapping: native.Mapping, *, owner: bool) -> None:
        self._mapping = mapping
        super().__init__(owner=owner)

    @property
    def closed(self) -> bool:
        """Whether this handle was closed, or its memory was replaced by another's."""
        return self._closed or self._mapping.closed

    def _check_open(self, op: str) -> None:
        if self.closed:
            raise closed_handle(op, self._target)

    @property
    def size(self) -> int:
        """Bytes of the memory, as it was asked for."""
        return self._mapping.size

    @property
    def readonly(self) -> bool:
        """Whether the memory can't be written through this handle."""
        return not self._mapping.protection & mmap.PROT_WRITE

    @property
    def address(self) -> int:
        """Where the memory starts in this process; another process has it elsewhere.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("address")
        return self._mapping.address

    @property
    def buf(self) -> memoryview:
        """A new memoryview of all the bytes.

        Raises:
            ClosedHandle: the handle is closed.
            IpcError: with errno EACCES, the memory is protected against reading.
        """
        self._check_open("buf")
        self._check_readable("buf")
        # Of a View, because numpy.ndarray drops the memoryview and keeps what is behind it: the
        # mapping itself would not count that.
        return memoryview(cast("Buffer", self._mapping.view(0, self.size)))

    @overload
    def array(
        self, dtype: type[Struct], shape: Shape | None = ..., *, offset: int = ...
    ) -> npt.NDArray[np.void]: ...
    @overload
    def array(
        self,
        dtype: np.dtype[ScalarT] | type[ScalarT],
        shape: Shape | None = ...,
        *,
        offset: int = ...,
    ) -> npt.NDArray[ScalarT]: ...
    @overload
    def array(
        self, dtype: npt.DTypeLike, shape: Shape | None = ..., *, offset: int = ...
    ) -> npt.NDArray[Any]: ...
    def array(self, dtype: Any, shape: Shape | None = None, *, offset: int = 0) -> npt.NDArray[Any]:
        """A numpy array over the memory itself, read-only where the memory is.

        Args:
            dtype: a numpy dtype, or a Struct class for a structured array.
            shape: a number of elements or a tuple; by default all that fit, in one dimension.
            offset: bytes from the start of the memory, a multiple of the dtype's alignment.

        Raises:
            InvalidArgument: it does not fit, or is not aligned.
            TypeError: the dtype holds Python objects, or has no size.
            ClosedHandle: the handle is closed.
        """
        self._check_open("array")
        self._check_readable("array")
        element = _dtype_of(dtype)
        check_dtype(element)
        dimensions = self._shape(element, shape, offset)
        if (self._mapping.address + offset) % element.alignment:
            message = f"offset {offset} is no multiple of {element}'s alignment, "
            message += f"{element.alignment}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="array", target=self._target)
        count = math.prod(dimensions) * element.itemsize
        self._check_range("array", offset, count)
        view: Any = self._mapping.view(offset, count)  # numpy's stubs name the exporters they know
        try:
            return np.ndarray(dimensions, element, buffer=view)
        except ValueError as exc:  # a dimension beyond what numpy counts, beside one of 0
            raise InvalidArgument(
                str(exc), errno=errno.EINVAL, op="array", target=self._target
            ) from None

    def _shape(self, element: np.dtype[Any], shape: Shape | None, offset: int) -> tuple[int, ...]:
        if shape is None:
            return (max(0, self.size - offset) // element.itemsize,)
        dimensions = tuple(map(index, shape if isinstance(shape, tuple) else (shape,)))
        if any(each < 0 for each in dimensions):
            message = f"shape is {shape}; it takes 0 or more in each dimension"
            raise InvalidArgument(message, errno=errno.EINVAL, op="array", target=self._target)
        return dimensions

    def view(self, struct: type[S], *, offset: int = 0) -> S:
        """A live struct: reading and writing its fields reads and writes the memory.

        Two writes to it can be seen half done by another process; `shared` gives
        structs that are replaced whole.

        Args:
            struct: the Struct class.
            offset: bytes from the start of the memory.

        Raises:
            InvalidArgument: it does not fit.
            ClosedHandle: the handle is closed.
        """
        self._check_open("view")
        self._check_readable("view")
        self._check_range("view", offset, checked_struct(struct).size)
        return struct.from_buffer(self._memory, offset)

    def shared(self, struct: type[S], *, offset: int = 0) -> SharedStruct[S]:
        """A struct that all processes load and store whole; see `SharedStruct`.

        Args:
            struct: the Struct class.
            offset: bytes from the start of the memory, a multiple of 8.

        Raises:
            LayoutMismatch: another layout was stored there.
            InvalidArgument: its `SharedStruct.bytes_for(struct)` bytes do not fit.
            ClosedHandle: the handle is closed.
        """
        self._check_open("shared")
        self._check_readable("shared")
        self._check_range("shared", offset, SharedStruct.bytes_for(struct))
        return SharedStruct(self._memory, struct, offset)

    def read(self, n: int | None = None, offset: int = 0) -> bytes:
        """A copy of some bytes.

        Args:
            n: how many; by default all from `offset` on.
            offset: bytes from the start of the memory.

        Raises:
            InvalidArgument: they are not all inside.
            ClosedHandle: the handle is closed.
        """
        self._check_open("read")
        self._check_readable("read")
        size = max(0, self.size - offset) if n is None else n
        self._check_range("read", offset, size)
        return self._mapping.read(offset, size)

    def write(self, data: Buffer, offset: int = 0) -> int:
        """Copy bytes into the memory.

        Args:
            data: any contiguous bytes-like object, a Struct or a numpy array too.
            offset: bytes from the start of the memory.

        Returns:
            The number of bytes written.

        Raises:
            TypeError: `data` is not bytes-like, or it is a masked array.
            AccessDenied: the memory is read-only.
            InvalidArgument: they do not fit.
            ClosedHandle: the handle is closed.
        """
        self._check_open("write")
        check_array(data)
        size = memoryview(data).nbytes
        self._check_range("write", offset, size)
        if self.readonly:
            raise from_errno(
                errno.EACCES, op="write", target=self._target, message="the memory is read-only"
            )
        self._mapping.write(offset, data)
        return size

    @property
    def _memory(self) -> Buffer:
        # Type checkers know the buffer protocol from Python 3.12 on.
        return cast("Buffer", self._mapping)

    # -- for the kinds of memory -------------------------------------------------------------------

    def _check_range(self, op: str, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset > self.size or size > self.size - offset:
            message = f"{size:,} bytes from {offset:,} on are not inside the {self.size:,} bytes"
            raise InvalidArgument(message, errno=errno.EINVAL, op=op, target=self._target)

    def _check_readable(self, op: str) -> None:
        if not self._mapping.protection & mmap.PROT_READ:
            message = "the memory is protected against reading"
            raise from_errno(errno.EACCES, op=op, target=self._target, message=message)

    def _cut(
        self, fd: int, end: int, remap: Callable[[], None], restore: Callable[[], None]
    ) -> None:
        """Cut a file, unless something of this process reaches beyond.

        Args:
            fd: the file.
            end: its new size.
            remap: maps what will be left in place of this handle's memory.
            restore: maps all of it again.
        """
        with GUARD:
            # Before the look: afterwards no thread can begin to look at what goes.
            remap()
            done = False
            try:
                if reach(identity(fd)) <= end:
                    os.ftruncate(fd, end)
                    done = True
            except OSError as exc:
                code = exc.errno or errno.EIO
                raise from_errno(code, op="resize", target=self._target) from None
            finally:
                if not done:
                    restore()
        if not done:
            message = "arrays, views or other handles of this process reach beyond"
            hint = "delete and close them first"
            raise IpcError(message, errno=errno.EBUSY, op="resize", target=self._target, hint=hint)

    def _in_use(self, op: str, what: str) -> IpcError:
        message = f"arrays or views look at {what}"
        hint = "delete them first"
        return IpcError(message, errno=errno.EBUSY, op=op, target=self._target, hint=hint)

    def _release(self) -> None:
        self._mapping.close()

    def _size_text(self) -> str:
        return f"{self.size} bytes{', read-only' if self.readonly else ''}"

    @property
    @abstractmethod
    def _target(self) -> str: ...


def _dtype_of(dtype: Any) -> np.dtype[Any]:
    if isinstance(dtype, type) and issubclass(dtype, Struct):
        return dtype.dtype
    element: np.dtype[Any] = np.dtype(cast("Any", dtype))
    return element


def checked_size(size: int | None) -> int:
    """The size of memory to be made, in bytes.

    Raises:
        TypeError: not given, or not an integer.
        InvalidArgument: below 1, or above what an address can hold.
    """
    size = int_argument("size", size, "an int, the bytes wanted")
    if not 1 <= size < 2**63 - 2**20:
        message = f"size is {size}; it takes 1 byte or more"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return size
