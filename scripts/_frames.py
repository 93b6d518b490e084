"""Video frames for the scripts: each has one colour, which is derived from its number."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from ipckit import Array, Int64, PeerGone, Struct, UInt8

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from ipckit import Channel, Topic, View
    from ipckit.topic import Subscription

WIDTH, HEIGHT = 1920, 1080


class Frame(Struct):
    """A 1080p picture, three bytes per pixel, and its number: 6.2 MB."""

    number: Int64
    pixels: Array[UInt8, HEIGHT, WIDTH, 3]


def film(target: Channel[Any] | Topic[Any], count: int, rate: Rate, timeout: float | None) -> None:
    """Paint frames in the memory of a channel or topic, and send them."""
    for number in range(count):
        with target.loan(timeout=timeout) as slot:
            frame = slot.array[0]
            frame["number"], frame["pixels"] = number, number % 256
            del frame  # while a writable array exists, `send` sends a copy
            slot.send(timeout=timeout)
        rate.add(Frame.size)


def is_whole(frame: npt.NDArray[Any], colour: int) -> bool:
    """Whether the whole frame has one colour; a torn frame has two."""
    pixels = frame["pixels"]
    return bool(pixels.min() == pixels.max() == colour)


def views(source: Channel[Any] | Subscription[Any]) -> Iterator[View]:
    """Yield a view of each frame, without a copy, until all senders have left."""
    while True:
        try:
            view = source.receive_view()
        except PeerGone:
            return
        with view:
            yield view


class Rate:
    """Counts messages and bytes, and computes the rate since the first."""

    def __init__(self) -> None:
        self.messages = self.bytes = 0
        self._begun = 0.0

    def add(self, size: int) -> None:
        """Count one message."""
        self._begun = self._begun or time.monotonic()
        self.messages += 1
        self.bytes += size

    def show(self) -> None:
        """Print the rate to standard error, apart from the messages."""
        took = max(time.monotonic() - self._begun, 1e-9) if self.messages else 1.0
        a_second = f"{self.messages / took:,.0f} messages/s, {self.bytes / took / 1e6:,.1f} MB/s"
        print(f"{self.messages} messages: {a_second}", file=sys.stderr)
