"""Plan: the layout of a struct, which it can describe as a numpy dtype and as C text."""

from __future__ import annotations

import errno
import hashlib
import sys
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeAlias, final

from ipckit._core.cached import cached_property
from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit._payload.arrays import FlexibleArray
from ipckit._payload.c_types import MAX_SIZE, BitField, CType, Nested, unwrapped
from ipckit._payload.placement import Rules, bits_of, lay_out
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ipckit._native import Field

Endian: TypeAlias = Literal["native", "little", "big"]


class _NameAndPlace(NamedTuple):
    name: str
    offset: int
    size: int
    c_type: str


@public("ipckit.structs")
@final
class FieldInfo(_NameAndPlace):
    """One field of a struct: a tuple of its name, offset, size and C type.

    Attributes:
        name: its name.
        offset: bytes from the start of the struct. The offset of a bit-field is that of the unit of
            its type that contains it; in a packed struct without such a unit, that of the byte in
            which it begins.
        size: its size in bytes. The size of a flexible array member is 0.
        c_type: its C type, such as ``"char[32]"``.
        bits: the first bit of a bit-field, counted from `offset`, and its width in bits; None for
            any other field. In a big-endian struct, bit 0 is the highest bit of the first byte.

    Example:
        >>> from ipckit import Char, Int, Struct
        >>> class Stu(Struct):
        ...     name: Char[32]
        ...     age: Int
        >>> Stu.fields[1].name, Stu.fields[1].offset, Stu.fields[1].c_type
        ('age', 32, 'int')
    """

    bits: tuple[int, int] | None

    def __new__(
        cls, name: str, offset: int, size: int, c_type: str, bits: tuple[int, int] | None = None
    ) -> Self:
        """Create a field's description."""
        self = super().__new__(cls, name, offset, size, c_type)
        self.bits = bits  # not an item of the tuple, which had four items before bit-fields
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (*self, self.bits)

    def __repr__(self) -> str:
        bits = "" if self.bits is None else f", bits={self.bits}"
        return f"{super().__repr__()[:-1]}{bits})"


class Member(NamedTuple):
    """A member as it was declared: its name, its type, and its first bit in the struct."""

    name: str
    ctype: CType
    bit: int

    @property
    def offset(self) -> int:
        """Bytes from the start of the struct to the byte in which the member begins."""
        return self.bit // 8

    @property
    def kind(self) -> CType:
        """The type without `At` and `Aligned`."""
        return unwrapped(self.ctype)

    @property
    def inner(self) -> Plan | None:
        """The plan of an anonymous member, whose members are members of this struct too."""
        kind = self.kind
        if not (isinstance(kind, Nested) and kind.anonymous):
            return None
        found: Plan = kind.struct.__plan__
        return found


class Entry(NamedTuple):
    """A field of a Struct class: a member, or a member of an anonymous member.

    Attributes:
        name: its name.
        ctype: its type, without `At` and `Aligned`.
        bit: its first bit in the struct.
        swap: whether its bytes are in the byte order that this machine does not use.
        mode: how the constructor treats it, as in native/records/record.h.
    """

    name: str
    ctype: CType
    bit: int
    swap: bool
    mode: int


REQUIRED: Final = 0
OPTIONAL: Final = 1
KEYWORD_ONLY: Final = 2


