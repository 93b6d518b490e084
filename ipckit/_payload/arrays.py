"""Array fields: of a fixed size, and flexible array members."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final, overload

from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit._native import Field, Record, record_from_bytes
from ipckit._payload.c_types import CType, Raw, Text
from ipckit._payload.dtypes import check_arrays
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(eq=False, repr=False)
class ArrayOf(CType):
    """A fixed number of values of one type, without gaps."""

    item: CType
    count: int

    @property
    def size(self) -> int:  # type: ignore[override] # derived here, stored in the others
        """Bytes of the whole array."""
        return self.item.size * self.count

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment of its items, in bytes."""
        return self.item.alignment

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        kind = NumberArray if self.innermost.number else ItemArray
        return Field(name, "o", offset, self.size, swap, kind(self, name, offset, swap=swap))

    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        return np.dtype((self.innermost.dtype(swap=swap), self.shape))

    def canonical(self, *, swap: bool) -> str:
        return f"{self.count}*{self.item.canonical(swap=swap)}"

    def declare(self, name: str) -> str:
        return self.item.declare(f"{name}[{self.count}]")

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of items along each dimension, the outermost first."""
        inner = self.item.shape if isinstance(self.item, ArrayOf) else ()
        return (self.count, *inner)

    @property
    def innermost(self) -> CType:
        """The type of the items of the innermost dimension."""
        return self.item.innermost if isinstance(self.item, ArrayOf) else self.item


@dataclass(eq=False, repr=False)
class FlexibleArray(CType):
    """A flexible array member: the rest of the record's memory.

    Attributes:
        item: the type of its items.
    """

    item: CType
    size = 0
    flexible = True

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment of its items, in bytes."""
        return self.item.alignment

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "o", offset, 0, swap, FlexibleField(self, name, offset, swap=swap))

    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        return np.dtype((self.item.dtype(swap=swap), (0,)))

    def canonical(self, *, swap: bool) -> str:
        return f"*{self.item.canonical(swap=swap)}"

    def declare(self, name: str) -> str:
        item = self.item.declare(f"{name}[]")
        return item.removesuffix("[1]") if self.is_bytes else item

    def rest(self, room: int) -> CType:
        """Return the type of an array that fills a number of bytes, but for a part of an item."""
        if self.is_bytes:
            return Text(room) if isinstance(self.item, Text) else Raw(room)
        return ArrayOf(self.item, room // self.item.size)

    def bytes_for(self, value: Any) -> int:
        """Return the bytes that a value of the array takes.

        Raises:
            TypeError: the value has no length.
        """
        if self.is_bytes and isinstance(value, str):
            return len(value.encode(errors="surrogateescape"))
        return memoryview(value).nbytes if self.is_bytes else len(value) * self.item.size

    @property
    def is_bytes(self) -> bool:
        """Whether the array is text or bytes, not a sequence of texts or of bytes."""
        return isinstance(self.item, (Text, Raw)) and self.item.size == 1


class FlexibleField:
    """Gives the Field of a flexible array its `view` and `assign`; see native/records/field.c."""

    def __init__(self, array: FlexibleArray, name: str, offset: int, *, swap: bool) -> None:
        self.array = array
        self.name = name
        self.offset = offset
        self.swap = swap

    def view(self, record: Record) -> Any:
        """Return the array that fills the rest of the record."""
        return self._rest(record).__get__(record)

    def assign(self, record: Record, value: object) -> None:
        """Write the whole array, which keeps its length."""
        self._rest(record).__set__(record, value)

    def _rest(self, record: Record) -> Field:
        memory: Any = record  # before Python 3.12, type checkers do not know that it is a buffer
        room = memoryview(memory).nbytes - self.offset
        return self.array.rest(room).field(self.name, self.offset, swap=self.swap)


class _ArrayField:
    """Gives the Field of an array its `view` and `assign`; see native/records/field.c."""

    def __init__(self, array: ArrayOf, name: str, offset: int, *, swap: bool) -> None:
        self.array = array
        self.name = name
        self.offset = offset
        self.swap = swap


class NumberArray(_ArrayField):
    """An array of numbers, read as a numpy array that is a view of the record's memory."""

    def __init__(self, array: ArrayOf, name: str, offset: int, *, swap: bool) -> None:
        super().__init__(array, name, offset, swap=swap)
        self.shape = array.shape
        self.dtype = array.innermost.dtype(swap=swap)

    def view(self, record: Record) -> np.ndarray[Any, Any]:
        """Return a view of the array: writing to it writes to the record."""
        memory: Any = record  # before Python 3.12, type checkers do not know that it is a buffer
        return np.ndarray(self.shape, self.dtype, buffer=memoryview(memory), offset=self.offset)

    def assign(self, record: Record, value: object) -> None:
        """Write the whole array, or raise and write nothing."""
        check_arrays(value)
        given = np.asarray(value)
        if given.shape == self.shape and not given.size:
            return
        if given.shape != self.shape:
            message = f"field {self.name!r} takes shape {self.shape}, not {given.shape}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._check(given)
        self.view(record)[...] = given.astype(self.dtype)

    def _check(self, given: np.ndarray[Any, Any]) -> None:
        """Refuse values that numpy would silently wrap, truncate or reinterpret."""
        wanted = self.dtype
        huge = given.dtype.kind == "O" and all(isinstance(item, int) for item in given.flat)
        if wanted.kind == "f" and given.dtype.kind in "iuf":
            largest = np.finfo(wanted).max
            fits = not np.any(np.abs(given[np.isfinite(given)]) > largest)
        elif wanted.kind in "iu" and given.dtype.kind in "iu":
            limits = np.iinfo(wanted)
            fits = int(given.min()) >= limits.min and int(given.max()) <= limits.max
        elif wanted.kind == given.dtype.kind == "b":
            fits = True
        elif huge and wanted.kind in "iuf":
            fits = False
        else:
            message = f"field {self.name!r} takes {wanted.name} values, not {given.dtype.name}"
            raise TypeError(message)
        if not fits:
            message = f"field {self.name!r} takes {wanted.name} values, but some are out of range"
            raise InvalidArgument(message, errno=errno.EINVAL)


class ItemArray(_ArrayField):
    """An array of text, bytes or structs, read as an `ArrayView` of the record's memory."""

    def view(self, record: Record) -> ArrayView:
        """Return a view of the array: writing to it writes to the record."""
        return ArrayView(self, record)

    def assign(self, record: Record, value: Sequence[Any]) -> None:
        """Write the whole array. If an item is invalid, the items before it are written."""
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            message = f"field {self.name!r} takes a sequence of items, not {type(value).__name__}"
            raise TypeError(message)
        if len(value) != self.array.count:
            message = f"field {self.name!r} takes {self.array.count} items, not {len(value)}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        # Views of this memory must be read before it is written, as in ``a.items = a.items[::-1]``.
        for index, item in enumerate([_copied(item) for item in value]):
            self.at(index).__set__(record, item)

    def at(self, index: int) -> Field:
        """Create the descriptor of one item."""
        item = self.array.item
        return item.field(f"{self.name}[{index}]", self.offset + index * item.size, swap=self.swap)


def _copied(item: Any) -> Any:
    """Return a copy of a record that owns its bytes; any other item itself."""
    memory: Any = item  # before Python 3.12, type checkers do not know that it is a buffer
    return record_from_bytes(type(item), memory) if isinstance(item, Record) else item


@public("ipckit.structs")
@final
class ArrayView(Sequence[Any]):
    """A view of an array field of text, bytes or structs: a sequence of fixed length.

    Reading and writing an item reads and writes the struct's memory. An item that is a struct is a
    view too. A slice is a list of the items.

    Example:
        >>> from ipckit.structs import Array, Char, Struct
        >>> class Team(Struct):
        ...     names: Array[Char[8], 2]
        >>> team = Team(["amy", "bob"])
        >>> team.names[1] = "eve"
        >>> team.names
        ['amy', 'eve']
    """

    __slots__ = ("_array", "_record")

    def __init__(self, array: ItemArray, record: Record) -> None:
        self._array = array
        self._record = record

    def __len__(self) -> int:
        return self._array.array.count

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self._array.at(range(len(self))[index]).__get__(self._record)

    def __setitem__(self, index: int, value: object) -> None:
        self._array.at(range(len(self))[index]).__set__(self._record, value)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        items: Any = other
        if not isinstance(other, Sequence) or isinstance(other, (str, bytes)):
            return NotImplemented
        return list(self) == list(items)

    __hash__ = None  # type: ignore[assignment] # its items change

    def __repr__(self) -> str:
        return repr(list(self))
