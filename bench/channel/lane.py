"""A lane: one way from one process to another, whatever it is made of.

A lane is made in the bench's own process, and pickled into the two (or eight) processes that use
it, each a fresh interpreter. What a lane's `sender` and `receiver` return is called in a tight
loop, so it is the peer's own method wherever that will do.
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
    """How many messages of a size a queue is made for: deep, in 16 MiB where it can be."""
    return max(2, min(DEEPEST, MOST_MEMORY // size))


def fresh_name() -> str:
    """A name that nothing else has, without a slash."""
    return f"ipckit-bench-{uuid.uuid4().hex[:12]}"


class Lane(ABC):
    """One way to bring messages from one process to another.

    Args:
        size: of each message, in bytes.
    """

    name: ClassVar[str]
    module: ClassVar[str | None] = None  # what must be importable
    attribute: ClassVar[str | None] = None  # what that must have
    package: ClassVar[str | None] = None  # its name for pip; None: the standard library
    in_place: ClassVar[bool] = False  # received messages are views
    batched: ClassVar[bool] = False  # sender takes a list, receiver returns one
    shared: ClassVar[bool] = False  # many senders, many receivers, nothing lost or torn
    largest: ClassVar[int | None] = None  # bytes

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def sender(self) -> Callable[[Any], object]:
        """In the sending process: what sends one message (batched: a list of them)."""

    @abstractmethod
    def receiver(self) -> Callable[[], Any]:
        """In a receiving process: what waits for one message (batched: a list of some)."""

    def prebuilt(self, message: bytes) -> Any:
        """In the sending process: the message as what `sender` returned takes it."""
        return message

    def leave(self) -> None:  # noqa: B027 - most leave nothing
        """In a using process, before it ends: let go of what would otherwise stay behind."""

    def close(self) -> None:  # noqa: B027 - some leave nothing
        """In the bench's process: remove what the lane left in the system."""

    @classmethod
    def missing(cls) -> str | None:
        """Why this lane cannot be used here; None if it can."""
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
        """The version of the package; None for the standard library's."""
        if cls.package is None or cls.missing() is not None:
            return None
        return importlib.metadata.version(cls.package)

    @classmethod
    def takes(cls, size: int) -> bool:
        """Whether a message of this size goes through."""
        return cls.largest is None or size <= cls.largest
