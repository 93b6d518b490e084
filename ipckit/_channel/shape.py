"""The size of a channel's memory, from the number and the size of its messages."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from ipckit._payload.codec import Codec

_SIZE_MAX: Final = 2**40 - 1
DEFAULT_SIZE: Final = 1 << 24
DEFAULT_CAPACITY: Final = 1024
DEFAULT_TOTAL: Final = 1 << 26
# Short messages that can be taken and not acknowledged: the first number, or more if they need only
# that many bytes.
_TAKEN, _TAKEN_BYTES = 1024, 1 << 22
_UNITS_MIN: Final = 64
LINE: Final = 64
_PAGE: Final = 4096
# A search for free granules reads one word for each. So a large pool has larger ones.
_GRANULES_MAX: Final = 1 << 16
_GRANULES_MIN: Final = 16


class Shape(NamedTuple):
    """The memory of a channel; docs/layout.md explains it.

    Attributes:
        units: the units of the ring, which has the short messages.
        granules: the granules of the pool, which has the long ones in blocks.
        granule: the bytes of a granule.
        capacity: the maximum number of messages.
        item_size: the bytes of each message; 0 if messages differ in size.
        longest: the maximum bytes of a message.
    """

    units: int
    granules: int
    granule: int
    capacity: int
    item_size: int
    longest: int

    @property
    def total(self) -> int:
        """The bytes of the channel's memory, with its header."""
        found: int = native.channel_bytes(self.units, self.granules, self.granule)
        return found


def shape_for(codec: Codec[Any], capacity: int | None, size: int | None) -> Shape:
    """Return the shape of a channel for the arguments of `Channel.create`.

    If neither is given, the channel has 1024 messages, or fewer if those would need more than 64
    MiB: 1024 video frames would fill the memory of most machines.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: `capacity` or `size` is out of range, or there is no room for two messages.
    """
    item = codec.size or 0
    capacity = checked_capacity(capacity)
    size = checked_size(size)
    if item > native.INLINE_MAX:
        return _of_blocks(item, capacity, size)
    capacity = DEFAULT_CAPACITY if capacity is None else capacity
    if not item:
        return _of_any_size(capacity, DEFAULT_SIZE if size is None else size)
    if size is not None and size < 2 * item:
        raise too_small(item, size)
    return _of_items(item, capacity, size)


def _of_blocks(item: int, capacity: int | None, size: int | None) -> Shape:
    """Return the shape for long messages of one size: each has a block of its own.

    One block more than the capacity lets a sender write while a receiver reads.
    """
    granule = rounded_up(item, LINE)
    if size is not None and size < 2 * item:
        raise too_small(item, size)
    if size is not None:
        blocks = size // item
        capacity = min(DEFAULT_CAPACITY, blocks) if capacity is None else capacity
    else:
        capacity = _default_blocks(granule) - 1 if capacity is None else capacity
        blocks = capacity + 1
    if blocks >= native.GRANULES_MAX:
        most = native.GRANULES_MAX * item - 1
        message = f"size must be {most} or less for messages of {item:,} bytes, not {size}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    units = _inline_units(native.INLINE_MAX, capacity)
    return Shape(units, blocks, granule, capacity, item, item)


def _default_blocks(granule: int) -> int:
    """Return the number of blocks that need at most `DEFAULT_TOTAL` bytes with the header."""
    units = _inline_units(native.INLINE_MAX, 0)
    count = 4096  # a multiple of what fills whole pages of block words
    few, many = Shape(units, 0, 0, 0, 0, 0), Shape(units, count, granule, 0, 0, 0)
    each = (many.total - few.total) // count + native.UNIT
    return max(2, min(DEFAULT_CAPACITY + 1, (DEFAULT_TOTAL - few.total - _PAGE) // each))


def _of_items(item: int, capacity: int, size: int | None) -> Shape:
    """Return the shape for short messages of one size, which lie in the ring.

    The pool has room for the messages that were taken and not acknowledged.
    """
    each: int = native.channel_units(item)
    units = capacity * each if size is None else -(-size // native.UNIT) + 2 * capacity
    granule = rounded_up(item, LINE)
    blocks = min(capacity, max(_TAKEN, _TAKEN_BYTES // granule)) + 1
    return Shape(_inline_units(item, units), blocks, granule, capacity, item, item)


def _of_any_size(capacity: int, size: int) -> Shape:
    """Return the shape for messages that differ in size.

    The ring has room for `capacity` short messages, or for `size` bytes of them, and the pool for
    `size` bytes of long ones.
    """
    each: int = native.channel_units(native.INLINE_MAX)
    inline = min(capacity * each, -(-size // native.UNIT) + 2 * capacity)
    granules, granule = pool_for(size)
    # One more, which senders leave to receivers that take short messages (spare_granules in C).
    granules += 1
    units = _inline_units(native.INLINE_MAX, inline)
    return Shape(units, granules, granule, capacity, 0, size // 2)


def pool_for(size: int) -> tuple[int, int]:
    """Return the number of granules of a pool for `size` bytes, and the bytes of one."""
    granule = _PAGE
    while size > granule * _GRANULES_MAX:
        granule *= 2
    return max(-(-size // granule), _GRANULES_MIN), granule


def _inline_units(longest: int, units: int) -> int:
    """Return the units of a ring with room for `units` of messages of up to `longest` bytes.

    The end of the ring can need padding that is as long as a record. The ring has at least 64 units
    and room for two of the longest messages; see native/ring/open.h.
    """
    each: int = native.channel_units(longest)
    return max(units + each, 2 * each, _UNITS_MIN)


def rounded_up(number: int, step: int) -> int:
    """Return the smallest multiple of `step` that is not less than `number`."""
    return -(-number // step) * step


def too_small(item: int, size: int) -> InvalidArgument:
    """Return the error for a `size` without room for two messages of `item` bytes."""
    message = f"size must be {2 * item} or more, for two messages of {item:,} bytes, not {size}"
    return InvalidArgument(message, errno=errno.EINVAL)


def checked_capacity(capacity: int | None) -> int | None:
    """Check the argument `capacity` and return it.

    Raises:
        TypeError: it is not an integer.
        InvalidArgument: it is out of range.
    """
    return None if capacity is None else _checked("capacity", capacity, native.CAPACITY_MAX)


def checked_size(size: int | None) -> int | None:
    """Check the argument `size` and return it.

    Raises:
        TypeError: it is not an integer.
        InvalidArgument: it is out of range.
    """
    return None if size is None else _checked("size", size, _SIZE_MAX)


def _checked(name: str, value: int, largest: int) -> int:
    if not 1 <= (number := int_argument(name, value)) <= largest:
        message = f"{name} must be 1 to {largest}, not {value}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return number
