"""A lane: a connection in one direction between processes, over any mechanism.

The bench's own process creates a lane, and pickles it into the two (or eight) processes that use
it, each a new interpreter. The functions that `sender` and `receiver` return are called in a tight
loop, so they are the peer's own methods if possible.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import uuid
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_MEMORY = 16 * 2**20
DEEPEST = 4096


def depth(size: int) -> int:
    """Return the number of messages that a queue should hold: many, within 16 MiB if possible."""
    return max(2, min(DEEPEST, MOST_MEMORY // size))


def fresh_name() -> str:
    """Return a unique name without a slash."""
    return f"ipckit-bench-{uuid.uuid4().hex[:12]}"


class Lane(ABC):
    """A way to pass messages from one process to another.

    Args:
        size: bytes of each message.
    """

    name: ClassVar[str]
    module: ClassVar[str | None] = None  # the module that must be importable
    attribute: ClassVar[str | None] = None  # the attribute that it must have
    package: ClassVar[str | None] = None  # its name for pip; None: the standard library
    in_place: ClassVar[bool] = False  # received messages are views
    batched: ClassVar[bool] = False  # `sender` takes a list, `receiver` returns one
    shared: ClassVar[bool] = False  # works with many senders and receivers
    largest: ClassVar[int | None] = None  # bytes
    loses: ClassVar[bool] = False  # messages, when a subscriber is slow
    subscribers: int = 1  # processes that each receive every message

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def sender(self) -> Callable[[Any], object]:
        """In the sending process: return a function that sends a message (batched: a list)."""

    @abstractmethod
    def receiver(self) -> Callable[[], Any]:
        """In a receiving process: return a function that waits for a message (batched: a list)."""

    def prebuilt(self, message: bytes) -> Any:
        """In the sending process: convert a message for the function from `sender`."""
        return message

    def leave(self) -> None:  # noqa: B027 - optional
        """In a using process, before it exits: release what would otherwise stay behind."""

    def close(self) -> None:  # noqa: B027 - optional
        """In the bench's process: remove the lane's objects from the system."""

    @classmethod
    def missing(cls) -> str | None:
        """Return the reason why this lane cannot be used here; None if it can."""
        if cls.module is None:
            return None
        try:
            module = importlib.import_module(cls.module)
        except ImportError as error:
            return f"not installed ({error})" if cls.package is not None else str(error)
        if cls.attribute is not None and not hasattr(module, cls.attribute):
            return f"{cls.module} has no {cls.attribute}"
        return None

    @classmethod
    def version(cls) -> str | None:
        """Return the version of the package; None for the standard library."""
        if cls.package is None or cls.missing() is not None:
            return None
        return importlib.metadata.version(cls.package)

    @classmethod
    def takes(cls, size: int) -> bool:
        """Whether it supports messages of this size."""
        return cls.largest is None or size <= cls.largest
