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


def shape_for(codec: Codec[Any], capacity: int, size: int | None) -> Shape:
    """Return the shape of a channel for the arguments of `Channel.create`.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: `capacity` or `size` is out of range, or there is no room for two messages.
    """
    capacity = _checked("capacity", capacity, native.CAPACITY_MAX)
    size = None if size is None else _checked("size", size, _SIZE_MAX)
    item = codec.size or 0
    if size is None and item:
        # A record can need padding for its alignment, and the end of the ring can need padding that
        # is as long as a record.
        each = native.channel_units(item)
        units, longest = capacity * (each + 2) + each, item
    else:
        wanted = DEFAULT_SIZE if size is None else size
        # The headers come on top, so that messages can use all of `size`.
        units, longest = -(-wanted // native.UNIT) + 2 * capacity, wanted // 2
    if item > longest:
        message = f"size must be {2 * item} or more, for two messages of {item:,} bytes, not {size}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    # At least 64 units, which the ring requires; see native/ring/open.h.
    total = native.CHANNEL_ARENA_START + (units + 64) * native.UNIT
    return Shape(capacity, item, item or longest, total)


def _checked(name: str, value: int, largest: int) -> int:
    if not 1 <= (number := int_argument(name, value)) <= largest:
        message = f"{name} must be 1 to {largest}, not {value}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return number
