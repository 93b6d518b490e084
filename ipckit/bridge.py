"""Bridges: channels and topics that continue on other machines.

An existing engine carries the messages: NATS JetStream those of channels, zenoh or NATS those of
topics. docs/bridge.md says what can be lost, repeated or reordered, and when.
"""

from ipckit._bridge.bridge import Bridge, BridgeStats, forward, receive
from ipckit._bridge.options import BridgeOptions
from ipckit._bridge.run_many import Route, run

__all__ = ["Bridge", "BridgeOptions", "BridgeStats", "Route", "forward", "receive", "run"]
