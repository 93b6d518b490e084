"""SharedArray: a numpy array in shared memory, which other processes get by reference."""

from __future__ import annotations

import errno
from operator import index
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final, overload

from ipckit._core.deadline import Deadline
from ipckit._core.lazy_numpy import is_dtype, np
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._payload.dtypes import check_arrays, copy_array, same_dtype
from ipckit._shm.array_handle import ArrayHandle
from ipckit._shm.array_header import array_over, header_for, refuse_objects
from ipckit._shm.memory import ScalarT, dtype_of
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ipckit._payload.structs import Struct
    from ipckit._shm.array_header import ArrayHeader, Order
    from ipckit._shm.lending import ArrayMemory

# Of a new array; a type variable of the class would be unknown in a class method.
NewT = TypeVar("NewT", bound="np.generic")


@final
@public("ipckit.shm")
class SharedArray(ArrayHandle, Generic[ScalarT]):
    """A numpy array in shared memory; a pickle of it is a reference, not a copy.

    Create one with `create` or `from_array`, and pass it to a process of multiprocessing, to a task
    of a pool, or through a queue. All processes use the same memory. Without a name, the memory is
    freed when the last process has dropped its handles and arrays, so nothing is left after a
    crash, and `close` is optional. With a name, other processes can `open` it, and the lifecycle is
    that of `PosixSharedMemory`: leaving the ``with`` block of the creator unlinks it.

    The shape and the dtype are stored in the memory. An array stays valid after `close`.

    Example:
        >>> import numpy as np
        >>> from ipckit import SharedArray
        >>> shared = SharedArray.create((2, 3), np.float64)  # zeros
        >>> shared.array[0] = 1.5
        >>> np.asarray(shared).sum()  # the same memory
        np.float64(4.5)
        >>> shared
        <SharedArray anonymous shared array, (2, 3) float64, open>

    See memfd_create(2) and shm_overview(7).
    """

    _factories = "SharedArray.create, from_array, open, open_or_create or from_fd"
    _passed_as = "SharedArray"
    _word = "shared array"
    _create_call = 'SharedArray.create(shape, dtype, name="{}")'

    _memory: ArrayMemory

    def __init__(
        self, memory: ArrayMemory, header: ArrayHeader, *, owner: bool, unpickled: bool
    ) -> None:
        self._header = header
        self._array: npt.NDArray[ScalarT] | None = array_over(memory, header)
        super().__init__(memory, owner=owner, unpickled=unpickled)

    # -- create and open ---------------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls,
        shape: int | Sequence[int],
        dtype: type[Struct],
        *,
        name: str | None = ...,
        order: Order = ...,
        mode: int = ...,
    ) -> SharedArray[np.void]: ...
    @overload
    @classmethod
    def create(
        cls,
        shape: int | Sequence[int],
        dtype: np.dtype[NewT] | type[NewT],
        *,
        name: str | None = ...,
        order: Order = ...,
        mode: int = ...,
    ) -> SharedArray[NewT]: ...
    @overload
    @classmethod
    def create(
        cls,
        shape: int | Sequence[int],
        dtype: npt.DTypeLike,
        *,
        name: str | None = ...,
        order: Order = ...,
        mode: int = ...,
    ) -> SharedArray[Any]: ...
    @classmethod
    def create(
        cls,
        shape: int | Sequence[int],
        dtype: Any,
        *,
        name: str | None = None,
        order: Order = "C",
        mode: int = 0o600,
    ) -> SharedArray[Any]:
        """Create an array of zeros.

        Args:
            shape: a number of items, or the number along each dimension.
            dtype: a numpy dtype, or a Struct or ctypes class for a structured array.
            name: a name by which other processes can open it, such as ``"frames"``; None (the
                default) creates an anonymous array.
            order: "C" (the default) or "F", as in `numpy.zeros`.
            mode: permission bits of a named array, 0 to 0o777, by default 0o600; the umask has no
                effect.

        Raises:
            TypeError: the dtype contains Python objects, has no size, or is of another package than
                ml_dtypes.
            AlreadyExists: the name is in use.
            LimitReached: the memory or /dev/shm is exhausted, or RLIMIT_NOFILE is reached.
            InvalidArgument: an argument is out of range.
            IpcError: also as for `PosixSharedMemory.create`.

        Example:
            >>> from ipckit import SharedArray
            >>> with SharedArray.create(1000, "int32", name="ipckit-example") as shared:
            ...     with SharedArray.open("ipckit-example") as other:  # usually in another process
            ...         other.array[0] = 7
            ...     shared.array[0]
            np.int32(7)

        See memfd_create(2) and shm_open(3).
        """
        return cls._create(_header(shape, dtype, order), name, mode)

    @overload
    @classmethod
    def from_array(
        cls, a: npt.NDArray[NewT], *, name: str | None = ..., mode: int = ...
    ) -> SharedArray[NewT]: ...
    @overload
    @classmethod
    def from_array(
        cls, a: npt.ArrayLike, *, name: str | None = ..., mode: int = ...
    ) -> SharedArray[Any]: ...
    @classmethod
    def from_array(
        cls, a: npt.ArrayLike, *, name: str | None = None, mode: int = 0o600
    ) -> SharedArray[Any]:
        """Create an array with the shape, the dtype and the values of another one: one copy.

        An array in Fortran order keeps its order. Any other array is in C order afterwards. A
        process that opens a named array waits until it is complete.

        Args:
            a: a numpy array, or an object that `numpy.asarray` converts, such as a list, a column
                of pandas or a tensor.
            name: as in `create`.
            mode: as in `create`.

        Raises:
            TypeError: the array contains Python objects, or is of a subclass whose additional
                information would be lost, such as a masked array.
            IpcError: as for `create`.

        Example:
            >>> import numpy as np
            >>> from ipckit import SharedArray
            >>> SharedArray.from_array(np.arange(4.0)).array.sum()
            np.float64(6.0)
        """
        dtype: object = getattr(a, "dtype", None)
        if is_dtype(dtype):
            refuse_objects(dtype)  # `check_arrays` does not say what to do
        check_arrays(a)
        source: npt.NDArray[Any] = np.asarray(a)
        fortran = source.flags.f_contiguous and not source.flags.c_contiguous
        header = header_for(source.dtype, source.shape, "F" if fortran else "C")
        return cls._create(header, name, mode, lambda target: copy_array(target, source))

    @classmethod
    def open(
        cls, name: str, *, readonly: bool = False, timeout: float | None = 1.0
    ) -> SharedArray[Any]:
        """Open a named array; never creates or owns it.

        Args:
            name: the array's name.
            readonly: map it for reading only, by default False; `array` is read-only then.
            timeout: seconds to wait until its creator has filled it, by default 1; None waits for
                ever.

        Raises:
            NotFound: there is no array of that name.
            Corrupt: the memory of that name is not a shared array.
            AccessDenied: the array's mode forbids it.
            Timeout: the memory still has no header; its creator may have died.
            LayoutMismatch: the dtype is of ml_dtypes, which is not installed.
            InvalidArgument: `name` is invalid.

        See shm_open(3).
        """
        return cls._open(name, Deadline(timeout), readonly=readonly)

    @classmethod
    def open_or_create(
        cls,
        shape: int | Sequence[int],
        dtype: Any,
        *,
        name: str,
        order: Order = "C",
        mode: int = 0o600,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> SharedArray[Any]:
        """Open a named array, or create it; the handle owns it only if it created it.

        Args:
            shape: the shape of a new array, which an existing one must have too.
            dtype: its type, which an existing one must have too.
            name: its name.
            order: its order, which an existing one must have too.
            mode: permission bits of a new array, by default 0o600. An existing array must not give
                other users more rights.
            timeout: seconds to wait for another process that creates it, by default 1; None waits
                for ever.
            owner_uid: a user whose array is accepted, besides this user and root.

        Raises:
            LayoutMismatch: the existing array has another shape, dtype or order.
            AccessDenied: the existing array belongs to another user, or gives other users more
                rights than `mode`.
            IpcError: also as for `create` and `open`.

        Example:
            >>> from ipckit import SharedArray
            >>> with SharedArray.open_or_create(10, "f8", name="ipckit-example") as shared:
            ...     shared.owner
            True
        """
        header = _header(shape, dtype, order)
        found = cls._open_or_create(header, name, mode=mode, timeout=timeout, owner_uid=owner_uid)
        have = found._header  # noqa: SLF001 - of this class
        same = have[1:3] == header[1:3] and same_dtype(have.dtype, header.dtype)
        if not same:
            found.close()
            message = f"the array is {have.describe()} in {have.order} order, and the caller wants "
            message += f"{header.describe()} in {header.order} order"
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=found._target)
        return found

    @classmethod
    def from_fd(cls, fd: int, *, readonly: bool = False) -> SharedArray[Any]:
        """Open an array whose descriptor this process received; never owns the array.

        The handle takes over the descriptor and closes it.

        Args:
            fd: the descriptor, from the `fileno` of a handle in another process.
            readonly: map it for reading only, by default False.

        Raises:
            Corrupt: it is not the memory of a shared array.
            InvalidArgument: `fd` is closed, is not shared memory, or is a memfd that its sender
                can shrink.
            AccessDenied: the descriptor is read-only and `readonly` is False.

        See mmap(2).
        """
        return cls._from_fd(fd, readonly=readonly)

    # -- the array ---------------------------------------------------------------------------------

    @property
    def array(self) -> npt.NDArray[ScalarT]:
        """The numpy array over the memory: always the same object, which stays valid after `close`.

        Raises:
            ClosedHandle: the handle is closed.
        """
        array = self._array
        if array is None:
            self._check_open("array")
            raise AssertionError
        return array

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of items along each dimension."""
        return self._header.shape

    @property
    def dtype(self) -> np.dtype[ScalarT]:
        """The type of the items."""
        return self._header.dtype

    @property
    def nbytes(self) -> int:
        """The bytes of all items, without the header."""
        return self._header.nbytes

    @property
    def readonly(self) -> bool:
        """Whether this handle cannot write the array."""
        return self._memory.readonly

    def __array__(
        self,
        dtype: npt.DTypeLike | None = None,
        copy: bool | None = None,  # noqa: FBT001 - numpy's protocol
    ) -> npt.NDArray[Any]:
        """Return the array for `numpy.asarray`: without a copy, unless the dtype is another."""
        array = self.array
        if copy is None and (dtype is None or array.dtype == dtype):
            return array
        return np.array(array, dtype=dtype, copy=copy)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        self._array = None  # the memory is unmapped once the caller has dropped it too
        super()._release()

    def _size_text(self) -> str:
        return f"{self._header.describe()}{', read-only' if self.readonly else ''}"


def _header(shape: int | Sequence[int], dtype: Any, order: Order) -> ArrayHeader:
    given: Any = shape
    try:
        dimensions: tuple[int, ...] = (index(given),)
    except TypeError:
        try:
            dimensions = tuple(map(index, given))
        except TypeError:
            message = f"shape must be an int or a sequence of ints, not {shape!r}"
            raise TypeError(message) from None
    return header_for(dtype_of(dtype), dimensions, order)
