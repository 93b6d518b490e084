"""Packet, the result of `receive`: bytes, descriptors, and the credentials of the sender."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self, final

import ipckit._native as native
from ipckit._core.public import public
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._sockets.address import Abstract


# The result of the native recvmsg: the bytes, the descriptors, (pid, uid, gid) of the sender, the
# flags, which control messages came (0 for none, CONTROL_CROWDED, otherwise 1), and the sender's
# address.
Received = tuple[bytes, "Descriptors", tuple[int, int, int] | None, int, int, str | bytes | None]


@public("ipckit.unixsock")
class Credentials(NamedTuple):
    """The process that sent a message, as the kernel checked it; see unix(7), SCM_CREDENTIALS.

    Attributes:
        pid: the process id in the receiver's pid namespace; 0 if it has none there.
        uid: the user id.
        gid: the group id.

    Example:
        >>> import os
        >>> from ipckit import pair
        >>> a, b = pair()
        >>> with a, b:
        ...     b.pass_credentials = True
        ...     a.send(b"hello")
        ...     b.receive().credentials.pid == os.getpid()
        True
    """

    pid: int
    uid: int
    gid: int


@public("ipckit.unixsock")
@final
class Descriptors(native.DescriptorsBase, Sequence[int]):
    """The descriptors that came with a message, as numbers.

    All of them are close-on-exec. `take` makes one the caller's; the others are closed by `close`,
    at the end of a ``with`` block, or with the last reference to this object.

    Example:
        >>> import os
        >>> from ipckit import unixsock
        >>> a, b = unixsock.pair()
        >>> reader, writer = os.pipe()
        >>> a.send(b"log", fds=[writer])
        >>> os.close(writer)
        >>> with b.receive(max_fds=1) as packet:
        ...     writer = packet.fds.take()
        >>> os.write(writer, b"line")
        4
        >>> os.read(reader, 99)
        b'line'
        >>> os.close(writer), os.close(reader), a.close(), b.close()
        (None, None, None, None)
    """

    __slots__ = ()

    def take(self, index: int = 0) -> int:
        """Remove a descriptor from the list; the caller must close it.

        Args:
            index: its place in the list; by default the first.

        Returns:
            The descriptor.

        Raises:
            InvalidArgument: the list has no such place.
        """
        try:
            return self._take(index)
        except IndexError:
            message = f"the list has no descriptor {index}; it has {len(self)} descriptors"
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
@final
class Packet(native.PacketBase):
    """One message, or the next bytes of a stream.

    The descriptors that the caller does not take are closed by `close`, at the end of a ``with``
    block, or with the packet.

    Attributes:
        data: the bytes.
        fds: the descriptors that came with them.
        credentials: the sender, if the socket asks for credentials
            (`UnixSocket.pass_credentials`).
        truncated: whether the message was longer than `max_bytes`; the rest is lost.
        eof: whether nothing more will come: the peer closed its end, or shut it down for writing.
        address: the sender's address, on a bound datagram socket; None if the sender has none.

    Example:
        >>> from ipckit import pair
        >>> a, b = pair("seqpacket")
        >>> with a, b:
        ...     a.send(b"hello", fds=[0, 1])
        ...     with b.receive(max_fds=2) as packet:
        ...         packet
        <Packet 5 bytes, 2 descriptors>
    """

    __slots__ = ()

    _no_fds = Descriptors  # the extension calls it to create `fds` if no descriptor came

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
        """Close the descriptors that were not taken; idempotent; never raises."""
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
        if count := len(self.fds):
            facts.append(f"{count} descriptor{'s' if count > 1 else ''}")
        if self.credentials is not None:
            facts.append(f"pid {self.credentials.pid} uid {self.credentials.uid}")
        facts += [name for name in ("truncated", "eof") if getattr(self, name)]
        return f"<Packet {', '.join(facts)}>"
