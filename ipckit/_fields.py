"""The types that a field of a `Struct` can have, and what they look like in Python, C and numpy.

A type checker sees ``Int`` as ``int`` and so on, since that is what a field of
that type reads and takes. At run time each is a `CType`, which knows its size.
"""

from __future__ import annotations

import errno
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, cast, get_args, get_origin, overload

import numpy as np

from ipckit._native import Field
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit._native import Record
    from ipckit.structs import StructType

MAX_SIZE: Final = sys.maxsize // 4


class CType(ABC):
    """A C type: its size and alignment in bytes on this machine."""

    size: int
    alignment: int

    @abstractmethod
    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        """The descriptor that reads and writes such a field at an offset of a record."""

    @abstractmethod
    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        """The numpy dtype of the same bytes."""

    @abstractmethod
    def canonical(self, *, swap: bool) -> str:
        """What the bytes mean, the same text on every machine that reads them the same way."""

    @abstractmethod
    def declare(self, name: str) -> str:
        """The C declaration of a variable of this type, without the semicolon."""


@dataclass(frozen=True)
class Scalar(CType):
    """A number or a truth value."""

    code: str
    size: int
    alignment: int
    c_name: str

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, self.code, offset, self.size, swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        native = np.dtype("?" if self.code == "?" else f"{self.code}{self.size}")
        return native.newbyteorder("S") if swap else native

    def canonical(self, *, swap: bool) -> str:
        big = (sys.byteorder == "big") != swap
        order = "" if self.size == 1 else ">" if big else "<"
        return f"{order}{self.code}{self.size}"

    def declare(self, name: str) -> str:
        return f"{self.c_name} {name}"


@dataclass(frozen=True)
class Text(CType):
    """UTF-8 text in a fixed number of bytes, up to the first NUL."""

    size: int
    alignment = 1

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "c", offset, self.size, swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002 - bytes have no order
        return np.dtype(f"S{self.size}")

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"c{self.size}"

    def declare(self, name: str) -> str:
        return f"char {name}[{self.size}]"


@dataclass(frozen=True)
class Raw(CType):
    """A fixed number of bytes."""

    size: int
    alignment = 1

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "s", offset, self.size, swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002 - bytes have no order
        return np.dtype(f"V{self.size}")

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"s{self.size}"

    def declare(self, name: str) -> str:
        return f"unsigned char {name}[{self.size}]"


class Nested(CType):
    """A struct inside a struct."""

    def __init__(self, struct: StructType) -> None:
        self.struct = struct
        self.size = struct.size
        self.alignment = struct.alignment

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "r", offset, self.size, swap, self.struct)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002 - it has an order of its own
        return self.struct.dtype

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"{{{self.struct.fingerprint}}}"

    def declare(self, name: str) -> str:
        return f"{self.struct.__name__} {name}"


@dataclass(frozen=True)
class ArrayOf(CType):
    """So many values of one type, one after the other."""

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
        kind = NumberArray if self.innermost.__class__ is Scalar else ItemArray
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
        """The type of the items of its items of its items."""
        return self.item.innermost if isinstance(self.item, ArrayOf) else self.item


class _ArrayField:
    """What the Field of an array asks: for a view of the array, and to assign all of it."""

    def __init__(self, array: ArrayOf, name: str, offset: int, *, swap: bool) -> None:
        self.array = array
        self.name = name
        self.offset = offset
        self.swap = swap


class NumberArray(_ArrayField):
    """Arrays of numbers are numpy arrays over the record's memory."""

    def __init__(self, array: ArrayOf, name: str, offset: int, *, swap: bool) -> None:
        super().__init__(array, name, offset, swap=swap)
        self.shape = array.shape
        self.dtype = array.innermost.dtype(swap=swap)

    def view(self, record: Record) -> np.ndarray[Any, Any]:
        """The array, alive: what is written to it is written to the record."""
        return np.ndarray(self.shape, self.dtype, buffer=memoryview(record), offset=self.offset)

    def assign(self, record: Record, value: object) -> None:
        """Write the whole array, or raise and write nothing."""
        given = np.asarray(value)
        if given.shape != self.shape:
            message = f"field {self.name!r} takes shape {self.shape}, not {given.shape}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self._check(given)
        self.view(record)[...] = given.astype(self.dtype)

    def _check(self, given: np.ndarray[Any, Any]) -> None:
        """Refuse what numpy would silently wrap, cut or reinterpret."""
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
            message = f"field {self.name!r} takes {wanted.name} values, and some are out of range"
            raise InvalidArgument(message, errno=errno.EINVAL)


class ItemArray(_ArrayField):
    """Arrays of text, bytes and structs are sequences over the record's memory."""

    def view(self, record: Record) -> ArrayView:
        """The array, alive: what is written to it is written to the record."""
        return ArrayView(self, record)

    def assign(self, record: Record, value: Sequence[Any]) -> None:
        """Write the whole array; the items before a bad one are written."""
        if len(value) != self.array.count:
            message = f"field {self.name!r} takes {self.array.count} items, not {len(value)}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        for index, item in enumerate(value):
            self.at(index).__set__(record, item)

    def at(self, index: int) -> Field:
        """The descriptor of one item."""
        item = self.array.item
        return item.field(f"{self.name}[{index}]", self.offset + index * item.size, swap=self.swap)


