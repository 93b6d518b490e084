"""Integer constant expressions of C, worked out in the types that C has for them."""

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
    """A value of an integer type: its bits, and whether it has a sign."""

    value: int
    bits: int = _INT_BITS
    signed: bool = True


def fits(value: int, bits: int, *, signed: bool) -> bool:
    """Whether an integer type holds a value."""
    return -(1 << (bits - 1)) <= value < 1 << (bits - 1) if signed else 0 <= value < 1 << bits


def converted(number: Number, bits: int, *, signed: bool) -> Number:
    """The value in another type, which takes its low bits."""
    value = number.value & ((1 << bits) - 1)
    if signed and value >> (bits - 1):
        value -= 1 << bits
    return Number(value, bits, signed)


def cast(number: Number, scalar: Scalar) -> Number | None:
    """The value as a scalar type; None for what is no integer type."""
    if scalar.code == "?":
        return Number(int(number.value != 0), 8, signed=False)
    if scalar.code not in "iu":
        return None
    return converted(number, 8 * scalar.size, signed=scalar.code == "i")


def smallest(value: int) -> Number | None:
    """A value in the first of int, unsigned int, long and unsigned long that holds it."""
    for bits in (_INT_BITS, _LONG_BITS):
        for signed in (True, False):
            if fits(value, bits, signed=signed):
                return Number(value, bits, signed)
    return None


def integer(text: str) -> Number | None:
    """What an integer constant such as ``0x80u`` is; None for what has no value here."""
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
    """What a character constant such as ``'a'`` is; None for what depends on the compiler."""
    inner = text[1:-1]
    if len(inner) == 1 and inner.isascii() and inner != "\\":
        return Number(ord(inner))
    if len(inner) == 2 and inner[0] == "\\" and inner[1] in _ESCAPES:  # noqa: PLR2004 - \ and one
        return Number(_ESCAPES[inner[1]])
    return None


def _promoted(number: Number) -> Number:
    return Number(number.value) if number.bits < _INT_BITS else number


def unary(op: str, number: Number) -> Number | None:
    """``-x`` and its like; None for what is not worked out."""
    if op == "!":
        return Number(int(number.value == 0))
    number = _promoted(number)
    if op not in ("-", "+", "~"):
        return None
    value = {"-": -number.value, "+": number.value, "~": ~number.value}[op]
    return _result(value, number)


def _result(value: int, kind: Number) -> Number | None:
    """A value in a type: unsigned ones wrap, and signed ones have no value beyond their range."""
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
    """Two operands in the type that C works out their sum in."""
    left, right = _promoted(left), _promoted(right)
    bits = max(left.bits, right.bits)
    signed = all(each.signed for each in (left, right) if each.bits == bits)
    return converted(left, bits, signed=signed), converted(right, bits, signed=signed)


def binary(op: str, left: Number, right: Number) -> Number | None:
    """``x + y`` and its like; None for what is not worked out, or has no value in C."""
    if op in ("<<", ">>"):
        left = _promoted(left)
        if not 0 <= right.value < left.bits:
            return None
        if op == ">>":
            return left._replace(value=left.value >> right.value)
        # As gcc has it: bits go out at the top, of signed numbers too.
        return converted(Number(left.value << right.value), left.bits, signed=left.signed)
    left, right = common(left, right)
    if op in _COMPARISONS:
        return Number(int(_COMPARISONS[op](left.value, right.value)))
    if op not in _ARITHMETIC or (op in "/%" and right.value == 0):
        return None
    return _result(_ARITHMETIC[op](left.value, right.value), left)
