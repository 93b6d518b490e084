"""What comes out of a UNIX socket: bytes, descriptors, and who sent them."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import ipckit._native as native
from ipckit._core.public import public
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._sockets.address import Abstract


@public("ipckit.unixsock")
class Credentials(NamedTuple):
    """Who sent a message, as the kernel checked it; see unix(7), SCM_CREDENTIALS.

    Attributes:
        pid: the process id, as the receiver's pid namespace counts; 0 where it is not in it.
        uid: the user id.
        gid: the group id.
    """

    pid: int
    uid: int
    gid: int


@public("ipckit.unixsock")
class Descriptors(native.DescriptorsBase, Sequence[int]):
    """Descriptors that came with a message, closed with this list unless they are taken.

    An item is a number that stays the list's. All are close-on-exec. Leaving a ``with`` block,
    `close`, and the end of the last reference close what was not taken.
    """

    __slots__ = ()

    def take(self, index: int = 0) -> int:
        """A descriptor that is the caller's from now on, and no longer in the list.

        Args:
            index: which; by default the first.

        Raises:
            InvalidArgument: there are fewer.
        """
        try:
            return self._take(index)
        except IndexError:
            message = f"descriptor {index} was asked for, and {len(self)} are there"
            raise InvalidArgument(message, errno=errno.EINVAL, op="take") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Descriptors({list(self)})"


@public("ipckit.unixsock")
class Packet(native.PacketBase):
    """One message, or on a stream what had come.

    Leaving a ``with`` block or `close` closes the descriptors that were not taken; so does
    dropping it.

    Attributes:
        data: the bytes.
        fds: the descriptors that came with them.
        credentials: who sent it, where the socket asks for that (`UnixSocket.pass_credentials`).
        truncated: whether the message was longer than `max_bytes`; its rest is lost.
        eof: whether nothing more will come: the peer closed, or shut down its side.
        address: the sender's address, on datagram sockets that are bound; None where it has none.
    """

    __slots__ = ()

    _no_fds = Descriptors  # called for `fds` where none came

    if TYPE_CHECKING:
        fds: Descriptors
        credentials: Credentials | None
        address: str | Abstract | None

    def __init__(
        self,
        data: bytes,
        fds: Descriptors | None = None,
        *,
        credentials: Credentials | None = None,
        truncated: bool = False,
        eof: bool = False,
        address: str | Abstract | None = None,
    ) -> None:
        self.data = data
        if fds is not None:
            self.fds = fds
        self.credentials = credentials
        self.truncated = truncated
        self.eof = eof
        self.address = address

    def close(self) -> None:
        """Close the descriptors that were not taken; idempotent, never raises."""
        self.fds.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        facts = [f"{len(self.data):,} bytes"]
        if self.fds:
            facts.append(f"fds {list(self.fds)}")
        if self.credentials is not None:
            facts.append(f"pid {self.credentials.pid} uid {self.credentials.uid}")
        facts += [name for name in ("truncated", "eof") if getattr(self, name)]
        return f"<Packet, {', '.join(facts)}>"
