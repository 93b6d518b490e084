"""Calls between processes: `Service` offers methods, and `Client` calls them."""

from ipckit._rpc.client import Client
from ipckit._rpc.current import CurrentCall, current
from ipckit._rpc.service import Service
from ipckit._rpc.stream import RemoteStream
from ipckit.errors import RemoteError as RemoteError  # noqa: PLC0414 - `errors` has it, and users expect it here

__all__ = ["Client", "CurrentCall", "RemoteStream", "Service", "current"]
