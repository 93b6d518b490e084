"""Channels: bounded queues in shared memory, the fastest way to pass messages between processes.

`Channel` carries messages of one type. `ProcessQueue` replaces `multiprocessing.Queue`.
"""

from typing import TYPE_CHECKING, Any

from ipckit._channel.channel import Channel
from ipckit._channel.facts import ChannelPeer, ChannelStats
from ipckit._channel.in_place import Delivery, Loan, View

if TYPE_CHECKING:
    from ipckit._process_queue.queue import ProcessQueue

__all__ = ["Channel", "ChannelPeer", "ChannelStats", "Delivery", "Loan", "ProcessQueue", "View"]


def __getattr__(name: str) -> Any:
    # ProcessQueue needs multiprocessing, which takes longer to import than the rest of ipckit.
    if name != "ProcessQueue":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from ipckit._process_queue.queue import ProcessQueue  # noqa: PLC0415

    globals()[name] = ProcessQueue
    return ProcessQueue
