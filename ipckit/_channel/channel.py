"""Channel: a bounded queue in shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Unpack, overload

import ipckit._native as native
from ipckit._channel.batches import receive_many, send_all
from ipckit._channel.facts import ChannelStats, peer_of
from ipckit._channel.in_place import Delivery
from ipckit._channel.kind import CHANNEL
from ipckit._channel.memory import NewMemory
from ipckit._channel.memory_handle import MemoryHandle
from ipckit._channel.names import checked_name
from ipckit._channel.options import SPIN, check_options
from ipckit._channel.shape import shape_for
from ipckit._core.handle import Capabilities
from ipckit._core.making import PATIENCE
from ipckit._core.public import public
from ipckit._core.trust import Trust
from ipckit._payload.codecs import codec_for
from ipckit._payload.types import BYTES, T, V

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._channel.facts import ChannelPeer
    from ipckit._channel.in_place import Loan, View
    from ipckit._channel.options import (
        AnonymousOptions,
        CreateOptions,
        HandleOptions,
        OpenOptions,
        OpenOrCreateOptions,
        PeerGonePolicy,
    )
    from ipckit._payload.codec import Codec
    from ipckit._payload.types import PayloadType
    from ipckit.errors import IpcError


@public("ipckit.channel")
class Channel(native.ChannelBase, MemoryHandle[T], Generic[T]):
    """A bounded queue in shared memory, for any number of senders and receivers.

    Each message goes to one receiver, and messages keep their order. Sending and
    receiving make no system call unless a process sleeps or polls. A process can be killed at any
    moment without blocking the others: a message arrives whole or not at all, and never twice.

    Create or open a channel with `create`, `open`, `open_or_create`, `anonymous` or `from_fd`. A
    named channel is the file ``ipckit.NAME`` in /dev/shm. A process with write access can corrupt
    messages, but it cannot crash a reader, unless it truncates the file. A value that ipckit never
    writes raises `Corrupt`.

    >>> from ipckit import Channel
    >>> with Channel.anonymous(str, capacity=10) as channel:
    ...     channel.send("hello", timeout=1)
    ...     channel.receive(timeout=1)
    'hello'
    """

    _factories = "Channel.create, open, open_or_create, anonymous or from_fd"
    _passed_as = "Channel"
    _kind = CHANNEL

    caps = Capabilities(
        pollable=True,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    # -- create and open ---------------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls, name: str | None, type: np.dtype[Any], **options: Unpack[CreateOptions]
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls, name: str | None = ..., type: PayloadType[V] = ..., **options: Unpack[CreateOptions]
    ) -> Channel[V]: ...
    @classmethod
    def create(
        cls,
        name: str | None = None,
        type: Any = BYTES,
        *,
        capacity: int | None = None,
        size: int | None = None,
        mode: int = 0o600,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Channel[Any]:
        """Create a channel. The handle owns it: leaving ``with`` unlinks the channel.

        Args:
            name: the channel's name, such as ``"frames"``, up to 248 bytes; by default a random
                unused name.
            type: the type of the messages: `bytes`, `str`, a `Struct`, a ctypes structure, a numpy
                dtype, a msgspec struct or a `Codec`.
            capacity: the maximum number of messages that wait, 1 to 8388607. The default is 1024,
                or fewer if that many messages of a fixed-size type would need more than 64 MiB; at
                least 1.
            size: bytes of memory for messages. The default is what `capacity` messages of a
                fixed-size type need, and one more if they have more than 4 KiB. For other types it
                is 16 MiB for messages of more than 4 KiB; there is additional memory for shorter
                ones. Of such a type, one message can take up to half of `size`.
            mode: permission bits, 0 to 0o777. The umask does not apply.
            overwrite: whether `send` on a full channel drops the oldest message instead of waiting;
                `stats` counts the dropped messages. Loans and views are never dropped: if they
                leave no memory for the message, `send` waits.
            peer_gone: what a call does if it waits for a message or for room and the last peer on
                the other side is gone: "raise" `PeerGone`, or "wait" for a new peer.
            spin: the maximum number of checks before a call sleeps, 0 to 1000000. ipckit uses fewer
                if spinning does not help.

        Raises:
            AlreadyExists: there is a channel of that name.
            LimitReached: /dev/shm is full, or RLIMIT_NOFILE is reached.
            NotFound: the system has no /dev/shm.
            AccessDenied: this process has no permission to write to /dev/shm.
            InvalidArgument: an argument is out of range.
            TypeError: `type` is not a payload type.

        >>> from ipckit import Channel
        >>> with Channel.create(capacity=100) as channel:  # a random name
        ...     with Channel.open(channel.name) as other:  # usually in another process
        ...         other.send(b"hello")
        ...     channel.receive()
        b'hello'
        """
        check_options(peer_gone, spin)
        new = _new_memory(codec_for(type), capacity, size, overwrite)
        return cls._create(name, type, new, mode=mode, peer_gone=peer_gone, spin=spin)

    @overload
    @classmethod
    def open(
        cls, name: str, type: np.dtype[Any], **options: Unpack[OpenOptions]
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls, name: str, type: PayloadType[V] = ..., **options: Unpack[OpenOptions]
    ) -> Channel[V]: ...
    @classmethod
    def open(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
        owner_uid: int | None = None,
    ) -> Channel[Any]:
        """Open an existing channel. The handle does not own it.

        Args:
            name: the channel's name.
            type: the type of the messages, the same that the creator passed.
            peer_gone: see `create`; applies to this handle.
            spin: see `create`; applies to this handle.
            owner_uid: another user whose channel is accepted. By default the channel must belong
                to this process's effective user or to root.

        Raises:
            NotFound: there is no channel of that name.
            LayoutMismatch: the messages are of another type; the error shows both types.
            AccessDenied: the mode does not allow both reading and writing, or the channel belongs
                to a user who is not accepted and could have put anything into it.
            Corrupt: the file of that name is not a channel.
            LimitReached: RLIMIT_NOFILE is reached, or the channel has 256 peers already.
            InvalidArgument: an argument is out of range.
        """
        check_options(peer_gone, spin)
        trust = Trust(owner_uid)
        wanted = checked_name(CHANNEL, name)
        return cls._open(wanted, type, trust, peer_gone=peer_gone, spin=spin, owner_uid=owner_uid)

    @overload
    @classmethod
    def open_or_create(
        cls, name: str, type: np.dtype[Any], **options: Unpack[OpenOrCreateOptions]
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls, name: str, type: PayloadType[V] = ..., **options: Unpack[OpenOrCreateOptions]
    ) -> Channel[V]: ...
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        capacity: int | None = None,
        size: int | None = None,
        mode: int = 0o600,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Channel[Any]:
        """Open a channel, or create it. The handle owns the channel only if it created it.

        Args:
            name: the channel's name.
            type: the type of the messages.
            capacity: see `create`; ignored if the channel exists.
            size: see `create`; ignored if the channel exists.
            mode: see `create`. An existing channel must not give other users more permissions.
            overwrite: see `create`; ignored if the channel exists.
            peer_gone: see `create`.
            spin: see `create`.
            timeout: seconds to keep trying while other processes create and unlink the channel.
            owner_uid: see `open`.

        Raises:
            Timeout: other processes created and unlinked the channel until the deadline.
            AccessDenied: as for `open`; or the existing channel gives other users more permissions
                than `mode`.
            IpcError: as for `create` and `open`.

        >>> from ipckit import Channel
        >>> with Channel.open_or_create("doc-example", str, capacity=10) as channel:
        ...     channel.send("hello")
        ...     channel.owner, channel.receive()
        (True, 'hello')
        """
        check_options(peer_gone, spin)
        return cls._open_or_create(
            name,
            type,
            _new_memory(codec_for(type), capacity, size, overwrite),
            mode=mode,
            timeout=timeout,
            owner_uid=owner_uid,
            peer_gone=peer_gone,
            spin=spin,
        )

    @overload
    @classmethod
    def anonymous(
        cls, type: np.dtype[Any], **options: Unpack[AnonymousOptions]
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def anonymous(
        cls, type: PayloadType[V] = ..., **options: Unpack[AnonymousOptions]
    ) -> Channel[V]: ...
    @classmethod
    def anonymous(
        cls,
        type: Any = BYTES,
        *,
        capacity: int | None = None,
        size: int | None = None,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Channel[Any]:
        """Create a channel without a name, for child processes.

        A forked child inherits it, and a `multiprocessing.Process` takes it as an argument. It is a
        memfd: it does not count in /dev/shm, and it disappears with its last user. See
        memfd_create(2).

        Args:
            type: see `create`.
            capacity: see `create`.
            size: see `create`.
            overwrite: see `create`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            LimitReached: there is not enough memory, or RLIMIT_NOFILE is reached.
            InvalidArgument: an argument is out of range.
            TypeError: `type` is not a payload type.
        """
        check_options(peer_gone, spin)
        new = _new_memory(codec_for(type), capacity, size, overwrite)
        return cls._create_anonymous(type, new, peer_gone=peer_gone, spin=spin)

    @overload
    @classmethod
    def from_fd(
        cls, fd: int, type: np.dtype[Any], **options: Unpack[HandleOptions]
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_fd(
        cls, fd: int, type: PayloadType[V] = ..., **options: Unpack[HandleOptions]
    ) -> Channel[V]: ...
    @classmethod
    def from_fd(
        cls,
        fd: int,
        type: Any = BYTES,
        *,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Channel[Any]:
        """Open a channel by the descriptor of its memory, which another process passed.

        The handle does not own the channel. It takes over the descriptor and closes it. If this
        method raises, the caller still owns the descriptor.

        Args:
            fd: the descriptor: `memory_fd`, or a duplicate of it.
            type: see `open`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            InvalidArgument: `fd` is closed, is not a regular file, or is a memfd without the seal
                SHRINK; or another process holds a lease on the file.
            AccessDenied: `fd` was opened for reading only, or for writing only.
            IpcError: as for `open`.

        >>> import os
        >>> from ipckit import Channel
        >>> with Channel.anonymous() as channel:
        ...     with Channel.from_fd(os.dup(channel.memory_fd)) as other:
        ...         other.send(b"hello")
        ...     channel.receive()
        b'hello'
        """
        check_options(peer_gone, spin)
        return cls._open_fd(fd, type, peer_gone=peer_gone, spin=spin)

    # -- messages ----------------------------------------------------------------------------------

    if TYPE_CHECKING:  # native/channel/ defines and documents these; here are their types

        def send(self, value: T, *, timeout: float | None = None) -> None:
            """Send one message, waiting while the channel is full."""

        def receive(self, *, timeout: float | None = None) -> T:
            """Take the next message, waiting until there is one."""
            ...

        def loan(
            self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
        ) -> Loan:
            """Return memory in the channel for one message."""
            ...

        def receive_view(self, *, timeout: float | None = None) -> View:
            """Take the next message without copying it."""
            ...

        def receive_into(self, buffer: Buffer, /, *, timeout: float | None = None) -> int:
            """Copy the bytes of the next message into a buffer, and return their number."""
            ...

    def send_many(
        self, values: Iterable[T] | npt.NDArray[Any], *, timeout: float | None = None
    ) -> None:
        """Send many messages in order. Messages of other senders can come in between.

        If the channel's type is a Struct or a dtype, an array of records is sent in one call with
        one copy. If an exception ends the call, its attribute ``sent`` is the number of messages
        that were sent before. This includes KeyboardInterrupt and exceptions of signal handlers.

        Args:
            values: the messages: an iterable, or a numpy array of the Struct's or the channel's
                dtype, whose elements are the messages.
            timeout: seconds to wait in total; None waits without limit, 0 does not wait.

        Raises:
            IpcError: as for `send`.
            TypeError: a value is not of the payload type. The values before it were sent.

        >>> import numpy as np
        >>> from ipckit import Channel
        >>> with Channel.anonymous(np.dtype("f8")) as channel:
        ...     channel.send_many(np.array([1.0, 2.0, 3.0]))
        ...     channel.receive_many(2)
        array([1., 2.])
        """
        send_all(self, values, timeout)

    def receive_many(self, max: int | None = None, *, timeout: float | None = None) -> Any:
        """Take all messages that wait. Wait until there is at least one.

        If an exception ends the call, its attribute ``received`` has the messages that the call had
        already taken.

        Args:
            max: the maximum number of messages, 1 or more; by default all that wait when the call
                begins.
            timeout: seconds to wait for the first message; None waits without limit, 0 does not
                wait.

        Returns:
            If the channel's type is a Struct or a dtype, a numpy array of records, with one copy in
            total; otherwise a list. If the type is a dtype without a shape and the next message was
            sent as an array of several elements, that message alone.

        Raises:
            TypeError: `max` is not an integer.
            InvalidArgument: `max` is less than 1.
            LayoutMismatch: a message could not be decoded; ``.raw`` has its bytes.
            MemoryError: there is no memory for a message. It still waits, or ``.raw`` has it.
            IpcError: as for `receive`.
        """
        return receive_many(self, max, timeout)

    def __iter__(self) -> Iterator[T]:
        """Take each message. End when the channel is empty and the last sender is gone."""
        return self._iterate()

    # -- acknowledged ------------------------------------------------------------------------------

    def take(self, timeout: float | None = None) -> Delivery:
        """Take the next message, and acknowledge it later. Wait until there is one.

        A message that was taken and not acknowledged is delivered again, before all others, if the
        process that took it dies or gives it back. Messages that are delivered again keep their
        order. `receive` and `receive_view` take such messages too, and need no acknowledgement.

        Messages of a channel that takes them are processed at least once. A process can take
        several before it acknowledges the first; if there is no memory for another one, the call
        waits as in an empty channel.

        Args:
            timeout: seconds to wait; None (default) waits without limit, 0 does not wait.

        Raises:
            WouldBlock: no message waits, or there is no memory to take it, and `timeout` is 0.
            Timeout: the same until the timeout ended.
            PeerGone: the channel is empty, the last sender is gone, and no other process has taken
                a message that it could give back.
            IpcError: as for `receive`.

        >>> from ipckit import Channel
        >>> with Channel.anonymous() as channel:
        ...     channel.send(b"job")
        ...     delivery = channel.take()
        ...     delivery.requeue()
        ...     with channel.take() as again:
        ...         print(again.value, again.redelivered)
        b'job' 1
        """
        found: Delivery = self._deliver(Delivery, timeout)
        return found

    # -- polling and state -------------------------------------------------------------------------

    def fileno(self) -> int:
        """Return a descriptor that is readable when a message waits, for select, poll or epoll.

        Then call `receive` with ``timeout=0``. If another receiver was faster, it raises
        `WouldBlock`, and the descriptor is no longer readable. The handle keeps the descriptor and
        closes it. See eventfd(2).

        Raises:
            LimitReached: RLIMIT_NOFILE or RLIMIT_NPROC is reached.
            ClosedHandle: the handle is closed.

        >>> import select
        >>> from ipckit import Channel
        >>> with Channel.anonymous() as channel:
        ...     channel.send(b"hello")
        ...     select.select([channel.fileno()], [], [], 1)[0] == [channel.fileno()]
        True
        """
        return self._poll_fd(native.POLL_ITEMS)

    def space_fileno(self) -> int:
        """Return a descriptor that is readable when a sender that found no room can try again.

        Then call `send` with ``timeout=0``, and be ready for `WouldBlock`. The handle keeps the
        descriptor and closes it.

        Raises:
            LimitReached: RLIMIT_NOFILE or RLIMIT_NPROC is reached.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(native.POLL_SPACE)

    def _check_peers(self, *, sending: bool) -> bool:
        """Return whether a call would wait in vain and must raise `PeerGone` instead."""
        role = native.ROLE_RECEIVER if sending else native.ROLE_SENDER
        return self._options[0] == "raise" and self._side(role) == native.SIDE_GONE

    def _peer_gone(self, *, sending: bool) -> IpcError:
        return self._explain_ring(native.RING_GONE, "send" if sending else "receive", None)

    def stats(self) -> ChannelStats:
        """Return the number of messages, the memory in use, and other state of the channel.

        Raises:
            Corrupt: the memory was overwritten or truncated.
            ClosedHandle: the handle is closed.

        >>> from ipckit import Channel
        >>> with Channel.anonymous(capacity=10) as channel:
        ...     channel.send(b"hello")
        ...     channel.stats().messages, channel.stats().capacity
        (1, 10)
        """
        messages, used, size, dropped, taken = self._counts()
        peers = self.peers()
        sent, received = sum(each.sent for each in peers), sum(each.received for each in peers)
        return ChannelStats(messages, self.capacity, used, size, dropped, sent, received, taken)

    def peers(self) -> list[ChannelPeer]:
        """Return the open handles of the channel, in all live processes.

        Raises:
            Corrupt: the memory was overwritten or truncated.
            ClosedHandle: the handle is closed.

        >>> from ipckit import Channel
        >>> with Channel.anonymous() as channel:
        ...     channel.send(b"hello")
        ...     [(peer.self, peer.sender, peer.sent) for peer in channel.peers()]
        [(True, True, 1)]
        """
        return [peer_of(row) for row in self._peers()]

    def __bool__(self) -> bool:
        # An empty channel is true, although its len() is 0.
        return True

    def _size_text(self) -> str:
        return f"{len(self)} of {self.capacity} messages of {self._codec.name}"

    def _hint_if_full(self) -> str:
        if len(self) > 0:
            return ""
        return "no message waits: loans, views and deliveries hold the memory"


def _new_memory(
    codec: Codec[Any],
    capacity: int | None,
    size: int | None,
    overwrite: bool,  # noqa: FBT001 - the caller's argument
) -> NewMemory:
    """Return the memory of a new channel; see `Channel.create`."""
    flags = native.CHANNEL_OVERWRITE if overwrite else 0
    return NewMemory(CHANNEL, shape_for(codec, capacity, size), codec, flags)
