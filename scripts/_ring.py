"""A ring of lines in shared memory, and shared code of its producers and consumers."""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from _common import inputs, seconds

from ipckit import (
    AlreadyExists,
    Corrupt,
    PosixSharedMemory,
    Removed,
    Struct,
    SysVSharedMemory,
    UInt64,
)
from ipckit.shm import SharedStruct

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    Memory = SysVSharedMemory | PosixSharedMemory


class Ends(Struct):
    """The total number of lines put into the ring, and taken out of it."""

    put: UInt64
    taken: UInt64


SLOT: Final = 1024
_LENGTH: Final = 4  # bytes before each line
_FIRST: Final = SharedStruct.bytes_for(Ends)


class Ring:
    """Lines in shared memory. New memory, which is zeros, is an empty ring.

    One store of the record, after all other writes, makes a change visible. A process that is
    killed before that store has changed nothing.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._ends = memory.shared(Ends)
        self.capacity, rest = divmod(memory.size - _FIRST, SLOT)
        if rest or not self.capacity:
            message = f"the shared memory of {memory.size:,} bytes is not a buffer of lines"
            raise ValueError(message)

    def counts(self) -> tuple[int, int]:
        """Return the number of free places, and the number of lines."""
        ends = self._ends.load()
        used = ends.put - ends.taken
        if not 0 <= used <= self.capacity:
            message = f"the ring has {self.capacity} places, but its record counts {used} lines"
            raise Corrupt(message, errno=errno.EUCLEAN)
        return self.capacity - used, used

    def put(self, line: bytes) -> None:
        """Put a line at the end. There must be a free place."""
        ends = self._ends.load()
        place = _FIRST + ends.put % self.capacity * SLOT
        self._memory.write(len(line).to_bytes(_LENGTH, "little") + line, place)
        self._ends.store(Ends(ends.put + 1, ends.taken))

    def take(self) -> bytes:
        """Take the first line. There must be one."""
        ends = self._ends.load()
        slot = self._memory.read(SLOT, _FIRST + ends.taken % self.capacity * SLOT)
        size = int.from_bytes(slot[:_LENGTH], "little")
        if size > SLOT - _LENGTH:
            message = f"a line of {size:,} bytes exceeds its place of {SLOT - _LENGTH:,}"
            raise Corrupt(message, errno=errno.EUCLEAN)
        self._ends.store(Ends(ends.put, ends.taken + 1))
        return slot[_LENGTH : _LENGTH + size]


class Counters(Protocol):
    """Admits one process at a time to the ring, when it has something to do there."""

    def producing(
        self, record: Callable[[], tuple[int, int]], /, *, timeout: float | None
    ) -> AbstractContextManager[None]:
        """Wait for a free place, and hold the ring exclusively."""
        ...

    def consuming(
        self, record: Callable[[], tuple[int, int]], /, *, timeout: float | None
    ) -> AbstractContextManager[None]:
        """Wait for a line, and hold the ring exclusively."""
        ...


def add_ring_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that producers and consumers share."""
    parser.add_argument(
        "--create", action="store_true", help="create the buffer if it does not exist"
    )
    parser.add_argument(
        "--capacity", type=int, help="with --create: lines that it holds, by default 8"
    )
    parser.add_argument("--count", type=int, help="stop after this many lines")
    parser.add_argument("--timeout", type=seconds, help="seconds to wait for each line or place")
    parser.add_argument("--remove", action="store_true", help="remove the buffer at the end")
    parser.set_defaults(text=(), file=None)


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line; a usage error if a number is out of range."""
    args = parser.parse_args()
    if args.count is not None and args.count < 0:
        parser.error("--count must be 0 or more")
    if args.capacity is not None and not args.create:
        parser.error("--capacity goes with --create")
    if args.capacity is not None and not 1 <= args.capacity < 2**15:
        parser.error("--capacity must be 1 to 32767")
    return args


@contextmanager
def ring_of(
    make: Callable[[int], Memory], find: Callable[[], Memory], args: argparse.Namespace
) -> Generator[Ring]:
    """Yield the ring that the options name; with ``--create``, create its memory if needed."""
    memory = None
    if args.create:
        with suppress(AlreadyExists):
            memory = make(_FIRST + (args.capacity or 8) * SLOT).disown()
    memory = memory or find()
    with memory:
        ring = Ring(memory)
        if args.capacity not in {None, ring.capacity}:
            message = f"the existing buffer holds {ring.capacity} lines, not {args.capacity}"
            raise ValueError(message)
        if args.remove:
            memory.adopt()
        yield ring


def produce(ring: Ring, counters: Counters, args: argparse.Namespace) -> None:
    """Put each input line into the ring."""
    for line in islice(inputs(args), args.count):
        if len(line) > SLOT - _LENGTH:
            message = f"a line of {len(line):,} bytes does not fit; the limit is {SLOT - _LENGTH:,}"
            raise ValueError(message)
        with counters.producing(ring.counts, timeout=args.timeout):
            ring.put(line)


def consume(ring: Ring, counters: Counters, args: argparse.Namespace) -> None:
    """Take lines out of the ring and print them, until the ring is removed (System V only)."""
    taken = 0
    while args.count is None or taken < args.count:
        try:
            with counters.consuming(ring.counts, timeout=args.timeout):
                line = ring.take()
        except Removed:
            return
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
        taken += 1
