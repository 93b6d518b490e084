"""The C types of fields: size, alignment, descriptor, numpy dtype and C declaration."""

from __future__ import annotations

import enum
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ipckit._core.lazy_numpy import np
from ipckit._native import RECORD_SIZE_MAX, Field

MAX_SIZE: Final = RECORD_SIZE_MAX


class StructClass(Protocol):
    """What a field needs to know of a Struct class that is nested in a struct.

    `StructType` in structs.py, which imports this module, has these members.
    """

    __name__: str
    __plan__: Any  # a Plan, which is made of the types below

    @property
    def flexible(self) -> bool:
        """Whether its last member is a flexible array."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the struct, with its padding."""
        ...

    @property
    def alignment(self) -> int:
        """The alignment of the struct in bytes."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the same bytes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that are equal in two programs if they agree on the layout."""
        ...


class CType(ABC):
    """A C type: its size and alignment in bytes on this machine.

    Attributes:
        size: bytes of a field of this type.
        alignment: the alignment in bytes.
        flexible: whether a field of this type is, or ends with, a flexible array member.
        number: whether the field is a number, so that an array of it is a numpy array.
    """

    size: int
    alignment: int
    flexible: bool = False
    number: bool = False

    # Here, because a dataclass would compile these for each type when ipckit is imported.

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    @abstractmethod
    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        """Create the descriptor that reads and writes the field at an offset of a record."""

    @abstractmethod
    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        """Return the numpy dtype of the same bytes."""

    @abstractmethod
    def canonical(self, *, swap: bool) -> str:
        """Describe the bytes, in the same text on every machine that reads them the same way."""

    @abstractmethod
    def declare(self, name: str) -> str:
        """Declare a variable of this type in C, without the semicolon."""


@dataclass(eq=False, repr=False)
class Scalar(CType):
    """A number or a truth value."""

    code: str
    size: int
    alignment: int
    c_name: str
    number = True

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


@dataclass(eq=False, repr=False)
class Text(CType):
    """UTF-8 text in a fixed number of bytes, up to the first NUL."""

    size: int
    alignment = 1

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "c", offset, self.size, swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002 - text has no byte order
        return np.dtype(f"S{self.size}")

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"c{self.size}"

    def declare(self, name: str) -> str:
        return f"char {name}[{self.size}]"


