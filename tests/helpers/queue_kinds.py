"""One interface to both classes of message queue, so that one test runs on both."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ipckit import NotFound, PosixMessageQueue, SysVMessageQueue, WouldBlock

if TYPE_CHECKING:
    from ipckit.testing import Namespace

AnyQueue = SysVMessageQueue[Any] | PosixMessageQueue[Any]


class Kind:
    """One class of queue, for tests that run on each class."""

    def __init__(self, cls: type[Any], ns: Namespace) -> None:
        self.cls = cls
        self.sysv = cls is SysVMessageQueue
        self.ns = ns

    def address(self) -> Any:
        """An unused key or name."""
        return self.ns.key() if self.sysv else self.ns.name()

    def address_of(self, queue: AnyQueue) -> Any:
        return queue.key if isinstance(queue, SysVMessageQueue) else queue.name

    def room(self, messages: int, size: int) -> dict[str, int]:
        """Options of a queue with room for exactly so many messages of so many bytes."""
        if self.sysv:
            return {"max_bytes": messages * size}
        return {"max_messages": messages, "max_size": size}

    def create(self, payload: Any = bytes, **options: Any) -> AnyQueue:
        queue: AnyQueue = self.cls.create(self.address(), payload, **options)
        return queue

    def again(self, queue: AnyQueue, payload: Any = bytes) -> AnyQueue:
        """Another handle of the same queue."""
        other: AnyQueue = self.cls.open(self.address_of(queue), payload)
        return other

    def exists(self, address: Any) -> bool:
        try:
            self.cls.open(address).close()
        except NotFound:
            return False
        return True

    def mode(self, queue: AnyQueue) -> int:
        if isinstance(queue, SysVMessageQueue):
            return queue.stat().mode
        return os.fstat(queue.fileno()).st_mode & 0o7777

    def level(self, message: Any) -> int:
        """A message's number: its type, or its priority."""
        number: int = message.mtype if self.sysv else message.priority
        return number

    def sleeps_in(self, *, receive: bool, timeout: float | None) -> tuple[str, ...]:
        """The system calls in which a blocked call sleeps."""
        if timeout is None and self.sysv:
            return ("msgrcv" if receive else "msgsnd",)
        if self.sysv:
            return ("clock_nanosleep",)
        return ("mq_timedreceive" if receive else "mq_timedsend",) if timeout is None else ("poll",)

    @staticmethod
    def fill(queue: AnyQueue, data: bytes) -> int:
        count = 0
        try:
            while True:
                queue.send(data, timeout=0)
                count += 1
        except WouldBlock:
            return count
