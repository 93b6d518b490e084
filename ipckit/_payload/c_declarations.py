"""What a C compiler says about structs: plain data, without any type of ipckit.

`c_reader.read` returns these descriptions. They can be compared, hashed and pickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Location:
    """Where the text, or a file that it includes, declares something.

    Attributes:
        file: the name of the file, as the compiler writes it in its messages.
        line: the number of the line, from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class ScalarType:
    """A number, a truth value or a plain `char`.

    Attributes:
        name: the name of the type in C. A typedef of the standard, such as `uint32_t` or `size_t`,
            is named as the text names it; any other type by its own name, such as `unsigned int`.
        kind: what the bytes mean. `signed char` is an int and `unsigned char` a uint of size 1.
        size: bytes.
        alignment: bytes, for this use of the type: a typedef can have an alignment of its own.
    """

    name: str
    kind: Literal["int", "uint", "float", "bool", "char"]
    size: int
    alignment: int


@dataclass(frozen=True)
class EnumType:
    """An enum.

    Attributes:
        name: the name of its typedef, or its tag, or `OUTER_MEMBER` if it has neither.
        integer: the integer type that the compiler chose for the values.
        members: name and value of each enumerator, in order. Two can have the same value.
    """

    name: str
    integer: ScalarType
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class ArrayType:
    """An array.

    Attributes:
        item: the type of an item.
        count: the number of items. None for a flexible array member, which is the last member of a
            struct or a member of a union and is written `[]` or `[0]`.
    """

    item: Type
    count: int | None


@dataclass(frozen=True)
class OpaqueType:
    """A type that Python can't read: bytes of a known size.

    Attributes:
        spelling: the type in C.
        size: bytes.
        alignment: bytes.
        why: why Python can't read it, in a few words.
    """

    spelling: str
    size: int
    alignment: int
    why: str


@dataclass(frozen=True)
class Member:
    """A member of a struct or a union.

    Attributes:
        name: the member's name; "" if it is anonymous.
        type: the member's type. For a bit-field, the declared type.
        bit_offset: the first bit, from the start of the record that has the member.
        width: the number of bits of a bit-field, or None. On a little-endian target, bit 0 of a
            byte is its lowest; on a big-endian target, its highest.
        anonymous: the members of this struct or union are members of the outer record too.
        location: where the member is declared.
    """

    name: str
    type: Type
    bit_offset: int
    width: int | None
    anonymous: bool
    location: Location


@dataclass(frozen=True)
class RecordType:
    """A struct or a union, with the compiler's layout.

    A record that is used twice is one object. Unnamed bit-fields are not among the members.

    Attributes:
        name: the name of the typedef that declares it, or its tag, or `OUTER_MEMBER` if it has
            neither.
        tag: the name after `struct` or `union`; "" if there is none.
        kind: `"struct"` or `"union"`.
        size: bytes, as `sizeof` says.
        alignment: bytes, as `_Alignof` says.
        members: the named and the anonymous members, in order.
        location: where it is declared.
    """

    name: str
    tag: str
    kind: Literal["struct", "union"]
    size: int
    alignment: int
    members: tuple[Member, ...] = field(hash=False)  # location and size tell records apart
    location: Location


Type: TypeAlias = ScalarType | EnumType | ArrayType | RecordType | OpaqueType


@dataclass(frozen=True)
class Declarations:
    """What `c_reader.read` found.

    Attributes:
        records: the structs and unions that were asked for, in the order of the text.
        byte_order: the byte order of the target.
        files: the absolute path of each file that the text includes, in the order of the first
            inclusion. A description is valid while they and the text do not change.
        problems: what is wrong with the text. The records are then incomplete.
    """

    records: tuple[RecordType, ...]
    byte_order: Literal["little", "big"]
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()
