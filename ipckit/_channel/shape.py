"""How a channel's memory is divided: how many messages, of how many bytes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from ipckit._payload.codecs import Codec

_UNIT: Final = 32
_HEADER: Final = 16
_LARGE: Final = 1024
_LARGE_HEADER: Final = 64
_CAPACITY_MAX: Final = 2**23 - 1
_SIZE_MAX: Final = 2**40 - 1
DEFAULT_SIZE: Final = 1 << 24


class Shape(NamedTuple):
    """How a channel's memory is divided.

    Attributes:
        capacity: messages.
        item_size: bytes of every message, or 0 where they differ.
        longest: bytes of a message at most.
        total: bytes of the memory.
    """

    capacity: int
    item_size: int
    longest: int
    total: int


def _units(length: int) -> int:
    if length < _LARGE:
        return -(-(_HEADER + length) // _UNIT)
    return -(-(_LARGE_HEADER + length) // (2 * _UNIT)) * 2


def shape_for(codec: Codec[Any], capacity: int, size: int | None) -> Shape:
    """How much memory a channel takes.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: one is out of range, or two messages do not fit.
    """
    for name, value, most in (("capacity", capacity, _CAPACITY_MAX), ("size", size, _SIZE_MAX)):
        if value is None and name == "size":
            continue
        if not 1 <= int_argument(name, value) <= most:
            message = f"{name} is {value}; it takes 1 to {most}"
            raise InvalidArgument(message, errno=errno.EINVAL)
    capacity = int_argument("capacity", capacity)
    size = None if size is None else int_argument("size", size)
    item = codec.size or 0
    if size is None and item:
        units, longest = capacity * (_units(item) + 2) + _units(item), item
    else:
        wanted = DEFAULT_SIZE if size is None else size
        # Room for the headers on top, so that the size is what messages may take.
        units, longest = -(-wanted // _UNIT) + 2 * capacity, wanted // 2
    if item > longest:
        message = f"size is {size}; two messages of {item:,} bytes must fit"
        raise InvalidArgument(message, errno=errno.EINVAL)
    total = native.CHANNEL_ARENA_START + (units + 64) * _UNIT
    return Shape(capacity, item, item or longest, total)
