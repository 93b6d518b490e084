"""The size of a channel's memory, from the number and the size of its messages."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from ipckit._payload.codecs import Codec

_SIZE_MAX: Final = 2**40 - 1
DEFAULT_SIZE: Final = 1 << 24
_DEFAULT_CAPACITY: Final = 1024
_DEFAULT_TOTAL: Final = 1 << 26


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


def shape_for(codec: Codec[Any], capacity: int | None, size: int | None) -> Shape:
    """Return the shape of a channel for the arguments of `Channel.create`.

    If neither is given, the channel has 1024 messages, or fewer if those would need more than 64
    MiB: 1024 video frames would fill the memory of most machines.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: `capacity` or `size` is out of range, or there is no room for two messages.
    """
    item = codec.size or 0
    if capacity is not None:
        capacity = _checked("capacity", capacity, native.CAPACITY_MAX)
    else:
        capacity = _default_capacity(item) if size is None else _DEFAULT_CAPACITY
    size = None if size is None else _checked("size", size, _SIZE_MAX)
    if size is None and item:
        units, longest = _units(capacity, item), item
    else:
        wanted = DEFAULT_SIZE if size is None else size
        # The headers come on top, so that messages can use all of `size`.
        units, longest = -(-wanted // native.UNIT) + 2 * capacity, wanted // 2
    if item > longest:
        message = f"size must be {2 * item} or more, for two messages of {item:,} bytes, not {size}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return Shape(capacity, item, item or longest, _total(units))


def _units(capacity: int, item: int) -> int:
    """Return the units of memory for so many messages of `item` bytes.

    A record can need padding for its alignment, and the end of the ring can need padding that is as
    long as a record.
    """
    each: int = native.channel_units(item)
    return capacity * (each + 2) + each


def _total(units: int) -> int:
    """Return the bytes of a channel with so many units of memory for messages."""
    # At least 64 units, which the ring requires; see native/ring/open.h.
    return native.CHANNEL_ARENA_START + (units + 64) * native.UNIT


def _default_capacity(item: int) -> int:
    """Return the number of messages of `item` bytes that need at most `_DEFAULT_TOTAL` bytes."""
    if _total(_units(_DEFAULT_CAPACITY, item)) <= _DEFAULT_TOTAL:
        return _DEFAULT_CAPACITY
    room = _DEFAULT_TOTAL - _total(_units(0, item))
    return max(1, room // (_total(_units(1, item)) - _total(_units(0, item))))


def _checked(name: str, value: int, largest: int) -> int:
    if not 1 <= (number := int_argument(name, value)) <= largest:
        message = f"{name} must be 1 to {largest}, not {value}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return number