class ArrayView(Sequence[Any]):
    """An array field of text, bytes or structs: a sequence of fixed length over its record.

    Items are read from and written to the record's memory; an item that is a
    struct is itself a view. A slice is a list.
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


def ctype_of(annotation: object) -> CType:
    """The C type that an annotation stands for.

    Raises:
        TypeError: it stands for none.
    """
    if isinstance(annotation, CType):
        return annotation
    if hasattr(annotation, "__plan__"):
        return Nested(cast("StructType", annotation))
    if get_origin(annotation) is Annotated:
        for part in get_args(annotation)[1:]:
            if isinstance(part, CType):
                return part
        return ctype_of(get_args(annotation)[0])
    text = annotation.__name__ if isinstance(annotation, type) else repr(annotation)
    message = f"{text} has no size in C; a field is Int, Double, Char[32], another Struct, …"
    raise TypeError(message)


def checked_count(what: str, count: object) -> int:
    if not isinstance(count, int) or isinstance(count, bool):
        message = f"{what} takes a number of items, not {count!r}"
        raise TypeError(message)
    if not 1 <= count <= MAX_SIZE:
        message = f"{what} takes 1 to {MAX_SIZE} items, not {count}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return count


def _scalar(code: str, char: str, c_name: str) -> Scalar:
    size = struct.calcsize(char)
    return Scalar(code, size, struct.calcsize(f"b{char}") - size, c_name)


if TYPE_CHECKING:
    from typing import Self

    Bool = bool
    Int8 = Int16 = Int32 = Int64 = UInt8 = UInt16 = UInt32 = UInt64 = int
    SChar = UChar = Short = UShort = Int = UInt = int
    Long = ULong = LongLong = ULongLong = SizeT = SSizeT = int
    Float = Double = Float32 = Float64 = float

    MYPY = False  # mypy alone takes this for true
    if MYPY:
        # mypy refuses a number between brackets, save after a name of type Any. The plugin
        # ipckit.mypy_plugin says what these are; without it mypy takes such fields as Any.
        Char: Any  # pyright: ignore[reportRedeclaration]
        Bytes: Any  # pyright: ignore[reportRedeclaration]
        Array: Any  # pyright: ignore[reportRedeclaration]
    else:

        class Char:
            def __class_getitem__(cls, size: int) -> Self: ...
            @overload
            def __get__(self, record: None, owner: Any) -> Self: ...
            @overload
            def __get__(self, record: object, owner: Any) -> str: ...
            def __get__(self, record: object, owner: Any) -> Any: ...
            def __set__(self, record: object, value: str) -> None: ...

        class Bytes:
            def __class_getitem__(cls, size: int) -> Self: ...
            @overload
            def __get__(self, record: None, owner: Any) -> Self: ...
            @overload
            def __get__(self, record: object, owner: Any) -> bytes: ...
            def __get__(self, record: object, owner: Any) -> Any: ...
            def __set__(self, record: object, value: bytes) -> None: ...

        class Array:
            def __class_getitem__(cls, item: Any) -> Self: ...
            def __get__(self, record: object, owner: Any) -> Any: ...
            def __set__(self, record: object, value: Any) -> None: ...

else:
    Bool = _scalar("?", "?", "bool")
    Int8 = SChar = _scalar("i", "b", "int8_t")
    Int16 = _scalar("i", "h", "int16_t")
    Int32 = _scalar("i", "i", "int32_t")
    Int64 = Scalar("i", 8, _scalar("i", "q", "").alignment, "int64_t")
    UInt8 = UChar = _scalar("u", "B", "uint8_t")
    UInt16 = _scalar("u", "H", "uint16_t")
    UInt32 = _scalar("u", "I", "uint32_t")
    UInt64 = Scalar("u", 8, _scalar("u", "Q", "").alignment, "uint64_t")
    Short = _scalar("i", "h", "short")
    UShort = _scalar("u", "H", "unsigned short")
    Int = _scalar("i", "i", "int")
    UInt = _scalar("u", "I", "unsigned int")
    Long = _scalar("i", "l", "long")
    ULong = _scalar("u", "L", "unsigned long")
    LongLong = _scalar("i", "q", "long long")
    ULongLong = _scalar("u", "Q", "unsigned long long")
    SizeT = _scalar("u", "N", "size_t")
    SSizeT = _scalar("i", "n", "ssize_t")
    Float = Float32 = _scalar("f", "f", "float")
    Double = Float64 = _scalar("f", "d", "double")

    class Char:
        """`Char[n]`: text in n bytes of UTF-8, padded with NULs; ``char name[n]`` in C.

        Text of up to n bytes fits; text of exactly n bytes leaves no room for
        the NUL that a C program may look for. Too long text, and text with a NUL
        inside, is an error. Bytes that are not UTF-8 read as surrogates
        (``errors="surrogateescape"``) and are written back as they were.
        """

        def __class_getitem__(cls, size: int) -> Text:
            return Text(checked_count("Char", size))

    class Bytes:
        """`Bytes[n]`: n bytes; ``unsigned char data[n]`` in C. Fewer are padded with NULs."""

        def __class_getitem__(cls, size: int) -> Raw:
            return Raw(checked_count("Bytes", size))

    class Array:
        """`Array[Int, 4]`, `Array[Int, 2, 3]`: a fixed array; ``int x[4]``, ``int x[2][3]`` in C.

        An array of numbers reads as a numpy array over the record's own memory;
        an array of text, bytes or structs as an `ArrayView` over it. Assigning
        replaces all items; their number must be right.
        """

        def __class_getitem__(cls, item: tuple[Any, ...]) -> ArrayOf:
            if not isinstance(item, tuple) or len(item) < 2:  # noqa: PLR2004 - a type and a size
                message = "Array takes a type and a number of items, as in Array[Int, 4]"
                raise TypeError(message)
            ctype = ctype_of(item[0])
            for count in reversed(item[1:]):
                ctype = ArrayOf(ctype, checked_count("Array", count))
            return ctype
