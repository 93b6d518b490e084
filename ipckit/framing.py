"""Message boundaries on byte streams: framings without I/O, and frames over a blocking socket."""

from ipckit._sockets.framed import Framed, read_exactly, read_line, write_all
from ipckit._sockets.framing import DelimitedFrames, FixedFrames, Framing, LengthPrefixed

__all__ = [
    "DelimitedFrames",
    "FixedFrames",
    "Framed",
    "Framing",
    "LengthPrefixed",
    "read_exactly",
    "read_line",
    "write_all",
]
