"""Memory: the base class of all shared memory, with its views as bytes, arrays and structs."""

from __future__ import annotations

import errno
import math
import mmap
import os
from abc import abstractmethod
from operator import index
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

from ipckit._core.descriptors import identity
from ipckit._core.handle import Capabilities, Handle, closed_handle
from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit._payload.dtypes import byte_view, check_array, check_dtype
from ipckit._payload.meaning import ctypes_dtype, is_ctypes
from ipckit._payload.structs import Struct
from ipckit._shm.mapping import MAPPING_LOCK, size_needed
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
SHRINK_HINT: Final = (
    "shrink=True shrinks it; a process that then accesses the removed bytes is killed by SIGBUS"
)


@public("ipckit.shm")
class Memory(Handle):
    r"""Memory that processes share, as bytes, numpy arrays and structs.

    Arrays, memoryviews and structs keep the memory mapped. They stay valid after `close`, after the
    object is unlinked and in a forked child. After `close` the handle creates no new ones.

    Example:
        >>> from ipckit import MappedFile
        >>> with MappedFile.anonymous(64) as memory:
        ...     numbers = memory.array("int32", 4)
        ...     numbers[:] = [1, 2, 3, 4]
        ...     memory.read(8)
        b'\x01\x00\x00\x00\x02\x00\x00\x00'
        >>> numbers.tolist()  # the memory stays mapped
        [1, 2, 3, 4]

    See mmap(2).
    """

    caps = MEMORY_CAPS

    def __init__(self, mapping: native.Mapping, *, owner: bool) -> None:
        self._mapping = mapping
        super().__init__(owner=owner)

    @property
    def closed(self) -> bool:
        """Whether this handle was closed, or a System V segment was attached over its memory."""
        return self._closed or self._mapping.closed

    def _check_open(self, op: str) -> None:
        if self.closed:
            raise closed_handle(op, self._target)

    @property
    def size(self) -> int:
        """The size of the memory in bytes, as requested; the kernel maps whole pages."""
        return self._mapping.size

    @property
    def readonly(self) -> bool:
        """Whether this handle cannot write the memory."""
        return not self._mapping.protection & mmap.PROT_WRITE

    @property
    def address(self) -> int:
        """The address of the memory in this process; it differs in other processes.

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
        # Over a View, because numpy.ndarray(buffer=…) drops the memoryview and keeps a reference
        # to its exporter only. A View is an export of the mapping while a reference to it exists. A
        # reference to the mapping itself is not, and the memory would be unmapped under the array.
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
        """Create a numpy array over the memory itself, without a copy.

        The array is read-only if the memory is.

        Args:
            dtype: a numpy dtype, or a Struct or ctypes class for a structured array.
            shape: a number of elements, or a tuple; by default one dimension of as many as fit.
            offset: bytes from the start of the memory, a multiple of the dtype's alignment; by
                default 0.

        Raises:
            InvalidArgument: the array does not fit, or is not aligned.
            TypeError: the dtype contains Python objects, or has no size; or the ctypes class
                contains an address or a bit-field.
            AccessDenied: the memory is protected against reading.
            ClosedHandle: the handle is closed.

        Example:
            >>> from ipckit import MappedFile
            >>> with MappedFile.anonymous(4096) as memory:
            ...     memory.array(float, (8, 64)).shape
            (8, 64)
        """
        self._check_open("array")
        self._check_readable("array")
        element = dtype_of(dtype)
        check_dtype(element)
        dimensions = self._shape(element, shape, offset)
        if (self._mapping.address + offset) % element.alignment:
            message = f"offset {offset} is not a multiple of {element.alignment}, the alignment of "
            raise self._invalid("array", f"{message}{element}")
        count = math.prod(dimensions) * element.itemsize
        self._check_range("array", offset, count)
        view: Any = self._mapping.view(offset, count)  # numpy's stubs name the exporters they know
        try:
            return np.ndarray(dimensions, element, buffer=view)
        except ValueError as exc:  # one dimension is 0, and another is larger than numpy supports
            raise self._invalid("array", str(exc)) from None

    def _shape(self, element: np.dtype[Any], shape: Shape | None, offset: int) -> tuple[int, ...]:
        if shape is None:
            return (max(0, self.size - offset) // element.itemsize,)
        dimensions = tuple(map(index, shape if isinstance(shape, tuple) else (shape,)))
        if any(each < 0 for each in dimensions):
            message = f"shape must have 0 or more in each dimension, not {shape}"
            raise self._invalid("array", message)
        return dimensions

    def view(self, struct: type[S], *, offset: int = 0) -> S:
        """Create a struct over the memory itself: its fields read and write the memory.

        Each field is read and written separately, so another process can see the new value of one
        field with the old value of another. To replace a struct as a whole, use `shared`.

        Args:
            struct: the Struct class.
            offset: bytes from the start of the memory; by default 0.

        Raises:
            TypeError: `struct` is not a Struct class.
            InvalidArgument: the struct does not fit.
            AccessDenied: the memory is protected against reading.
            ClosedHandle: the handle is closed.

        Example:
            >>> from ipckit import Int, MappedFile, Struct
            >>> class Point(Struct):
            ...     x: Int
            ...     y: Int
            >>> with MappedFile.anonymous(64) as memory:
            ...     point = memory.view(Point)
            ...     point.x = 3
            ...     memory.view(Point)
            Point(x=3, y=0)
        """
        self._check_open("view")
        self._check_readable("view")
        self._check_range("view", offset, checked_struct(struct).size)
        return struct.from_buffer(self._memory, offset)

    def shared(self, struct: type[S], *, offset: int = 0) -> SharedStruct[S]:
        """Create a struct that all processes load and store as a whole; see `SharedStruct`.

        Args:
            struct: the Struct class.
            offset: bytes from the start of the memory, a multiple of 8; by default 0.

        Raises:
            TypeError: `struct` is not a Struct class.
            LayoutMismatch: the memory at `offset` contains a struct of another layout.
            InvalidArgument: its `SharedStruct.bytes_for(struct)` bytes do not fit, or `offset` is
                not a multiple of 8.
            AccessDenied: the memory is protected against reading.
            ClosedHandle: the handle is closed.
        """
        self._check_open("shared")
        self._check_readable("shared")
        self._check_range("shared", offset, SharedStruct.bytes_for(struct))
        return SharedStruct(self._memory, struct, offset)

    def read(self, n: int | None = None, offset: int = 0) -> bytes:
        """Copy bytes out of the memory.

        Args:
            n: the number of bytes; by default all from `offset` on.
            offset: bytes from the start of the memory; by default 0.

        Returns:
            The copy.

        Raises:
            InvalidArgument: the range is not inside the memory.
            AccessDenied: the memory is protected against reading.
            ClosedHandle: the handle is closed.
        """
        self._check_open("read")
        self._check_readable("read")
        size = max(0, self.size - offset) if n is None else n
        self._check_range("read", offset, size)
        return self._mapping.read(offset, size)

    def write(self, data: Buffer, offset: int = 0) -> int:
        r"""Copy bytes into the memory.

        Args:
            data: a contiguous bytes-like object, including a Struct or a numpy array.
            offset: bytes from the start of the memory; by default 0.

        Returns:
            The number of bytes written.

        Raises:
            TypeError: `data` is not bytes-like, or it is an array of Python objects or of a
                subclass, such as a masked array.
            AccessDenied: the memory is read-only.
            InvalidArgument: the bytes do not fit.
            ClosedHandle: the handle is closed.

        Example:
            >>> from ipckit import MappedFile
            >>> with MappedFile.anonymous(16) as memory:
            ...     memory.write(b"ab", offset=4), memory.read(4, offset=3)
            (2, b'\x00ab\x00')
        """
        self._check_open("write")
        check_array(data)
        try:
            size = memoryview(data).nbytes
        except ValueError:  # an array of datetime64 or bfloat16
            size = byte_view(data).nbytes
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

    # -- for the subclasses ------------------------------------------------------------------------

    def _check_range(self, op: str, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset > self.size or size > self.size - offset:
            message = f"{size:,} bytes from {offset:,} on are not inside the {self.size:,} bytes"
            raise self._invalid(op, message)

    def _check_readable(self, op: str) -> None:
        if not self._mapping.protection & mmap.PROT_READ:
            message = "the memory is protected against reading"
            raise from_errno(errno.EACCES, op=op, target=self._target, message=message)

    def _invalid(self, op: str, message: str, hint: str = "") -> InvalidArgument:
        """Return the error for an argument of a method of this handle."""
        return InvalidArgument(message, errno=errno.EINVAL, op=op, target=self._target, hint=hint)

    def _in_use(self, op: str, message: str, hint: str = "delete them first") -> IpcError:
        """Return the EBUSY error for a change that arrays and views of this process prevent."""
        return IpcError(message, errno=errno.EBUSY, op=op, target=self._target, hint=hint)

    def _replace(self, mapping: native.Mapping) -> None:
        """Use another mapping from now on; views keep the present one mapped."""
        old, self._mapping = self._mapping, mapping
        old.close()

    def _shrink(
        self, fd: int, end: int, remap: Callable[[], None], restore: Callable[[], None]
    ) -> None:
        """Shrink a file, unless this process has mapped more of it than would remain.

        Args:
            fd: the file.
            end: its new size.
            remap: replaces this handle's mapping by one of the bytes that remain.
            restore: replaces it by one of all the bytes again.

        Raises:
            IpcError: with errno EBUSY, arrays, views or other handles use the bytes to be removed.
        """
        with MAPPING_LOCK:
            # Before the check: after this, no thread can create a view of the bytes to be removed.
            remap()
            done = False
            try:
                if size_needed(identity(fd)) <= end:
                    os.ftruncate(fd, end)
                    done = True
            except OSError as exc:
                code = exc.errno or errno.EIO
                raise from_errno(code, op="resize", target=self._target) from None
            finally:
                if not done:
                    restore()
        if not done:
            message = "arrays, views or other handles of this process use the bytes to be removed"
            raise self._in_use("resize", message, "delete and close them first")

    def _release(self) -> None:
        self._mapping.close()

    def _size_text(self) -> str:
        return f"{self.size} bytes{', read-only' if self.readonly else ''}"

    @property
    @abstractmethod
    def _target(self) -> str: ...


def dtype_of(dtype: Any) -> np.dtype[Any]:
    """Return the dtype for an argument: a numpy dtype, or a Struct or ctypes class."""
    if is_ctypes(dtype):
        return ctypes_dtype(dtype, dtype.__name__)
    if isinstance(dtype, type) and issubclass(dtype, Struct):
        return dtype.dtype
    element: np.dtype[Any] = np.dtype(cast("Any", dtype))
    return element
