"""Bridges: carry the messages of channels and topics to other machines.

An existing engine transports the messages: NATS JetStream for channels, and zenoh or NATS for
topics. docs/bridge.md says which messages can be lost, repeated or reordered, and when.
"""

from ipckit._bridge.bridge import Bridge, BridgeStats, forward, receive
from ipckit._bridge.options import BridgeOptions
from ipckit._bridge.run_many import Route, run

__all__ = ["Bridge", "BridgeOptions", "BridgeStats", "Route", "forward", "receive", "run"]
