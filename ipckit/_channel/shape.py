"""The size of a channel's memory, from the number and the size of its messages."""

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
    """The capacity of a channel, and the memory for it.

    Attributes:
        capacity: the maximum number of messages.
        item_size: the bytes of each message; 0 if messages differ in size.
        longest: the maximum bytes of a message.
        total: the bytes of the channel's memory, with its header.
    """

    capacity: int
    item_size: int
    longest: int
    total: int


def _units(length: int) -> int:
    """Return the units of memory that a message of `length` bytes takes, with its header."""
    if length < _LARGE:
        return -(-(_HEADER + length) // _UNIT)
    return -(-(_LARGE_HEADER + length) // (2 * _UNIT)) * 2


def shape_for(codec: Codec[Any], capacity: int, size: int | None) -> Shape:
    """Return the shape of a channel for the arguments of `Channel.create`.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: `capacity` or `size` is out of range, or there is no room for two messages.
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
        # The headers come on top, so that messages can use all of `size`.
        units, longest = -(-wanted // _UNIT) + 2 * capacity, wanted // 2
    if item > longest:
        message = f"size is {size}, which has no room for two messages of {item:,} bytes"
        raise InvalidArgument(message, errno=errno.EINVAL)
    total = native.CHANNEL_ARENA_START + (units + 64) * _UNIT
    return Shape(capacity, item, item or longest, total)