class Plan:
    """The layout of one struct or union, the same as that of this machine's C compiler.

    Args:
        name: the struct's name in C.
        types: the type of each member, in order.
        rules: how the members are placed.
        endian: the byte order of its numbers; a nested struct keeps its own.

    Raises:
        InvalidArgument: `endian` or a rule is out of range, or the struct is too large, or two
            fields have the same name.
    """

    def __init__(
        self, name: str, types: Mapping[str, CType], rules: Rules, *, endian: Endian = "native"
    ) -> None:
        if endian not in ("native", "little", "big"):
            message = f"endian must be 'native', 'little' or 'big', not {endian!r}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self.name = name
        self.types = dict(types)
        self.rules = rules
        self.endian = endian
        self.swap = endian not in ("native", sys.byteorder)
        try:
            places = lay_out(types.values(), rules)
        except InvalidArgument as error:
            message = f"{name}: {error.strerror}"
            raise InvalidArgument(message, errno=errno.EINVAL) from None
        self.size, self.alignment = places.size, places.alignment
        if self.size > MAX_SIZE:
            message = f"{name} has {self.size} bytes; a struct has at most {MAX_SIZE}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        members = map(Member, types, types.values(), places.bits)
        self.members = tuple(m for m in members if bits_of(m.ctype) or m.ctype.flexible)
        self.entries = tuple(self._entries(0, REQUIRED))
        self._check_fields()

    def _check_fields(self) -> None:
        """Refuse two fields of one name, and a flexible array that is not the last member."""
        seen: set[str] = set()
        for entry in self.entries:
            if entry.name in seen:
                message = f"{self.name} has two fields named {entry.name!r}"
                raise InvalidArgument(message, errno=errno.EINVAL)
            seen.add(entry.name)
        for member in () if self.rules.union else self.members[:-1]:
            if member.ctype.flexible:
                message = f"{self.name}.{member.name}: a flexible array must be the last member"
                raise InvalidArgument(message, errno=errno.EINVAL)

    def _entries(self, base: int, mode: int) -> Iterator[Entry]:
        """Yield the fields, those of anonymous members included.

        Args:
            base: the bit of the outer struct at which this plan begins.
            mode: how the constructor of the outer struct treats these fields, at the least.
        """
        for index, member in enumerate(self.members):
            own = mode
            if self.rules.union:
                own = max(mode, KEYWORD_ONLY if index else OPTIONAL)
            if member.inner is not None:
                yield from member.inner._entries(base + member.bit, own)  # noqa: SLF001
            else:
                yield Entry(member.name, member.kind, base + member.bit, self.swap, own)

    def descriptors(self) -> tuple[Field, ...]:
        """Create the descriptor of each field."""
        return tuple(
            entry.ctype.bit_field(entry.name, entry.bit, swap=entry.swap)
            if isinstance(entry.ctype, BitField)
            else entry.ctype.field(entry.name, entry.bit // 8, swap=entry.swap)
            for entry in self.entries
        )

    @property
    def modes(self) -> bytes | None:
        """How the constructor treats each field; None if it needs a value for each."""
        modes = bytes(entry.mode for entry in self.entries)
        return modes if any(modes) else None

    @cached_property
    def flexible(self) -> bool:
        """Whether it has a flexible array member, or ends with a struct that has one."""
        return any(member.ctype.flexible for member in self.members)

    @property
    def end(self) -> int:
        """Bytes up to the end of the last field, without the padding after it."""
        return max((_end(entry) for entry in self.entries), default=0)

    @property
    def minimum(self) -> int:
        """The bytes of the shortest record: all fields, and no item of a flexible array."""
        return self.end if self.flexible else self.size

    def bytes_for(self, items: int) -> int:
        """Return the bytes of a record with a number of items in its flexible array.

        Raises:
            InvalidArgument: it has no flexible array member of its own, or the number is negative.
        """
        for entry in self.entries:
            if isinstance(entry.ctype, FlexibleArray) and items >= 0:
                return max(self.minimum, entry.bit // 8 + items * entry.ctype.item.size)
        message = f"{self.name} can't have {items} items in a flexible array"
        raise InvalidArgument(message, errno=errno.EINVAL)

    def measure(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> int:
        """Return the bytes of the record that a constructor creates from these arguments.

        Raises:
            TypeError: the value of a flexible array has no length.
        """
        size = self.minimum
        by_position = (entry for entry in self.entries if entry.mode != KEYWORD_ONLY)
        given = {entry.name: value for entry, value in zip(by_position, args, strict=False)}
        given.update(kwargs or {})
        for entry in self.entries:
            if entry.ctype.flexible and entry.name in given:
                size = max(size, entry.bit // 8 + _flexible_size(entry, given[entry.name]))
        return size

    @property
    def fields(self) -> tuple[FieldInfo, ...]:
        """The name, offset, size and C type of each field, in order."""
        return tuple(self._info(entry) for entry in self.entries)

    def _info(self, entry: Entry) -> FieldInfo:
        ctype = entry.ctype
        text = ctype.declare("").replace(" [", "[").strip()
        if not isinstance(ctype, BitField):
            return FieldInfo(entry.name, entry.bit // 8, ctype.size, text)
        first, offset = entry.bit % (8 * ctype.size), entry.bit // (8 * ctype.size) * ctype.size
        size = ctype.size
        if first + ctype.width > 8 * size or offset + size > self.size:
            offset, first = divmod(entry.bit, 8)
            size = (first + ctype.width + 7) // 8
        return FieldInfo(entry.name, offset, size, text, (first, ctype.width))

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the same bytes.

        numpy has no bit-fields: those that share bytes are one unsigned integer, or bytes if no
        integer has that size. Its name has all their names, with commas.
        """
        parts = _whole_bytes(self.entries)
        return np.dtype(
            {
                "names": [name for name, _, _ in parts],
                "formats": [dtype for _, _, dtype in parts],
                "offsets": [offset for _, offset, _ in parts],
                "itemsize": self.size,
            }
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the names, types, offsets, sizes and byte orders."""
        parts: list[str] = []
        for entry in self.entries:
            offset, first = divmod(entry.bit, 8)
            place = f"{offset}.{first}" if isinstance(entry.ctype, BitField) else f"{offset}"
            parts.append(f"{entry.name}@{place}:{entry.ctype.canonical(swap=entry.swap)}")
        text = ";".join([*parts, str(self.size)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _end(entry: Entry) -> int:
    """Return the first byte after a field; a flexible array ends where it begins."""
    kind = entry.ctype
    if isinstance(kind, Nested):
        inner: Plan = kind.struct.__plan__
        return entry.bit // 8 + inner.minimum
    return -(-(entry.bit + bits_of(kind)) // 8)


def _flexible_size(entry: Entry, value: Any) -> int:
    """Return the bytes of a value of a flexible array, or of a struct that ends with one.

    Raises:
        TypeError: the value has no length.
    """
    kind = entry.ctype
    try:
        return (
            kind.bytes_for(value) if isinstance(kind, FlexibleArray) else memoryview(value).nbytes
        )
    except TypeError:
        wanted = kind.struct.__name__ if isinstance(kind, Nested) else "a value with a length"
        message = f"field {entry.name!r} takes {wanted}, not {type(value).__name__}"
        raise TypeError(message) from None


def _whole_bytes(entries: Iterable[Entry]) -> list[tuple[str, int, np.dtype[Any]]]:
    """Return the name, offset and dtype of each field of the numpy dtype."""
    found: list[tuple[str, int, np.dtype[Any]]] = []
    bits: list[Entry] = []  # bit-fields that follow each other and share bytes
    for entry in entries:
        is_bits = isinstance(entry.ctype, BitField)
        if bits and not (is_bits and entry.bit // 8 < _end_of_bits(bits)):
            found.append(_joined(bits))
            bits = []
        if is_bits:
            bits.append(entry)
        elif not isinstance(entry.ctype, FlexibleArray):
            found.append((entry.name, entry.bit // 8, entry.ctype.dtype(swap=entry.swap)))
    return [*found, _joined(bits)] if bits else found


def _end_of_bits(bits: list[Entry]) -> int:
    return max(_end(entry) for entry in bits)


def _joined(bits: list[Entry]) -> tuple[str, int, np.dtype[Any]]:
    """Return the integer, or the bytes, that contain bit-fields."""
    start = min(entry.bit for entry in bits) // 8
    size = _end_of_bits(bits) - start
    native = np.dtype(f"u{size}" if size in (1, 2, 4, 8) else f"V{size}")
    name = ",".join(entry.name for entry in bits)
    return name, start, native.newbyteorder("S") if bits[0].swap else native