@dataclass(eq=False, repr=False)
class Enumeration(CType):
    """An integer whose values have names: a member of an IntEnum or IntFlag class.

    Attributes:
        integer: the integer type.
        members: the class.
    """

    integer: Scalar
    members: type[enum.IntEnum | enum.IntFlag]
    number = True

    @property
    def size(self) -> int:  # type: ignore[override] # derived here, stored in the others
        """Bytes of the integer."""
        return self.integer.size

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment of the integer in bytes."""
        return self.integer.alignment

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, self.integer.code, offset, self.size, swap, _EnumMembers(self.members))

    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        return self.integer.dtype(swap=swap)

    def canonical(self, *, swap: bool) -> str:
        return self.integer.canonical(swap=swap)

    def declare(self, name: str) -> str:
        return f"{self.members.__name__} {name}"


class _EnumMembers(dict[int, Any]):
    """The members of an enum by value. A value without a member, which C can store, is an int."""

    def __init__(self, members: type[enum.IntEnum | enum.IntFlag]) -> None:
        super().__init__((member.value, member) for member in members)
        self._flags = members if issubclass(members, enum.IntFlag) else None

    def __missing__(self, value: int) -> int:
        # For a negative number, an IntFlag class returns flags with other bits.
        return value if self._flags is None or value < 0 else self._flags(value)


@dataclass(eq=False, repr=False)
class BitField(CType):
    """A bit-field: some bits of an integer type.

    `Plan` creates its descriptor with `bit_field`, because it can begin inside a byte.

    Attributes:
        unit: the integer type.
        width: the number of its bits; 0 for the unnamed bit-field that only aligns the next one.
    """

    unit: Scalar | Enumeration
    width: int

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of the integer type."""
        return self.unit.size

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment of the integer type in bytes."""
        return self.unit.alignment

    @property
    def integer(self) -> Scalar:
        """The integer type, without the names of its values."""
        return self.unit.integer if isinstance(self.unit, Enumeration) else self.unit

    def bit_field(self, name: str, bit: int, *, swap: bool) -> Field:
        """Create the descriptor of the bit-field that begins at a bit of the record."""
        offset, first = divmod(bit, 8)
        size = (first + self.width + 7) // 8
        names = _EnumMembers(self.unit.members) if isinstance(self.unit, Enumeration) else None
        return Field(name, self.integer.code, offset, size, swap, names, first, self.width)

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return self.bit_field(name, 8 * offset, swap=swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        return self.unit.dtype(swap=swap)

    def canonical(self, *, swap: bool) -> str:
        big = (sys.byteorder == "big") != swap
        return f"{'>' if big else '<'}{self.integer.code}:{self.width}"

    def declare(self, name: str) -> str:
        return f"{self.unit.declare(name).rstrip()} : {self.width}"


@dataclass(eq=False, repr=False)
class Raw(CType):
    """A fixed number of bytes."""

    size: int
    alignment = 1

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "s", offset, self.size, swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002 - text has no byte order
        return np.dtype(f"V{self.size}")

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"s{self.size}"

    def declare(self, name: str) -> str:
        return f"unsigned char {name}[{self.size}]"


@dataclass(eq=False, repr=False)
class Opaque(CType):
    """Bytes of a type whose values have no meaning in Python, such as a pointer.

    Attributes:
        size: its bytes.
        alignment: its alignment in bytes.
        spelling: the type in C; empty for bytes of no type.
    """

    size: int
    alignment: int = 1
    spelling: str = ""

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return Field(name, "s", offset, self.size, swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002
        return np.dtype(f"V{self.size}")

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"o{self.size}"

    def declare(self, name: str) -> str:
        aligned = f" __attribute__((aligned({self.alignment})))" if self.alignment > 1 else ""
        note = f" /* {self.spelling.replace('*/', '* /')} */" if self.spelling else ""
        return f"unsigned char {name}[{self.size}]{aligned}{note}"


@dataclass(eq=False, repr=False)
class Wrapper(CType):
    """Another type with a rule of its own about the place of a member.

    Attributes:
        item: the other type.
    """

    item: CType

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of the other type."""
        return self.item.size

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment of the other type in bytes."""
        return self.item.alignment

    @property
    def flexible(self) -> bool:  # type: ignore[override]
        """As the other type."""
        return self.item.flexible

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        return self.item.field(name, offset, swap=swap)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:
        return self.item.dtype(swap=swap)

    def canonical(self, *, swap: bool) -> str:
        return self.item.canonical(swap=swap)

    def declare(self, name: str) -> str:
        return self.item.declare(name)


@dataclass(eq=False, repr=False)
class Aligned(Wrapper):
    """Another type with a larger alignment: ``_Alignas(n)`` in C.

    Attributes:
        least: the alignment in bytes that was asked for; in a packed struct this is the alignment.
    """

    least: int

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment in bytes, which is never less than that of the other type."""
        return max(self.least, self.item.alignment)

    def declare(self, name: str) -> str:
        return f"{self.item.declare(name)} __attribute__((aligned({self.least})))"


@dataclass(eq=False, repr=False)
class At(Wrapper):
    """Another type at a place that no rule gives.

    Attributes:
        bit: the first bit, counted from the start of the struct.
    """

    bit: int


def unwrapped(ctype: CType) -> CType:
    """Return a type without `At` and `Aligned`."""
    while isinstance(ctype, Wrapper):
        ctype = ctype.item
    return ctype


@dataclass(eq=False, repr=False)
class Nested(CType):
    """A struct inside a struct.

    Attributes:
        struct: the class of the inner struct.
        anonymous: whether its members are members of the outer struct, as in C11.
    """

    struct: StructClass
    anonymous: bool = False

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes of the struct."""
        return self.struct.size

    @property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment of the struct in bytes."""
        return self.struct.alignment

    @property
    def flexible(self) -> bool:  # type: ignore[override]
        """Whether the struct ends with a flexible array member."""
        return self.struct.flexible

    def field(self, name: str, offset: int, *, swap: bool) -> Field:
        # A struct with a flexible array member extends to the end of the outer one.
        plan = self.struct.__plan__
        return Field(name, "r", offset, plan.minimum, swap, self.struct)

    def dtype(self, *, swap: bool) -> np.dtype[Any]:  # noqa: ARG002 - text has no byte order
        return self.struct.dtype

    def canonical(self, *, swap: bool) -> str:  # noqa: ARG002
        return f"{{{self.struct.fingerprint}}}"

    def declare(self, name: str) -> str:
        return f"{self.struct.__name__} {name}"
