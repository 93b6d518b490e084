"""More about a POSIX message queue: a second handle of it, and what the kernel says of it."""

from __future__ import annotations

import os
from typing import Any

from ipckit import PosixMessageQueue


def again(queue: PosixMessageQueue[Any], **options: bool) -> PosixMessageQueue[bytes]:
    return PosixMessageQueue.open(queue.name or "", **options)


def status(queue: PosixMessageQueue[Any]) -> dict[str, int]:
    """The text that the kernel shows for a read of the descriptor: bytes, and the notification."""
    text = os.pread(queue.fileno(), 200, 0).decode()
    return {name: int(value) for name, _, value in (each.partition(":") for each in text.split())}
