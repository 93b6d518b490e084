"""Channel: the fastest way for two Python processes to talk, in shared memory."""

from ipckit._channel import Channel
from ipckit._channel_facts import ChannelPeer, ChannelStats
from ipckit._channel_slots import Loan, View

__all__ = ["Channel", "ChannelPeer", "ChannelStats", "Loan", "View"]
