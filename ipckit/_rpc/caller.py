"""Caller: the server's connection to one client, through which it replies."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._channel.channel import Channel
from ipckit._rpc.method import error_body, short_error_body
from ipckit._rpc.names import client_of, remove_all_of, spare_of, stream_of
from ipckit._rpc.wire import ERROR, REPLY, SLOTS, TABLE_BYTES, corrupt, post
from ipckit._shm.posix import PosixSharedMemory
from ipckit.errors import ClosedHandle, IpcError, LimitReached, Timeout, WouldBlock

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHECK_SECONDS: Final = 0.04


class Caller:
    """The server's connection to one client.

    Args:
        service: the name of the service.
        token: the random number that identifies the client.

    Attributes:
        replies: the client's channel for replies.
        calls: the client's table of calls; see `wire`.

    Raises:
        NotFound: the client has closed or died.
        Corrupt: the client's table of calls is too short.
        IpcError: the channel or the table can't be opened.
    """

    def __init__(self, service: str, token: int) -> None:
        self.service, self.token = service, token
        name = client_of(service, token)
        self.replies = Channel.open(name, peer_gone="wait")
        try:
            self._memory = PosixSharedMemory.open(name)
        except BaseException:
            self.replies.close()
            raise
        if self._memory.size < TABLE_BYTES:
            self.close()
            raise corrupt(service)
        self.calls = self._memory.buf[:TABLE_BYTES].cast("Q")
        self._was_gone = False  # whether the client had gone when this object was closed

    def is_gone(self) -> bool:
        """Return whether the client closed or died."""
        try:
            return self.replies._side(native.ROLE_RECEIVER) == native.SIDE_GONE  # noqa: SLF001
        except ClosedHandle:
            return self._was_gone
        except IpcError:
            return True

    def has_left(self, slot: int, number: int) -> bool:
        """Return whether the client no longer waits for a call."""
        return self.calls[2 * slot] != number or self.is_gone()

    def begin(self, slot: int, number: int, server: int) -> bool:
        """Record which server runs a call. Return whether the client still waits for it."""
        if slot >= SLOTS or self.calls[2 * slot] != number:
            return False
        self.calls[2 * slot + 1] = server
        return True

    def reply(self, kind: int, slot: int, number: int, value: bytes | list[Buffer]) -> None:
        """Send a reply, unless the client no longer waits for it.

        Raises:
            LimitReached: there is no memory for the reply.
            IpcError: the client's memory is corrupt.
        """
        wait = 0.0
        while True:
            with suppress(WouldBlock, Timeout):
                post(
                    self.replies,
                    lambda flags: REPLY.pack(kind, flags, 0, slot, number),
                    value,
                    wait,
                    self.spare_name,
                )
                return
            # The channel is full because the client does not receive.
            if self.has_left(slot, number):
                return
            wait = _CHECK_SECONDS

    def fail(self, slot: int, number: int, error: BaseException) -> None:
        """Reply with an exception.

        Raises:
            IpcError: the client is gone, or its memory is corrupt.
        """
        try:
            self.reply(ERROR, slot, number, error_body(error))
        except LimitReached:  # there is no memory for the traceback
            self.reply(ERROR, slot, number, short_error_body(error))

    def spare_name(self) -> str:
        """Return the name of shared memory for a message that is too long for a channel."""
        # Random, because servers that were forked from one process have the same counters.
        return spare_of(self.service, self.token, f"s{int.from_bytes(os.urandom(8)):x}")

    def open_stream(self, number: int) -> Channel[bytes]:
        """Open the channel for the items of a stream.

        Raises:
            NotFound: the client has closed the stream.
        """
        return Channel.open(stream_of(self.service, self.token, number))

    def close(self) -> None:
        """Close the handles. If the client is gone, remove its objects in /dev/shm."""
        self._was_gone = self.is_gone()
        if self._was_gone:
            remove_all_of(self.service, self.token)
        self.replies.close()
        self._memory.close()


def remove_if_gone(service: str, token: int) -> None:
    """Remove the objects of a client in /dev/shm if the client has died.

    Raises:
        IpcError: its channel can't be opened.
    """
    # A `Caller` could fail here, because the client may have died before it created its table.
    with Channel.open(client_of(service, token), peer_gone="wait") as replies:
        if replies._side(native.ROLE_RECEIVER) == native.SIDE_GONE:  # noqa: SLF001
            remove_all_of(service, token)
