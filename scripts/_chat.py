"""The chat server's room: its members, and the lines that each receives."""

from __future__ import annotations

import os
import socket
import sys
from typing import Final

from _common import say, shown
from _loop import READ, WRITE, Loop, Member

from ipckit import MessageTooLong
from ipckit.framing import DelimitedFrames

MAX_LINE: Final = 4096  # bytes
_MAX_NAME: Final = 32  # characters
_UNREAD_BOUND: Final = 1 << 20  # bytes: a member who leaves more unread is removed
_CHUNK: Final = 65536


def text_of(line: bytes) -> str:
    """Decode a received line, without control characters, so that a terminal can show it."""
    return shown(line.decode(errors="replace"))


def person(name: str) -> str:
    """Check a name from the command line or a client; ValueError if it is invalid."""
    if not name or len(name) > _MAX_NAME or not name.isprintable() or name[0] in "*!":
        message = f"invalid name {name!r}: 1 to {_MAX_NAME} characters, and not * or ! first"
        raise ValueError(message)
    return name


def typed(sock: socket.socket, *, last: bytes) -> bytes:
    """Send the typed text and return it. At the end of input, leave and return b''."""
    data = os.read(sys.stdin.fileno(), 4096)
    if data:
        sock.sendall(data)
        return data
    if not last.endswith(b"\n"):
        sock.sendall(b"\n")
    sock.shutdown(socket.SHUT_WR)
    return b""


class Room:
    """All members who have given a name."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._members: dict[str, Visitor | Host] = {}

    def enter(self, name: str, member: Visitor | Host) -> None:
        """Add a member and tell the others; ValueError if the name is invalid or taken."""
        if person(name) in self._members:
            message = f"the name {name} is already taken"
            raise ValueError(message)
        self.tell(f"* {name} is here")
        self._members[name] = member
        if len(self._members) > 1:
            member.tell(f"* here: {', '.join(sorted(self._members))}")

    def leave(self, name: str, how: str) -> None:
        """Remove a member, and tell the others."""
        if self._members.pop(name, None) is not None:
            self.tell(f"* {name} {how}")

    def tell(self, line: str, besides: Member | None = None) -> None:
        """Send a line to all members, or to all except one."""
        for member in list(self._members.values()):
            # A member may have been removed during this loop.
            if member is not besides and not member.closed:
                member.tell(line)


class Visitor(Member):
    """A member at the other end of a socket."""

    def __init__(self, sock: socket.socket, room: Room) -> None:
        super().__init__(sock)
        self._room = room
        self._name = ""
        self._frames = DelimitedFrames(b"\n", max_size=MAX_LINE)
        self._out = bytearray()

    def wants(self) -> int:
        """Always read; write if unsent data remains."""
        return READ | (WRITE if self._out else 0)

    def turn(self, loop: Loop) -> None:
        """Send what is queued, and read what the member said."""
        try:
            if self._out and self.writable:
                self._flush()
            if self.readable:
                self._hear()
        except OSError:
            self._go("has left")
        if not self.closed:
            loop.poller.update(self)

    def tell(self, line: str) -> None:
        """Send a line. A member who does not read for long is removed; the room does not wait."""
        self._out += self._frames.encode(line.encode())
        try:
            self._flush()
        except OSError:
            self._go("has left")
            return
        if len(self._out) > _UNREAD_BOUND:
            self._go("does not read, and is removed")
        else:
            self._room.loop.poller.update(self)

    def _flush(self) -> None:
        try:
            del self._out[: self.sock.send(self._out)]
        except BlockingIOError:
            self.writable = False

    def _hear(self) -> None:
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._go("has left")
            return
        try:
            for line in self._frames.feed(data):
                self._said(text_of(line))
                if self.closed:
                    return
        except MessageTooLong:
            self._refuse(
                f"a line has at most {MAX_LINE} bytes", "sent too long a line, and is removed"
            )

    def _said(self, line: str) -> None:
        if self._name:
            self._room.tell(f"{self._name}: {line}", self)
            return
        try:
            self._room.enter(line, self)
            self._name = line
        except ValueError as exc:
            self._refuse(str(exc), "")

    def _refuse(self, why: str, how: str) -> None:
        self.tell(f"! {why}")
        if not self.closed:
            self._go(how)

    def _go(self, how: str) -> None:
        self._room.loop.drop(self)
        if self._name:
            self._room.leave(self._name, how)


class Host(Member):
    """The member at the server's own terminal. The room ends when this member leaves."""

    def __init__(self, name: str, room: Room) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.readable = self.writable = self.closed = False
        self.mask = 0
        self._room = room
        self._name = name
        self._frames = DelimitedFrames(b"\n", max_size=MAX_LINE)
        room.enter(name, self)

    def fileno(self) -> int:
        """Return standard input's descriptor."""
        return sys.stdin.fileno()

    def close(self) -> None:
        """Do not close standard input."""

    def turn(self, loop: Loop) -> None:
        """Read what is typed."""
        data = os.read(self.fileno(), _CHUNK)
        for line in self._frames.feed(data):
            self._room.tell(f"{self._name}: {text_of(line)}", self)
        if not data:
            loop.stop()

    def tell(self, line: str) -> None:
        """Print a line."""
        say(line)
