"""The textbook's producer and consumer with three POSIX semaphores: empty, full and mutex."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from _ring import Ring, ring_of

from ipckit import PosixSemaphore, PosixSharedMemory

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator


class PosixCounters:
    """Admits one process at a time to the ring, when it has something to do there."""

    def __init__(self, empty: PosixSemaphore, full: PosixSemaphore, mutex: PosixSemaphore) -> None:
        self._empty, self._full, self._mutex = empty, full, mutex

    @contextmanager
    def _moving(
        self, source: PosixSemaphore, target: PosixSemaphore, timeout: float | None
    ) -> Generator[None]:
        source.acquire(timeout=timeout)  # P(empty), or P(full)
        try:
            self._mutex.acquire(timeout=timeout)  # P(mutex)
            try:
                yield
            finally:
                self._mutex.release()  # V(mutex)
        except BaseException:
            source.release()  # nothing was moved
            raise
        target.release()  # V(full), or V(empty)

    # The record shows what a dead process left, but not whether one died, so it is not used here.

    @contextmanager
    def producing(self, _: object, /, *, timeout: float | None) -> Generator[None]:
        """Wait for a free place, and hold the ring exclusively."""
        with self._moving(self._empty, self._full, timeout):
            yield

    @contextmanager
    def consuming(self, _: object, /, *, timeout: float | None) -> Generator[None]:
        """Wait for a line, and hold the ring exclusively."""
        with self._moving(self._full, self._empty, timeout):
            yield


def add_name_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--name``."""
    parser.add_argument("--name", required=True, help="the buffer's name, such as /lines")


@contextmanager
def posix_ring(args: argparse.Namespace) -> Generator[tuple[Ring, PosixCounters]]:
    """Yield the ring that the options name, and its semaphores."""
    with (
        ring_of(
            lambda size: PosixSharedMemory.create(args.name, size),
            lambda: PosixSharedMemory.open(args.name),
            args,
        ) as ring,
        ExitStack() as stack,
    ):
        values = {"empty": ring.capacity, "full": 0, "mutex": 1}
        semaphores: list[PosixSemaphore] = []
        for part, value in values.items():
            name = f"{args.name}.{part}"
            if args.create:
                semaphore = PosixSemaphore.open_or_create(name, value)
            else:
                semaphore = PosixSemaphore.open(name)
            semaphore = semaphore.adopt() if args.remove else semaphore.disown()
            semaphores.append(stack.enter_context(semaphore.lifetime()))
        yield ring, PosixCounters(*semaphores)
