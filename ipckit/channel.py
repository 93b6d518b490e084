"""Channel: the fastest way for two Python processes to talk, in shared memory."""

from typing import TYPE_CHECKING, Any

from ipckit._channel.channel import Channel
from ipckit._channel.facts import ChannelPeer, ChannelStats
from ipckit._channel.in_place import Loan, View

if TYPE_CHECKING:
    from ipckit._process_queue.queue import ProcessQueue

__all__ = ["Channel", "ChannelPeer", "ChannelStats", "Loan", "ProcessQueue", "View"]


def __getattr__(name: str) -> Any:
    # multiprocessing takes longer to import than all of ipckit; who wants no queue need not wait.
    if name != "ProcessQueue":
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from ipckit._process_queue.queue import ProcessQueue  # noqa: PLC0415

    globals()[name] = ProcessQueue
    return ProcessQueue
