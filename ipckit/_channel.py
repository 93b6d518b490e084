"""Channel: a bounded queue in shared memory."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Self, cast

from ipckit import _native
from ipckit._channel_facts import RECEIVER, SENDER, ChannelPeer, ChannelStats, peer_of
from ipckit._channel_file import (
    checked_name,
    describe,
    make_anonymous,
    make_file,
    map_channel,
    open_file,
    path_of,
    shape_for,
)
from ipckit._channel_slots import Layout, Loan, View
from ipckit._deadline import Deadline, checked_timeout
from ipckit._handle import Capabilities, Handle, checked_mode, closed_handle
from ipckit._lazy import is_array, np
from ipckit._shm_file import checked_fd, duplicate_for_child, identity, is_spawning
from ipckit._typing import BYTES, T
from ipckit.codec import codec_for
from ipckit.errors import (
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    PeerGone,
    Timeout,
    WouldBlock,
    from_errno,
)
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from ipckit._typing import PayloadType
    from ipckit.codec import Codec

os.register_at_fork(after_in_child=_native.channels_forked)

PeerGonePolicy = Literal["raise", "wait"]

_SPIN: Final = 2000
_SPIN_MOST: Final = 1_000_000
_BATCH: Final = 256  # records that a receiver makes room for before it knows how many come
_BATCH_ITEM: Final = 16384
# native/ring.h: ring_result
_OK, _EMPTY, _FULL, _, _TOO_LONG, _CORRUPT, _TIMEOUT, _, _GONE, _CLOSED = range(10)


class Channel(_native.ChannelBase, Handle, Generic[T]):
    """A bounded queue in shared memory: many senders, many receivers, each message to one of them.

    Make one with `create`, `open`, `open_or_create`, `anonymous` or `from_fd`. Messages come out in
    the order in which they were sent. No system call is made unless somebody sleeps. Whoever is
    killed, at whatever moment, the channel goes on working for the others: a message is there
    whole, or not at all, and none comes twice.

    A named channel is the file ``ipckit.NAME`` under /dev/shm. Who may write to it can do to the
    messages whatever they like, but not crash who reads them: what makes no sense is `Corrupt`.
    """

    caps = Capabilities(
        pollable=True,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    def __init__(
        self,
        fd: int,
        name: Name | None,
        payload: Any,
        *,
        owner: bool,
        peer_gone: PeerGonePolicy,
        spin: int,
    ) -> None:
        self._name, self._payload, self._fd = name, payload, fd
        self._options = (peer_gone, spin)
        self._codec: Codec[T] = codec_for(payload)
        mapping = map_channel(fd, self._codec, describe(name))
        self._layout = Layout(payload, self._codec.size or 0)
        self._file = identity(fd)
        direct = payload is bytes or self._layout.struct is not None
        decode = None if direct else self._codec.decode
        struct = self._layout.struct
        wait = peer_gone == "wait"
        try:
            self._attach(mapping, fd, owner, struct, self._codec.encode, decode, spin, wait)
        except OSError as exc:
            if exc.errno == errno.EUSERS:
                message = "as many have the channel open as it has places for (256)"
                raise LimitReached(
                    message, errno=errno.EUSERS, op="open", target=describe(name)
                ) from None
            code = exc.errno or errno.EIO
            raise from_errno(code, op="open", target=describe(name)) from None
        finally:
            mapping.close()  # what is attached keeps it mapped
        Handle.__init__(self, owner=owner)

    # -- making and finding ------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        name: str | None = None,
        type: PayloadType[T] = BYTES,
        *,
        capacity: int = 1024,
        size: int | None = None,
        mode: int = 0o600,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = _SPIN,
    ) -> Channel[T]:
        """Make a new channel, which the handle owns.

        Args:
            name: the name to find it by, such as ``"frames"``, up to 248 bytes; None picks a free
                one.
            type: what the messages are: `bytes`, `str`, a `Struct`, a ctypes structure, a numpy
                dtype, a msgspec struct or a `Codec`.
            capacity: how many messages can wait, 1 to 8388607.
            size: bytes of message memory. By default what `capacity` messages take, if all have
                one size, else 16 MiB. One message may take up to half of it.
            mode: permission bits, 0 to 0o777; the umask has no say.
            overwrite: where it is full, drop the oldest message instead of waiting; `stats` counts
                them.
            peer_gone: what a call does that waits for the other side after the last of it is gone:
                "raise" `PeerGone`, or "wait" for somebody new.
            spin: how often at most to look again before sleeping, 0 to 1000000; fewer where that
                turns out not to help. 0 never spins.

        Raises:
            AlreadyExists: there is a channel of that name.
            LimitReached: /dev/shm has no room for it, or RLIMIT_NOFILE is used up.
            InvalidArgument: an argument is out of range.
            TypeError: `type` is no payload type.
        """
        checked_mode(mode)
        _checked_options(peer_gone, spin)
        codec = codec_for(type)
        shape = shape_for(codec, capacity, size)
        wanted = Name.random("channel") if name is None else checked_name(name)
        fd = make_file(wanted, shape, codec, mode=mode, overwrite=overwrite)
        try:
            return cls._opened(fd, wanted, type, True, peer_gone, spin)
        except BaseException:
            with suppress(OSError):
                os.unlink(path_of(wanted))  # noqa: PTH108 - a name, as the other calls take
            raise

    @classmethod
    def open(
        cls,
        name: str,
        type: PayloadType[T] = BYTES,
        *,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = _SPIN,
    ) -> Channel[T]:
        """Find a channel by its name; never makes one, never owns it.

        Args:
            name: the channel's name.
            type: what the messages are; the same as its maker said.
            peer_gone: as in `create`, for this handle.
            spin: as in `create`, for this handle.

        Raises:
            NotFound: there is no channel of that name.
            LayoutMismatch: its messages are of another type; the message shows both.
            AccessDenied: the mode does not allow both reading and writing.
            Corrupt: what has that name is no channel.
            LimitReached: RLIMIT_NOFILE is used up, or 256 have it open.
            InvalidArgument: an argument is out of range.
        """
        _checked_options(peer_gone, spin)
        wanted = checked_name(name)
        return cls._opened(open_file(wanted), wanted, type, False, peer_gone, spin)

    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: PayloadType[T] = BYTES,
        *,
        capacity: int = 1024,
        size: int | None = None,
        mode: int = 0o600,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = _SPIN,
        timeout: float | None = 1.0,
    ) -> Channel[T]:
        """Find a channel, or make it; the handle owns it only if it made it.

        Args:
            name: the channel's name.
            type: what the messages are.
            capacity: of a channel that is made, as `size`, `mode` and `overwrite`.
            size: see `create`.
            mode: see `create`.
            overwrite: see `create`.
            peer_gone: see `create`.
            spin: see `create`.
            timeout: seconds to keep trying while others make and unlink it meanwhile.

        Raises:
            Timeout: others made and unlinked it until the deadline.
            IpcError: as `create` and `open`.
        """
        deadline = Deadline(timeout)
        while True:
            try:
                return cls.open(name, type, peer_gone=peer_gone, spin=spin)
            except NotFound as exc:
                if deadline.expired and not isinstance(exc.__context__, AlreadyExists):
                    pass
            try:
                return cls.create(
                    name,
                    type,
                    capacity=capacity,
                    size=size,
                    mode=mode,
                    overwrite=overwrite,
                    peer_gone=peer_gone,
                    spin=spin,
                )
            except AlreadyExists:
                if deadline.expired:
                    message = "it keeps being made and unlinked"
                    target = describe(checked_name(name))
                    raise Timeout(
                        message, errno=errno.ETIMEDOUT, op="open", target=target
                    ) from None

    @classmethod
    def anonymous(
        cls,
        type: PayloadType[T] = BYTES,
        *,
        capacity: int = 1024,
        size: int | None = None,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = _SPIN,
    ) -> Channel[T]:
        """Make a channel without a name, for children: inherited by a fork, or pickled for a spawn.

        It is a memfd: it does not count in /dev/shm, and goes with its last holder.

        Args:
            type: as in `create`, and so the others.
            capacity: see `create`.
            size: see `create`.
            overwrite: see `create`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            LimitReached: memory or RLIMIT_NOFILE is used up.
            InvalidArgument: an argument is out of range.
        """
        _checked_options(peer_gone, spin)
        codec = codec_for(type)
        fd = make_anonymous(shape_for(codec, capacity, size), codec, overwrite=overwrite)
        return cls._opened(fd, None, type, True, peer_gone, spin)

    @classmethod
    def from_fd(
        cls,
        fd: int,
        type: PayloadType[T] = BYTES,
        *,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = _SPIN,
    ) -> Channel[T]:
        """Open a channel whose memory's descriptor came from elsewhere; never owns it.

        The handle takes the descriptor over and closes it. Where this fails, the descriptor is
        still the caller's.

        Args:
            fd: the descriptor, as `memory_fd` gives it.
            type: as in `open`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            InvalidArgument: `fd` is closed.
            IpcError: as `open`.
        """
        _checked_options(peer_gone, spin)
        try:
            # A file description of its own: the kernel keeps who lives by those.
            fresh = os.open(f"/proc/self/fd/{checked_fd(fd)}", os.O_RDWR | os.O_CLOEXEC)
            shown = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - text, not a path to follow
        except OSError as exc:
            message = f"descriptor {fd}: {exc.strerror}"
            raise InvalidArgument(message, errno=exc.errno or errno.EBADF) from None
        prefix = path_of(Name("-"))[:-1]
        name = None
        if shown.startswith(prefix) and not shown.endswith(" (deleted)"):
            name = Name(shown.removeprefix(prefix))
        channel = cls._opened(fresh, name, type, False, peer_gone, spin)
        os.close(fd)
        return channel

    @classmethod
    def _opened(
        cls,
        fd: int,
        name: Name | None,
        type: Any,
        owner: bool,  # noqa: FBT001 - private
        peer_gone: PeerGonePolicy,
        spin: int,
    ) -> Any:
        try:
            return cls(fd, name, type, owner=owner, peer_gone=peer_gone, spin=spin)
        except BaseException:
            os.close(fd)
            raise

    # -- messages ----------------------------------------------------------------------------------

    if TYPE_CHECKING:

        def send(self, value: T, *, timeout: float | None = None) -> None:
            """Send one message, waiting while the channel is full; see `_native.ChannelBase`."""

        def receive(self, *, timeout: float | None = None) -> T:
            """Take the next message, waiting until there is one; see `_native.ChannelBase`."""
            ...

    def send_many(
        self, values: Iterable[T] | npt.NDArray[Any], *, timeout: float | None = None
    ) -> None:
        """Send many messages, in order; others' may come in between.

        An array of records, for a channel of a Struct or of a dtype, is one call and one copy.

        Args:
            values: the messages; or a numpy array of the Struct's dtype or the channel's, of which
                each element is one.
            timeout: seconds to wait in all.

        Raises:
            IpcError: as `send`; how many were sent before is the exception's ``sent``.
            TypeError: a value is not of the payload type; none after it was sent.
        """
        checked_timeout(timeout)
        if is_array(values) and (self._layout.struct is not None or self._layout.is_array):
            records = self._records(cast("npt.NDArray[Any]", values))
            if records is not None:
                self._send_records(records, timeout)
                return
        deadline = Deadline(timeout)
        sent = 0
        try:
            for value in values:
                self.send(value, timeout=deadline.remaining)
                sent += 1
        except (IpcError, TypeError) as exc:
            cast("Any", exc).sent = sent
            raise

    def _records(self, values: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """An array whose elements are messages, contiguous; None where they are sent one by one."""
        dtype = self._layout.dtype
        shape = dtype.shape
        if values.dtype != dtype.base or values.shape[1:] != shape:
            message = f"an array of {values.dtype} with {values.ndim} dimensions; wanted: one of "
            message += f"{self._codec.name}"
            raise TypeError(message)
        return np.ascontiguousarray(values) if dtype.itemsize <= _BATCH_ITEM else None

    def _send_records(self, records: npt.NDArray[Any], timeout: float | None) -> None:
        item = self._layout.dtype.itemsize
        data = records.reshape(-1).view(np.uint8).data if records.size else b""
        sent, result = self._send_batch(data, item, timeout)
        if result != _OK:
            error: Any = self._explain_ring(result, "send_many", timeout)
            error.sent = sent
            raise error

    def receive_many(
        self, max: int | None = None, *, timeout: float | None = None
    ) -> Any:
        """Take the messages that wait, at least one.

        Args:
            max: how many at most, 1 or more; by default all that wait.
            timeout: seconds to wait for the first.

        Returns:
            A numpy array of records, for a channel of a Struct or a dtype, which cost one copy in
            all; a list for any other.

        Raises:
            IpcError: as `receive`.
        """
        checked_timeout(timeout)
        if max is not None and max < 1:
            message = f"max is {max}; it takes 1 or more"
            raise InvalidArgument(message, errno=errno.EINVAL, op="receive_many")
        if self._layout.struct is not None or self._layout.is_array:
            return self._receive_records(max, timeout)
        found = [self.receive(timeout=timeout)]
        try:
            while max is None or len(found) < max:
                found.append(self.receive(timeout=0))
        except (WouldBlock, PeerGone):
            pass  # the next call meets it again
        except LayoutMismatch as exc:
            exc.received = tuple(cast("list[Any]", found))
            raise
        return found

    def _receive_records(self, most: int | None, timeout: float | None) -> npt.NDArray[Any]:
        dtype = self._layout.dtype
        waiting = len(self) or _BATCH
        records = np.empty(waiting if most is None else min(waiting, most), dtype)
        if dtype.itemsize > _BATCH_ITEM:
            found = [self.receive_view(timeout=timeout)]
            return np.stack([each.array for each in found])
        data = records.reshape(-1).view(np.uint8).data
        received, result = self._receive_batch(data, dtype.itemsize, timeout)
        if received == 0 and result == _TOO_LONG and self._layout.is_array:
            return cast("npt.NDArray[Any]", self.receive(timeout=0))  # sent as an array by `send`
        if received == 0:
            raise self._explain_ring(result, "receive_many", timeout)
        records = records[:received]
        return records if 2 * received >= waiting else records.copy()

    def __iter__(self) -> Iterator[T]:
        """Take message after message, waiting for each, until the last sender is gone."""
        while True:
            try:
                value = self.receive()
            except PeerGone:
                return
            yield value

    # -- in place ----------------------------------------------------------------------------------

    def loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Loan:
        """Room in the channel for one message, to be written in place.

        Args:
            shape: the array's elements or shape; bytes, for a channel whose type is no array.
                By default one message of the type's fixed size.
            timeout: seconds to wait while the channel is full.

        Returns:
            The loan: ``.array``, ``.buf``, ``.value`` to write it, ``.send()`` to send it. In a
            ``with`` block it is given back if it was not sent.

        Raises:
            InvalidArgument: `shape` is missing or below 0.
            IpcError: as `send`.
        """
        layout = self._layout
        dimensions = layout.shape_for(shape)
        nbytes = layout.dtype.base.itemsize
        for each in dimensions:
            nbytes *= each
        if layout.size and nbytes != layout.size:
            message = f"every message has {layout.size} bytes, and the shape {shape} {nbytes}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="loan", target=self._target)
        slot = self._lend(Loan, nbytes, timeout)
        slot._layout, slot._shape = layout, dimensions
        return slot

    def receive_view(self, *, timeout: float | None = None) -> View:
        """Take the next message and read it where it lies.

        Args:
            timeout: seconds to wait until there is one.

        Returns:
            The view: ``.array``, ``.buf``, ``.value``. The channel has the memory back when it and
            all arrays of it are gone.

        Raises:
            IpcError: as `receive`.
        """
        view = self._view(View, timeout)
        layout = self._layout
        view._layout = layout
        view._shape = layout.dtype.shape or (view.nbytes // layout.dtype.itemsize,)
        return view

    # -- facts -------------------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name that finds the channel; None for an anonymous one."""
        return self._name

    @property
    def memory_fd(self) -> int:
        """The descriptor of the channel's memory, which stays the handle's; see `from_fd`.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("memory_fd")
        return self._fd

    def fileno(self) -> int:
        """A descriptor that is readable when a message waits, for select, poll, epoll, asyncio.

        It can be readable and another receiver be quicker: then `receive` with ``timeout=0`` says
        `WouldBlock`, and it is readable no more. A handle that never asked for it pays nothing.

        Raises:
            LimitReached: RLIMIT_NOFILE is used up.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(1)

    def space_fileno(self) -> int:
        """A descriptor that is readable when a sender that met a full channel may try again.

        Raises:
            LimitReached: RLIMIT_NOFILE is used up.
            ClosedHandle: the handle is closed.
        """
        return self._poll_fd(2)

    def stats(self) -> ChannelStats:
        """What is in the channel now.

        Raises:
            ClosedHandle: the handle is closed.
        """
        messages, used, size, dropped = self._counts()
        peers = self.peers()
        sent, received = (sum(each) for each in zip(*((p.sent, p.received) for p in peers)))
        return ChannelStats(messages, self.capacity, used, size, dropped, sent, received)

    def peers(self) -> list[ChannelPeer]:
        """Who has the channel open, and lives.

        Raises:
            ClosedHandle: the handle is closed.
        """
        return [peer_of(row) for row in self._peers()]

    def __bool__(self) -> bool:
        # A channel is something even when it is empty.
        return True

    # -- errors ------------------------------------------------------------------------------------

    def _decode_bytes(self, data: bytes) -> T:
        return self._codec.decode(data)

    def _explain_ring(self, result: int, op: str, timeout: float | None) -> IpcError:
        """Called by a native operation that failed."""
        target = self._target
        sending = not op.startswith("receive")
        if result == _CLOSED or self._closed:
            return closed_handle(op, target)
        if result == _OK:
            checked_timeout(timeout)
            message = f"timeout is {timeout!r}"
            return InvalidArgument(message, errno=errno.EINVAL, op=op, target=target)
        if result in {_EMPTY, _FULL}:
            message = "the channel is full" if sending else "no message waits"
            return WouldBlock(message, errno=errno.EAGAIN, op=op, target=target)
        if result == _TIMEOUT:
            message = f"no message came within {timeout} s"
            if sending:
                message = f"the channel was full for {timeout} s"
            return Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target)
        if result == _GONE:
            message = "it is full, and the last receiver is gone"
            if not sending:
                message = "it is empty, and the last sender is gone"
            hint = 'peer_gone="wait" waits for somebody new'
            return PeerGone(message, errno=errno.EPIPE, op=op, target=target, hint=hint)
        if result == _TOO_LONG:
            message = f"a message may have {self.longest:,} bytes at most"
            hint = "create the channel with a larger size; a message may take half of it"
            return MessageTooLong(message, errno=errno.EMSGSIZE, op=op, target=target, hint=hint)
        message = "somebody overwrote the shared memory, or was stopped in the middle of a call"
        return Corrupt(message, errno=errno.EUCLEAN, op=op, target=target)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        self._detach()

    def _remove(self) -> None:
        target = self._target
        if self._name is None:
            message = "an anonymous channel has no name to unlink; it goes with its last holder"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=target)
        try:
            os.unlink(path_of(self._name))  # noqa: PTH108 - a name, as the other calls take
        except OSError as exc:
            code = exc.errno or errno.EIO
            error = from_errno(code, op="unlink", target=target)
            if code == errno.ENOENT:
                error.strerror = "no such channel"
            raise error from None

    def _still_ours(self) -> bool:
        if self._name is None:
            return False
        try:
            found = os.lstat(path_of(self._name))
        except OSError:
            return True
        return (found.st_dev, found.st_ino) == self._file

    @property
    def _target(self) -> str:
        return describe(self._name)

    def _size_text(self) -> str:
        return f"{len(self)} of {self.capacity} messages of {self._codec.name}"

    def _reopen_args(self) -> tuple[Any, ...]:
        if is_spawning():
            return (duplicate_for_child(self._fd), self._payload, *self._options)
        if self._name is None:
            message = "an anonymous channel pickles only into a child that multiprocessing starts"
            raise InvalidArgument(message, errno=errno.EINVAL, op="pickle", target=self._target)
        return (str(self._name), self._payload, *self._options)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        found, payload, peer_gone, spin = args
        if isinstance(found, str):
            return cast("Self", cls.open(found, payload, peer_gone=peer_gone, spin=spin))
        return cast("Self", cls.from_fd(found.detach(), payload, peer_gone=peer_gone, spin=spin))


def _checked_options(peer_gone: str, spin: int) -> None:
    if peer_gone not in {"raise", "wait"}:
        message = f'peer_gone is {peer_gone!r}; it takes "raise" or "wait"'
        raise InvalidArgument(message, errno=errno.EINVAL)
    if isinstance(spin, bool) or not isinstance(spin, int):
        message = f"spin is an int, not {type(spin).__name__}"
        raise TypeError(message)
    if not 0 <= spin <= _SPIN_MOST:
        message = f"spin is {spin}; it takes 0 to {_SPIN_MOST}"
        raise InvalidArgument(message, errno=errno.EINVAL)
