"""Plan: the layout of a struct, which it can describe as a numpy dtype and as C text."""

from __future__ import annotations

import errno
import hashlib
import re
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, final

from ipckit._core.lazy_numpy import np
from ipckit._core.public import public
from ipckit._payload.c_types import MAX_SIZE, ArrayOf, CType, Nested, Scalar
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ipckit._native import Field

Endian: TypeAlias = Literal["native", "little", "big"]

_HEADERS: Final = {"bool": "stdbool.h", "size_t": "stddef.h", "ssize_t": "sys/types.h"}
_C_KEYWORDS: Final = re.compile(
    "auto|bool|break|case|char|const|continue|default|do|double|else|enum|extern|false|float|for|"
    "goto|if|inline|int|long|register|restrict|return|short|signed|sizeof|static|struct|switch|"
    "true|typedef|union|unsigned|void|volatile|while"
)
_C_NAME: Final = re.compile("[A-Za-z_][A-Za-z_0-9]*")


@public("ipckit.structs")
@final
class FieldInfo(NamedTuple):
    """One field of a struct.

    Attributes:
        name: its name.
        offset: bytes from the start of the struct.
        size: its size in bytes.
        c_type: its C type, such as ``"char[32]"``.
    """

    name: str
    offset: int
    size: int
    c_type: str


class Member(NamedTuple):
    """A field's name, type and offset in bytes."""

    name: str
    ctype: CType
    offset: int


def _round_up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


class Plan:
    """The layout of one struct, the same as that of this machine's C compiler.

    Args:
        name: the struct's name in C.
        types: the type of each field, in order.
        packed: whether it has no padding.
        endian: the byte order of its numbers; a nested struct keeps its own.

    Raises:
        InvalidArgument: `endian` is another value, or the struct is too large.
    """

    def __init__(
        self, name: str, types: Mapping[str, CType], *, packed: bool, endian: Endian
    ) -> None:
        if endian not in ("native", "little", "big"):
            message = f"endian must be 'native', 'little' or 'big', not {endian!r}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        self.name = name
        self.packed = packed
        self.swap = endian not in ("native", sys.byteorder)
        self.alignment = 1
        members: list[Member] = []
        offset = 0
        for field_name, ctype in types.items():
            alignment = 1 if packed else ctype.alignment
            self.alignment = max(self.alignment, alignment)
            offset = _round_up(offset, alignment)
            members.append(Member(field_name, ctype, offset))
            offset += ctype.size
        self.members = tuple(members)
        self.size = _round_up(offset, self.alignment)
        if self.size > MAX_SIZE:
            message = f"{name} has {self.size} bytes; a struct has at most {MAX_SIZE}"
            raise InvalidArgument(message, errno=errno.EINVAL)

    def descriptors(self) -> tuple[Field, ...]:
        """Create the descriptor of each field."""
        return tuple(
            member.ctype.field(member.name, member.offset, swap=self.swap)
            for member in self.members
        )

    @property
    def fields(self) -> tuple[FieldInfo, ...]:
        """The name, offset, size and C type of each field, in order."""
        return tuple(
            FieldInfo(name, offset, ctype.size, ctype.declare("").replace(" [", "[").rstrip())
            for name, ctype, offset in self.members
        )

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of the same bytes."""
        return np.dtype(
            {
                "names": [member.name for member in self.members],
                "formats": [member.ctype.dtype(swap=self.swap) for member in self.members],
                "offsets": [member.offset for member in self.members],
                "itemsize": self.size,
            }
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over the names, types, offsets, sizes and byte orders."""
        parts = [
            f"{name}@{offset}:{ctype.canonical(swap=self.swap)}"
            for name, ctype, offset in self.members
        ]
        text = ";".join([*parts, str(self.size)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def c_declaration(self) -> str:
        """Declare the struct and its nested structs in C.

        Raises:
            InvalidArgument: a name is not valid in C, or two structs have the same name.
        """
        plans: dict[str, Plan] = {}
        for plan in self.inner_first():
            known = plans.setdefault(plan.name, plan)
            if known is not plan:
                message = f"two structs are named {plan.name!r}, which C does not allow"
                raise InvalidArgument(message, errno=errno.EINVAL)
        used = {_header(member.ctype) for plan in plans.values() for member in plan.members}
        headers = [f"#include <{header}>\n" for header in sorted(used - {""})]
        return "\n".join(["".join(headers)] * bool(headers) + [p.typedef() for p in plans.values()])

    def inner_first(self) -> Iterator[Plan]:
        """Yield the plans of nested structs, each before those that contain it; this one last."""
        for member in self.members:
            inner = _innermost(member.ctype)
            if isinstance(inner, Nested):
                plan: Plan = inner.struct.__plan__
                yield from plan.inner_first()
        yield self

    def typedef(self) -> str:
        """Declare this struct in C, without its nested structs."""
        packed = "__attribute__((packed)) " if self.packed else ""
        lines = [f"typedef struct {packed}{checked_c_name(self.name)} {{"]
        for name, ctype, _ in self.members:
            inner = _innermost(ctype)
            swapped = self.swap and isinstance(inner, Scalar) and inner.size > 1
            order = "little" if sys.byteorder == "big" else "big"
            note = f" /* {order}-endian */" if swapped else ""
            lines.append(f"    {ctype.declare(checked_c_name(name))};{note}")
        return "\n".join([*lines, f"}} {self.name};\n"])


def _innermost(ctype: CType) -> CType:
    return ctype.innermost if isinstance(ctype, ArrayOf) else ctype


def _header(ctype: CType) -> str:
    inner = _innermost(ctype)
    if not isinstance(inner, Scalar):
        return ""
    fixed_width = "stdint.h" if inner.c_name.endswith("_t") else ""
    return _HEADERS.get(inner.c_name, fixed_width)


def checked_c_name(name: str) -> str:
    """Return the name; raise InvalidArgument if it is not valid in C."""
    if not _C_NAME.fullmatch(name) or _C_KEYWORDS.fullmatch(name):
        message = f"{name!r} is not a valid name in C"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return name
