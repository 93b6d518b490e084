"""The types for the annotations of a struct's fields: `Int`, `Char`, `Array` and the others.

A type checker sees ``Int`` as ``int``, because reading such a field returns an int. At run time
``Int`` is a `CType`, which has a size.
"""

from __future__ import annotations

import enum
import errno
import struct
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_origin

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._payload.arrays import ArrayOf, FlexibleArray
from ipckit._payload.c_types import (
    MAX_SIZE,
    BitField,
    CType,
    Enumeration,
    Nested,
    Raw,
    Scalar,
    StructClass,
    Text,
)
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from types import EllipsisType

    from typing_extensions import TypeIs


def ctype_of(annotation: object) -> CType:
    """Return the C type of an annotation.

    Raises:
        TypeError: the annotation has no C type.
        InvalidArgument: no integer type has the range for the values of an enum.
    """
    if isinstance(annotation, CType):
        return annotation
    if hasattr(annotation, "__plan__"):
        return Nested(cast("StructClass", annotation))
    if get_origin(annotation) is Annotated:
        return _annotated(*get_args(annotation))
    if _is_enum(annotation):
        return Enumeration(enum_integer(annotation), annotation)
    text = annotation.__name__ if isinstance(annotation, type) else repr(annotation)
    message = f"{text} has no size in C; use a type such as Int, Double, Char[32] or another Struct"
    raise TypeError(message)


def _is_enum(annotation: object) -> TypeIs[type[enum.IntEnum | enum.IntFlag]]:
    return isinstance(annotation, type) and issubclass(annotation, (enum.IntEnum, enum.IntFlag))


def _annotated(hint: Any, *parts: object) -> CType:
    """Return the C type of ``Annotated[hint, part, …]``: the first of the parts, else hint's."""
    for part in parts:
        if isinstance(part, Scalar) and _is_enum(hint):
            return _enum_of_type(part, hint)
        if isinstance(part, CType):
            return part
    return ctype_of(hint)


def _bounds(integer: Scalar) -> range:
    """Return the values of an integer type."""
    bits = 8 * integer.size
    return range(-(1 << bits - 1), 1 << bits - 1) if integer.code == "i" else range(1 << bits)


def _enum_of_type(integer: Scalar, members: type[enum.IntEnum | enum.IntFlag]) -> Enumeration:
    """Return the type of an enum whose integer type is given.

    Raises:
        TypeError: the type is not an integer.
        InvalidArgument: a member is out of its range.
    """
    if integer.code not in "iu":
        message = f"{members.__name__} is an enum, so its type must be an integer"
        raise TypeError(message)
    for member in members.__members__.values():
        if member.value not in _bounds(integer):
            message = (
                f"{members.__name__}.{member.name} is {member.value}, which is out of the range"
            )
            raise InvalidArgument(f"{message} of {integer.c_name}", errno=errno.EINVAL)
    return Enumeration(integer, members)


def enum_integer(members: type[enum.IntEnum | enum.IntFlag]) -> Scalar:
    """Return the integer type that gcc chooses for an enum."""
    # `list(members)` would leave out aliases and flags of several bits.
    values = [member.value for member in members.__members__.values()]
    signed = min(values, default=0) < 0
    for integer in (Int, Long) if signed else (UInt, ULong):
        bounds = _bounds(cast("Scalar", integer))
        if all(value in bounds for value in values):
            return cast("Scalar", integer)
    message = f"no integer type of C has the range for all values of {members.__name__}"
    raise InvalidArgument(message, errno=errno.EINVAL)


def checked_count(what: str, count: object) -> int:
    """Return a number of items, or raise.

    Raises:
        TypeError: it is not an int.
        InvalidArgument: it is not 1 to `MAX_SIZE`.
    """
    try:
        count = int_argument(what, count)
    except TypeError:
        message = f"{what} takes a number of items, not {count!r}"
        raise TypeError(message) from None
    if not 1 <= count <= MAX_SIZE:
        message = f"{what} must have 1 to {MAX_SIZE} items, not {count}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return count


