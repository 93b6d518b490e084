"""The kinds of UNIX socket, and the type of a pair."""

from __future__ import annotations

from ipckit import UnixSocket

Pair = tuple[UnixSocket, UnixSocket]
KINDS = ("stream", "dgram", "seqpacket")
