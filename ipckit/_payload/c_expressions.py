"""Evaluate integer constant expressions of C, in the types that C gives them."""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ipckit._payload.c_types import Scalar

_INT_BITS: Final = 32
_LONG_BITS: Final = 64
_INTEGER: Final = re.compile(r"(0[xX][0-9a-fA-F]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)([uUlL]*)")
_SUFFIXES: Final = frozenset({"", "u", "l", "ul", "lu", "ll", "ull", "llu"})
_ESCAPES: Final = {
    "n": 10, "t": 9, "r": 13, "0": 0, "a": 7, "b": 8, "f": 12, "v": 11,
    "\\": 92, "'": 39, '"': 34, "?": 63,
}  # fmt: skip


class Number(NamedTuple):
    """A value of an integer type, with the type's width in bits and its signedness."""

    value: int
    bits: int = _INT_BITS
    signed: bool = True


def fits(value: int, bits: int, *, signed: bool) -> bool:
    """Return whether a value is in the range of an integer type."""
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1) if signed else 0 <= value < 1 << bits


def converted(number: Number, bits: int, *, signed: bool) -> Number:
    """Convert a value to another type, which keeps its low bits."""
    value = number.value & ((1 << bits) - 1)
    if signed and value >> (bits - 1):
        value -= 1 << bits
    return Number(value, bits, signed)


def cast(number: Number, scalar: Scalar) -> Number | None:
    """Convert a value to a scalar type; None if that is not an integer type."""
    if scalar.code == "?":
        return Number(int(number.value != 0), 8, signed=False)
    if scalar.code not in "iu":
        return None
    return converted(number, 8 * scalar.size, signed=scalar.code == "i")


def smallest(value: int) -> Number | None:
    """Give a value the first type that has the range: int, unsigned int, long, unsigned long."""
    for bits in (_INT_BITS, _LONG_BITS):
        for signed in (True, False):
            if fits(value, bits, signed=signed):
                return Number(value, bits, signed)
    return None


def integer(text: str) -> Number | None:
    """Parse an integer constant such as ``0x80u``; None if it is invalid or out of range."""
    found = _INTEGER.fullmatch(text)
    suffix = found[2].lower() if found else ""
    if found is None or suffix not in _SUFFIXES or "lL" in found[2] or "Ll" in found[2]:
        return None
    digits = found[1]
    octal = digits.isdigit() and digits.startswith("0")
    value = int(digits, 8 if octal else 0)
    for bits in (_INT_BITS, _LONG_BITS):
        if "l" in suffix and bits == _INT_BITS:
            continue
        if "u" not in suffix and fits(value, bits, signed=True):
            return Number(value, bits)
        # A decimal constant without a u is never unsigned.
        unsigned = "u" in suffix or not digits.isdigit() or octal
        if unsigned and fits(value, bits, signed=False):
            return Number(value, bits, signed=False)
    return None


def character(text: str) -> Number | None:
    """Parse a character constant such as ``'a'``; None if its value depends on the compiler."""
    inner = text[1:-1]
    if len(inner) == 1 and inner.isascii() and inner != "\\":
        return Number(ord(inner))
    if len(inner) == 2 and inner[0] == "\\" and inner[1] in _ESCAPES:  # noqa: PLR2004 - \ and one
        return Number(_ESCAPES[inner[1]])
    return None


def _promoted(number: Number) -> Number:
    return Number(number.value) if number.bits < _INT_BITS else number


def unary(op: str, number: Number) -> Number | None:
    """Evaluate a unary operator; None if it is not supported or overflows."""
    if op == "!":
        return Number(int(number.value == 0))
    number = _promoted(number)
    if op not in ("-", "+", "~"):
        return None
    value = {"-": -number.value, "+": number.value, "~": ~number.value}[op]
    return _result(value, number)


def _result(value: int, kind: Number) -> Number | None:
    """Give a result its type: unsigned types wrap, and overflow of a signed type gives None."""
    if not kind.signed:
        return converted(Number(value), kind.bits, signed=False)
    return Number(value, kind.bits) if fits(value, kind.bits, signed=True) else None


def _quotient(left: int, right: int) -> int:
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _remainder(left: int, right: int) -> int:
    return left - right * _quotient(left, right)


_ARITHMETIC: Final[Mapping[str, Callable[[int, int], int]]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "&": int.__and__,
    "|": int.__or__,
    "^": int.__xor__,
    "/": _quotient,
    "%": _remainder,
}
_COMPARISONS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def common(left: Number, right: Number) -> tuple[Number, Number]:
    """Convert two operands to their common type (C's usual arithmetic conversions)."""
    left, right = _promoted(left), _promoted(right)
    bits = max(left.bits, right.bits)
    signed = all(each.signed for each in (left, right) if each.bits == bits)
    return converted(left, bits, signed=signed), converted(right, bits, signed=signed)


def binary(op: str, left: Number, right: Number) -> Number | None:
    """Evaluate a binary operator; None if it is not supported, or undefined in C."""
    if op in ("<<", ">>"):
        left = _promoted(left)
        if not 0 <= right.value < left.bits:
            return None
        if op == ">>":
            return left._replace(value=left.value >> right.value)
        # gcc drops the high bits, of signed numbers too.
        return converted(Number(left.value << right.value), left.bits, signed=left.signed)
    left, right = common(left, right)
    if op in _COMPARISONS:
        return Number(int(_COMPARISONS[op](left.value, right.value)))
    if op not in _ARITHMETIC or (op in "/%" and right.value == 0):
        return None
    return _result(_ARITHMETIC[op](left.value, right.value), left)