def _check_item(ctype: CType) -> None:
    """Refuse a type that can't be the items of an array."""
    if isinstance(ctype, BitField) or ctype.flexible:
        what = "a bit-field" if isinstance(ctype, BitField) else "a flexible array"
        message = f"the items of an array can't be {what}"
        raise TypeError(message)
    if ctype.size % ctype.alignment:
        message = f"items of {ctype.size} bytes can't be aligned to {ctype.alignment} in an array"
        raise TypeError(message)


def _scalar(code: str, char: str, c_name: str) -> Scalar:
    size = struct.calcsize(char)
    return Scalar(code, size, struct.calcsize(f"b{char}") - size, c_name)


def _typedef(c_name: str) -> Scalar:
    """Return the type that this machine's C library gives a name of POSIX."""
    code, size, alignment = native.TYPEDEFS[c_name]
    return Scalar(code, size, alignment, c_name)


if TYPE_CHECKING:
    from typing import TypeAlias

    from ipckit._payload.checker_types import AnyMember, BytesMember, StrMember

    Bool: TypeAlias = bool
    Int8: TypeAlias = int
    Int16: TypeAlias = int
    Int32: TypeAlias = int
    Int64: TypeAlias = int
    UInt8: TypeAlias = int
    UInt16: TypeAlias = int
    UInt32: TypeAlias = int
    UInt64: TypeAlias = int
    SChar: TypeAlias = int
    UChar: TypeAlias = int
    Short: TypeAlias = int
    UShort: TypeAlias = int
    Int: TypeAlias = int
    UInt: TypeAlias = int
    Long: TypeAlias = int
    ULong: TypeAlias = int
    LongLong: TypeAlias = int
    ULongLong: TypeAlias = int
    SizeT: TypeAlias = int
    SSizeT: TypeAlias = int
    PtrDiffT: TypeAlias = int
    IntPtrT: TypeAlias = int
    UIntPtrT: TypeAlias = int
    PidT: TypeAlias = int
    UidT: TypeAlias = int
    GidT: TypeAlias = int
    IdT: TypeAlias = int
    ModeT: TypeAlias = int
    OffT: TypeAlias = int
    DevT: TypeAlias = int
    InoT: TypeAlias = int
    NLinkT: TypeAlias = int
    BlkSizeT: TypeAlias = int
    BlkCntT: TypeAlias = int
    TimeT: TypeAlias = int
    SUSecondsT: TypeAlias = int
    ClockT: TypeAlias = int
    ClockIdT: TypeAlias = int
    KeyT: TypeAlias = int
    SockLenT: TypeAlias = int
    Float: TypeAlias = float
    Double: TypeAlias = float
    Float32: TypeAlias = float
    Float64: TypeAlias = float

    MYPY = False  # mypy always treats this name as true
    if MYPY:
        # mypy refuses a number between brackets, except after a name of type Any. The plugin
        # ipckit.mypy_plugin gives these their types; without it such fields are Any to mypy.
        Char: Any  # pyright: ignore[reportRedeclaration]
        Bytes: Any  # pyright: ignore[reportRedeclaration]
        Array: Any  # pyright: ignore[reportRedeclaration]
    else:

        class Char(StrMember): ...

        class Bytes(BytesMember): ...

        class Array(AnyMember): ...

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
    PtrDiffT = _typedef("ptrdiff_t")
    IntPtrT = _typedef("intptr_t")
    UIntPtrT = _typedef("uintptr_t")
    PidT = _typedef("pid_t")
    UidT = _typedef("uid_t")
    GidT = _typedef("gid_t")
    IdT = _typedef("id_t")
    ModeT = _typedef("mode_t")
    OffT = _typedef("off_t")
    DevT = _typedef("dev_t")
    InoT = _typedef("ino_t")
    NLinkT = _typedef("nlink_t")
    BlkSizeT = _typedef("blksize_t")
    BlkCntT = _typedef("blkcnt_t")
    TimeT = _typedef("time_t")
    SUSecondsT = _typedef("suseconds_t")
    ClockT = _typedef("clock_t")
    ClockIdT = _typedef("clockid_t")
    KeyT = _typedef("key_t")
    SockLenT = _typedef("socklen_t")
    Float = Float32 = _scalar("f", "f", "float")
    Double = Float64 = _scalar("f", "d", "double")

    @public("ipckit.structs")
    class Char:
        """`Char[n]`: text in n bytes of UTF-8, padded with NULs; ``char name[n]`` in C.

        Text of up to n bytes fits. Text of exactly n bytes leaves no room for the NUL that a C
        program may need. A longer text, or a text that contains a NUL, raises InvalidArgument.
        Bytes that are not UTF-8 are read as surrogates (``errors="surrogateescape"``), which are
        written as the same bytes. ``Char[...]`` is text in the rest of the memory; see `Array`.

        Example:
            >>> from ipckit.structs import Char, Struct
            >>> class Login(Struct):
            ...     user: Char[8]
            >>> len(bytes(Login("amy")))
            8
        """

        def __class_getitem__(cls, size: int | EllipsisType) -> Text | FlexibleArray:
            if size is ...:
                return FlexibleArray(Text(1))
            return Text(checked_count("Char", size))

    @public("ipckit.structs")
    class Bytes:
        """`Bytes[n]`: n bytes; ``unsigned char data[n]`` in C.

        A shorter value is padded with NULs, and a longer one raises InvalidArgument. ``Bytes[...]``
        is the rest of the memory; see `Array`.

        Example:
            >>> from ipckit.structs import Bytes, Struct
            >>> class Frame(Struct):
            ...     mac: Bytes[6]
            >>> Frame(b"\\x02\\x42").mac
            b'\\x02B\\x00\\x00\\x00\\x00'
        """  # noqa: D301 - the backslashes are those of a repr

        def __class_getitem__(cls, size: int | EllipsisType) -> Raw | FlexibleArray:
            if size is ...:
                return FlexibleArray(Raw(1))
            return Raw(checked_count("Bytes", size))

    @public("ipckit.structs")
    class Array:
        """`Array[Int, 4]`, `Array[Int, 2, 3]`: a fixed array; ``int x[4]``, ``int x[2][3]`` in C.

        Reading the field returns a view of the struct's memory: a numpy array if the items are
        numbers, and an `ArrayView` if they are text, bytes or structs. Assigning replaces all
        items, and raises InvalidArgument if their number is wrong.

        ``Array[Int, ...]`` is a flexible array member, ``int x[]`` in C: the rest of the struct's
        memory. It is the last member. It has the items that the constructor got, or as many as fit
        into the buffer of `from_buffer` or the bytes of `from_bytes`. The struct's `size` does not
        count them, but ``bytes(stu)`` has them.

        Example:
            >>> from ipckit.structs import Array, Int, Struct
            >>> class Point(Struct):
            ...     at: Array[Int, 2]
            >>> point = Point([1, 2])
            >>> point.at[0] = 5
            >>> point
            Point(at=[5, 2])
        """

        def __class_getitem__(cls, item: tuple[Any, ...]) -> CType:
            if not isinstance(item, tuple) or len(item) < 2:  # noqa: PLR2004 - a type and a size
                message = "Array takes a type and a number of items, as in Array[Int, 4]"
                raise TypeError(message)
            ctype = ctype_of(item[0])
            _check_item(ctype)
            for count in reversed(item[2:] if item[1] is ... else item[1:]):
                ctype = ArrayOf(ctype, checked_count("Array", count))
            return FlexibleArray(ctype) if item[1] is ... else ctype
