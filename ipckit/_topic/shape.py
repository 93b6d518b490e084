"""The size of a topic's memory, from the number and the size of its messages."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._channel.shape import (
    DEFAULT_CAPACITY,
    DEFAULT_SIZE,
    DEFAULT_TOTAL,
    LINE,
    Shape,
    checked_capacity,
    checked_size,
    pool_for,
    rounded_up,
    too_small,
)
from ipckit._topic.options import checked_number

if TYPE_CHECKING:
    from ipckit._payload.codec import Codec

# A long message has a block of its own. With two more than the capacity, a publisher writes the
# next message while a subscriber has a view of the last one.
_SPARE_BLOCKS: Final = 2
_UNITS_MIN: Final = 64


class TopicShape(Shape):
    """The memory of a topic; docs/layout.md explains it."""

    __slots__ = ()

    @property
    def total(self) -> int:
        """The bytes of the topic's memory, with its header."""
        return native.topic_bytes(self.units, self.granules, self.granule, self.capacity)


def shape_for(codec: Codec[Any], capacity: int | None, size: int | None) -> TopicShape:
    """Return the shape of a topic for the arguments of `Topic.create`.

    If neither is given, the topic has 1024 messages, or fewer if those would need more than 64 MiB.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: `capacity` or `size` is out of range, or there is no room for two messages.
    """
    item = codec.size or 0
    capacity = checked_capacity(capacity)
    size = checked_size(size)
    if not item:
        return _of_any_size(capacity or DEFAULT_CAPACITY, DEFAULT_SIZE if size is None else size)
    if size is not None and size < 2 * item:
        raise too_small(item, size)
    of_capacity = _of_blocks if item > native.INLINE_MAX else _of_items
    if capacity is None and size is not None and item > native.INLINE_MAX:
        capacity = max(1, min(DEFAULT_CAPACITY, size // item - _SPARE_BLOCKS))
    if capacity is None:
        numbers = range(1, DEFAULT_CAPACITY + 1)
        capacity = max(
            1, bisect_right(numbers, DEFAULT_TOTAL, key=lambda n: of_capacity(item, n, size).total)
        )
    return of_capacity(item, capacity, size)


def checked_history(history: int, capacity: int) -> int:
    """Check the argument `history` of `Topic.create` and return it."""
    return checked_number("history", history, 0, capacity)


def _of_blocks(item: int, capacity: int, size: int | None) -> TopicShape:
    """Return the shape for long messages of one size: each has a block of its own."""
    blocks = capacity + _SPARE_BLOCKS if size is None else size // item
    return TopicShape(
        _arena(native.INLINE_MAX, 0), blocks, rounded_up(item, LINE), capacity, item, item
    )


def _of_items(item: int, capacity: int, size: int | None) -> TopicShape:
    """Return the shape for short messages of one size, which lie in the arena."""
    units = native.topic_slots(capacity) * _units_of(item)
    if size is not None:
        units = -(-size // native.UNIT) + native.topic_slots(capacity)
    return TopicShape(_arena(item, units), 0, LINE, capacity, item, item)


def _of_any_size(capacity: int, size: int) -> TopicShape:
    """Return the shape for messages that differ in size.

    The arena has room for `capacity` short messages, or for `size` bytes of them, and the pool for
    `size` bytes of long ones.
    """
    slots = native.topic_slots(capacity)
    inline = min(slots * _units_of(native.INLINE_MAX), -(-size // native.UNIT) + slots)
    granules, granule = pool_for(size)
    units = _arena(native.INLINE_MAX, inline)
    return TopicShape(units, granules, granule, capacity, 0, size // 2)


def _units_of(length: int) -> int:
    """Return the units of a message in the arena."""
    return -(-length // native.UNIT)


def _arena(longest: int, units: int) -> int:
    """Return the units of an arena with room for `units` of messages of up to `longest` bytes.

    The end of the arena can need padding that is as long as a message. The arena has at least 64
    units and room for two of the longest messages; see native/ring/open.h.
    """
    each = _units_of(longest)
    return max(units + each, 2 * each, _UNITS_MIN)
