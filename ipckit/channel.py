"""Channels: bounded queues in shared memory, the fastest way to pass messages between processes.

`Channel` carries messages of one type. `ProcessQueue` replaces `multiprocessing.Queue`.
"""

from typing import TYPE_CHECKING

from ipckit._core.lazy_names import lazy_names

if TYPE_CHECKING:
    from ipckit._channel.channel import Channel
    from ipckit._channel.facts import ChannelPeer, ChannelStats
    from ipckit._channel.in_place import Delivery, Loan, View
    from ipckit._process_queue.queue import ProcessQueue
else:
    # ProcessQueue needs multiprocessing, which takes longer to import than the rest of ipckit.
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "ipckit._channel.channel": "Channel",
            "ipckit._channel.facts": "ChannelPeer ChannelStats",
            "ipckit._channel.in_place": "Delivery Loan View",
            "ipckit._process_queue.queue": "ProcessQueue",
        },
    )

__all__ = ["Channel", "ChannelPeer", "ChannelStats", "Delivery", "Loan", "ProcessQueue", "View"]
