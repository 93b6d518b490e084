"""Annotations that say more of a member than its type: `Bits`, `Aligned`, `At` and `Anonymous`."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._payload import c_types
from ipckit._payload.c_types import BitField, CType, Enumeration, Nested, Scalar
from ipckit._payload.fields import ctype_of
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from ipckit._payload.checker_types import AnyMember, BytesMember, IntMember

    MYPY = False  # mypy always treats this name as true
    if MYPY:
        # mypy refuses a number between brackets, except after a name of type Any.
        Bits: Any  # pyright: ignore[reportRedeclaration]
        Aligned: Any  # pyright: ignore[reportRedeclaration]
        At: Any  # pyright: ignore[reportRedeclaration]
        Anonymous: Any  # pyright: ignore[reportRedeclaration]
        Opaque: Any  # pyright: ignore[reportRedeclaration]
    else:

        class Bits(IntMember): ...

        class Aligned(AnyMember): ...

        class At(AnyMember): ...

        class Anonymous(AnyMember): ...

        class Opaque(BytesMember): ...

else:

    @public("ipckit.structs")
    class Bits:
        """`Bits[UInt, 3]`: a bit-field of 3 bits; ``unsigned int x : 3`` in C.

        The type is an integer type, `Bool` or an IntEnum class. A field of a signed type has one
        bit for the sign. The bits lie where gcc has them: after those of the previous bit-field,
        unless they would then lie in two units of the type. ``Bits[UInt, 0]`` is no field; the
        next bit-field begins a new unit.

        Writing a bit-field writes the bytes in which it lies, as in C: two processes that write
        neighbours at the same time need a lock.

        Example:
            >>> from ipckit.structs import Bits, Struct, UInt
            >>> class Mode(Struct):
            ...     kind: Bits[UInt, 4]
            ...     level: Bits[UInt, 12]
            >>> bytes(Mode(1, 2))
            b'!\\x00\\x00\\x00'
        """  # noqa: D301 - the backslashes are those of a repr

        def __class_getitem__(cls, item: tuple[Any, int]) -> CType:
            kind, width = _pair("Bits", item, "a type and a number of bits, as in Bits[UInt, 3]")
            unit = ctype_of(kind)
            integer = unit.integer if isinstance(unit, Enumeration) else unit
            if not isinstance(integer, Scalar) or integer.code not in "iu?":
                message = "a bit-field takes an integer type, Bool or an IntEnum class"
                raise TypeError(message)
            most = 1 if integer.code == "?" else 8 * integer.size
            return BitField(unit, _within("a bit-field of this type", width, 0, most, "bits"))

    @public("ipckit.structs")
    class Aligned:
        """`Aligned[Int, 64]`: a member that is aligned to 64 bytes; ``_Alignas(64) int x`` in C.

        Example:
            >>> from ipckit.structs import Aligned, Int, Struct
            >>> class Ring(Struct):
            ...     head: Int
            ...     tail: Aligned[Int, 64]
            >>> Ring.fields[1].offset, Ring.size
            (64, 128)
        """

        def __class_getitem__(cls, item: tuple[Any, int]) -> CType:
            form = "a type and a number of bytes, as in Aligned[Int, 64]"
            kind, alignment = _pair("Aligned", item, form)
            ctype = ctype_of(kind)
            if isinstance(ctype, (BitField, c_types.At)):
                message = "Aligned takes a type, not a bit-field or At"
                raise TypeError(message)
            return c_types.Aligned(ctype, checked_alignment("Aligned", alignment))

    @public("ipckit.structs")
    class At:
        """`At[Int, 6]`: a member at byte 6 of the struct, whatever its alignment.

        `At[Bits[UInt, 3], 6, 2]` is a bit-field that begins at bit 2 of byte 6.
        ``ipckit header --from`` writes it for a place that no rule of C gives.

        Example:
            >>> from ipckit.structs import At, Char, Int, Struct
            >>> class Frame(Struct):
            ...     kind: Char[2]
            ...     value: At[Int, 6]
            >>> Frame.fields[1].offset
            6
        """

        def __class_getitem__(cls, item: tuple[Any, ...]) -> CType:
            if not isinstance(item, tuple) or len(item) not in (2, 3):
                message = "At takes a type and a byte, as in At[Int, 6], and for Bits a bit"
                raise TypeError(message)
            ctype = ctype_of(item[0])
            byte = _within("At", item[1], 0, c_types.MAX_SIZE // 8, "bytes")
            bit = 0
            if len(item) == 3:  # noqa: PLR2004 - a type, a byte, a bit
                if not isinstance(ctype, BitField):
                    message = "only a bit-field can begin at a bit"
                    raise TypeError(message)
                bit = _within("a byte", item[2], 0, 7, "as a bit")
            return c_types.At(ctype, 8 * byte + bit)

    @public("ipckit.structs")
    class Anonymous:
        """`Anonymous[U]`: the members of the union or struct U are members of this struct too.

        It is the anonymous member of C11. The name of the annotation is no field.

        Example:
            >>> from ipckit.structs import Anonymous, Float, Int, Struct, Union
            >>> class Number(Union):
            ...     i: Int
            ...     f: Float
            >>> class Tagged(Struct):
            ...     kind: Int
            ...     _: Anonymous[Number]
            >>> Tagged(1, f=2.5).f
            2.5
        """

        def __class_getitem__(cls, item: Any) -> CType:
            ctype = ctype_of(item)
            if not isinstance(ctype, Nested):
                message = "Anonymous takes a Struct or Union class"
                raise TypeError(message)
            return Nested(ctype.struct, anonymous=True)

    @public("ipckit.structs")
    class Opaque:
        """`Opaque[8]`: 8 bytes of a type that Python can't read, such as a pointer of C.

        `Opaque[16, 16, "long double"]` adds an alignment in bytes, and the type in C. The value is
        bytes. A pointer is invalid in another process, and no function of ipckit follows it.

        Example:
            >>> from ipckit.structs import Int, Opaque, Struct
            >>> class Node(Struct):
            ...     value: Int
            ...     next: Opaque[8, 8, "struct node *"]
            >>> Node(1, bytes(8)).next
            b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'
        """  # noqa: D301 - the backslashes are those of a repr

        def __class_getitem__(cls, item: Any) -> CType:
            given: tuple[Any, ...] = item if isinstance(item, tuple) else (item,)
            if len(given) > 3:  # noqa: PLR2004 - a size, an alignment, a spelling
                message = "Opaque takes a size, an alignment and the type in C"
                raise TypeError(message)
            size, alignment, spelling = (*given, *(1, "")[len(given) - 1 :])
            return c_types.Opaque(
                _within("Opaque", size, 1, c_types.MAX_SIZE, "bytes"),
                checked_alignment("Opaque", alignment),
                str(spelling),
            )


def _pair(name: str, item: Any, form: str) -> tuple[Any, Any]:
    """Return what is between the brackets; raise TypeError if that is not two items."""
    if isinstance(item, tuple) and len(item) == 2:  # noqa: PLR2004 # pyright: ignore[reportUnknownArgumentType]
        return item  # pyright: ignore[reportUnknownVariableType]
    message = f"{name} takes {form}"
    raise TypeError(message)


def _within(what: str, value: object, least: int, most: int, unit: str) -> int:
    """Return a number in a range; raise InvalidArgument for another one."""
    number = int_argument(what, value)
    if not least <= number <= most:
        message = f"{what} takes {least} to {most} {unit}, not {number}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return number


def checked_size(value: object) -> int:
    """Return the least size of a struct in bytes; raise InvalidArgument if it is out of range."""
    return _within("size", value, 0, c_types.MAX_SIZE // 8, "bytes")


def checked_alignment(what: str, value: object) -> int:
    """Return an alignment in bytes; raise InvalidArgument if it is not a power of two."""
    number = _within(what, value, 1, 1 << 28, "bytes")
    if number & (number - 1):
        message = f"{what} takes a power of two, not {number}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return number
