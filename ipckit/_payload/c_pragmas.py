"""Find the pragmas of a C text that gcc and clang treat differently.

libclang reads the text, and a program that shares the struct may be compiled by gcc. Both follow
``#pragma pack(n)`` between two declarations. The others here change the layout or the byte order in
one of them only, and none of them is an error in either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

NO_STORAGE_ORDER: Final = (
    "scalar_storage_order changes the byte order, and libclang does not know it; use endian="
)
_COMMENT: Final = rb"(?:/\*.*?\*/|[ \t])*"
_PRAGMA: Final = re.compile(
    rb"^" + _COMMENT + rb"(?:\#|%:)" + _COMMENT + rb"pragma[ \t]+(?P<line>[^\n]*)"
    rb'|_Pragma[ \t]*\([ \t]*"(?P<operator>[^"\n]*)"',
    re.MULTILINE,
)
_REMARK: Final = re.compile(rb"/\*.*?\*/|//.*|/\*.*")
_OF_ONE_COMPILER: Final = re.compile(
    rb"(scalar_storage_order|ms_struct|options[ \t]+align|align[ \t]*\()"
)
_PACK: Final = re.compile(rb"pack\b[ \t]*(.*)")
_PLAIN: Final = re.compile(
    rb"\([ \t]*(?:(?:0|1|2|4|8|16)?|show|"
    rb"push(?:[ \t]*,[ \t]*[A-Za-z_]\w*)?(?:[ \t]*,[ \t]*(?:1|2|4|8|16))?|"
    rb"pop(?:[ \t]*,[ \t]*[A-Za-z_]\w*)?)[ \t]*\)"
)
_DEPTH: Final = re.compile(rb"\([ \t]*(push|pop)\b(?![ \t]*,[ \t]*[A-Za-z_])")
_LABEL: Final = re.compile(rb"\([ \t]*(?:push|pop)[ \t]*,[ \t]*([A-Za-z_]\w*)")


class Pragma(NamedTuple):
    """A pragma that matters for the layout.

    Attributes:
        start: where it begins in the text, in bytes.
        end: where it ends.
        problem: why it is refused; "" if it is ``#pragma pack`` as both compilers read it.
        is_directive: whether it is not written ``_Pragma("...")``.
        depth: 1 if it pushes a packing, -1 if it pops one, 0 for another.
    """

    start: int
    end: int
    problem: str
    is_directive: bool
    depth: int = 0


def pragmas(data: bytes) -> list[Pragma]:
    """Return the pragmas of a text that change layouts, whether they are in effect or not."""
    found: list[Pragma] = []
    if b"ragma" not in data:
        return found
    for each in _PRAGMA.finditer(data):
        operator = each["line"] is None
        written = _REMARK.sub(b" ", each["operator"] if operator else each["line"]).strip()
        pack = _PACK.match(written)
        problem = ""
        if other := _OF_ONE_COMPILER.match(written):
            name = other[1].rstrip(b" \t(").decode()
            problem = f"#pragma {name} means something in one compiler only; leave it out"
            if name == "scalar_storage_order":
                problem = NO_STORAGE_ORDER
        elif pack is None:
            continue
        elif not _PLAIN.fullmatch(pack[1]) or _is_macro(pack[1], data):
            problem = (
                f"compilers disagree about #pragma {written.decode(errors='replace')}; "
                "write #pragma pack(push, 2) or another number, and #pragma pack(pop)"
            )
        pushed = _DEPTH.match(b"" if pack is None else pack[1])
        depth = 0 if pushed is None else 1 if pushed[1] == b"push" else -1
        found.append(Pragma(each.start(), each.end(), problem, not operator, depth))
    return found


def keep_packing(inside: Iterable[Pragma]) -> bool:
    """Return whether the packing after some pragmas is the one before them.

    In a struct, gcc takes the packing at its closing brace, and clang at its opening one.
    """
    depth = 0
    for each in inside:
        depth += each.depth
        if depth < 0 or not (each.depth or depth):
            return False
    return depth == 0


def _is_macro(arguments: bytes, data: bytes) -> bool:
    """Return whether a label is the name of a macro, which clang replaces and gcc does not."""
    label = _LABEL.match(arguments)
    return label is not None and re.search(rb"\bdefine[ \t]+" + label[1] + rb"\b", data) is not None
