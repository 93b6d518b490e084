"""A channel as an object: made, found, described and removed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Generic, Self, Unpack, cast, overload

import ipckit._native as native
from ipckit._channel.file import (
    check_lent,
    checked_name,
    describe,
    duplicate_file,
    find_file,
    is_file,
    make_anonymous,
    make_file,
    map_channel,
    path_of,
    shape_for,
    unlink_file,
)
from ipckit._channel.in_place import Layout, Loan, View
from ipckit._channel.options import SPIN, check_options
from ipckit._channel.results import errno_error, ring_error, undecodable
from ipckit._core import processes
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import (
    Descriptor,
    duplicate_for_child,
    handed_over,
    identity,
    is_spawning,
    reopened,
)
from ipckit._core.files import no_proc, proc_missing, unlink_own
from ipckit._core.forks import at_fork
from ipckit._core.handle import Capabilities, Handle, checked_mode
from ipckit._core.making import PATIENCE, find_or_make
from ipckit._core.trust import Trust
from ipckit._payload.codecs import BytesCodec, codec_for
from ipckit._payload.types import BYTES, T, V
from ipckit.errors import InvalidArgument, NotFound
from ipckit.keys import Name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ipckit._channel.channel import Channel
    from ipckit._channel.options import (
        CreateOptions,
        OpenOptions,
        OpenOrCreateOptions,
        PeerGonePolicy,
    )
    from ipckit._payload.codecs import Codec
    from ipckit._payload.types import PayloadType
    from ipckit.errors import IpcError

at_fork("channels", after_in_child=native.channels_forked)


class ChannelObject(native.ChannelBase, Handle, Generic[T]):
    """A channel as an object: made, found, described and removed."""

    _descriptor: Descriptor
    caps = Capabilities(
        pollable=True,
        timed=True,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )

    def __init__(
        self,
        memory: Descriptor,
        name: Name | None,
        payload: Any,
        *,
        owner: bool,
        peer_gone: PeerGonePolicy,
        spin: int,
        owner_uid: int | None = None,
    ) -> None:
        self._name, self._payload, self._descriptor = name, payload, memory
        self._options = (peer_gone, spin, owner_uid)
        fd = memory.number
        codec: Codec[Any] = codec_for(payload)
        self._codec: Codec[T] = codec
        self._layout = Layout(codec)
        self._file = identity(fd)
        struct = self._layout.struct
        # Bytes and structs come from the ring as they are, without a codec's call.
        direct = struct is not None or type(codec) is BytesCodec
        decode = None if direct else codec.decode
        wait = peer_gone == "wait"
        mapping = map_channel(fd, codec, self._target)
        try:
            self._attach(mapping, fd, owner, struct, codec.encode, decode, spin, wait)
            self._set_in_place(Loan, View, self._layout.plain_unit, self._layout.size)
        except OSError as exc:
            code = exc.errno or errno.EIO
            if code == errno.ENOENT and proc_missing():
                raise no_proc(op="open", target=self._target) from None
            raise errno_error(code, "open", self._target) from None
        finally:
            mapping.close()  # what is attached keeps it mapped
        Handle.__init__(self, owner=owner)

    # -- making and finding ------------------------------------------------------------------------

    @overload
    @classmethod
    def create(
        cls,
        name: str | None,
        type: np.dtype[Any],
        **options: Unpack[CreateOptions],
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def create(
        cls,
        name: str | None = ...,
        type: PayloadType[V] = ...,
        **options: Unpack[CreateOptions],
    ) -> Channel[V]: ...
    @classmethod
    def create(
        cls,
        name: str | None = None,
        type: Any = BYTES,
        *,
        capacity: int = 1024,
        size: int | None = None,
        mode: int = 0o600,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Channel[Any]:
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
            NotFound: the system has no /dev/shm.
            AccessDenied: /dev/shm does not let this process write.
            InvalidArgument: an argument is out of range.
            TypeError: `type` is no payload type.
        """
        checked_mode(mode)
        check_options(peer_gone, spin)
        codec: Codec[Any] = codec_for(type)
        shape = shape_for(codec, capacity, size)
        wanted = Name.random("channel") if name is None else checked_name(name)
        made = make_file(wanted, shape, codec, mode=mode, overwrite=overwrite)
        file = identity(made.number)
        try:
            return cls._opened(made, wanted, type, owner=True, peer_gone=peer_gone, spin=spin)
        except BaseException:
            unlink_own(path_of(wanted), file)
            raise

    @overload
    @classmethod
    def open(
        cls,
        name: str,
        type: np.dtype[Any],
        **options: Unpack[OpenOptions],
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open(
        cls,
        name: str,
        type: PayloadType[V] = ...,
        **options: Unpack[OpenOptions],
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
        """Find a channel by its name; never makes one, never owns it.

        Args:
            name: the channel's name.
            type: what the messages are; the same as its maker said.
            peer_gone: as in `create`, for this handle.
            spin: as in `create`, for this handle.
            owner_uid: a user whose channel is accepted beside this user's and root's.

        Raises:
            NotFound: there is no channel of that name.
            LayoutMismatch: its messages are of another type; the message shows both.
            AccessDenied: the mode does not allow both reading and writing, or the channel belongs
                to another user, who could have put anything into it.
            Corrupt: what has that name is no channel.
            LimitReached: RLIMIT_NOFILE is used up, or 256 have it open.
            InvalidArgument: an argument is out of range.
        """
        check_options(peer_gone, spin)
        options: OpenOptions = {"peer_gone": peer_gone, "spin": spin, "owner_uid": owner_uid}
        return cls._found(checked_name(name), type, Trust(owner_uid), options)

    @classmethod
    def _found(cls, name: Name, type: Any, trust: Trust, options: OpenOptions) -> Channel[Any]:
        return cls._opened(find_file(name, trust), name, type, owner=False, **options)

    @overload
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: np.dtype[Any],
        **options: Unpack[OpenOrCreateOptions],
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: PayloadType[V] = ...,
        **options: Unpack[OpenOrCreateOptions],
    ) -> Channel[V]: ...
    @classmethod
    def open_or_create(
        cls,
        name: str,
        type: Any = BYTES,
        *,
        capacity: int = 1024,
        size: int | None = None,
        mode: int = 0o600,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
        timeout: float | None = PATIENCE,
        owner_uid: int | None = None,
    ) -> Channel[Any]:
        """Find a channel, or make it; the handle owns it only if it made it.

        Args:
            name: the channel's name.
            type: what the messages are.
            capacity: of a channel that is made, as `size`, `mode` and `overwrite`.
            size: see `create`.
            mode: see `create`; also the widest mode of a channel that is found.
            overwrite: see `create`.
            peer_gone: see `create`.
            spin: see `create`.
            timeout: seconds to keep trying while others make and unlink it meanwhile.
            owner_uid: as in `open`.

        Raises:
            Timeout: others made and unlinked it until the deadline.
            AccessDenied: also when the channel that is there lets other users do more than `mode`.
            IpcError: as `create` and `open`.
        """
        deadline = Deadline(timeout)
        wanted, trust = checked_name(name), Trust(owner_uid, checked_mode(mode))
        check_options(peer_gone, spin)
        shape_for(codec_for(type), capacity, size)  # wrong is wrong, whether it is there or not
        options: OpenOptions = {"peer_gone": peer_gone, "spin": spin, "owner_uid": owner_uid}

        def find() -> Channel[Any]:
            return cls._found(wanted, type, trust, options)

        def make() -> Channel[Any]:
            # Making one costs its memory: look first.
            try:
                return find()
            except NotFound:
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

        return find_or_make(make, find, deadline, op="open", target=describe(wanted))

    @overload
    @classmethod
    def anonymous(
        cls,
        type: np.dtype[Any],
        *,
        capacity: int = ...,
        size: int | None = ...,
        overwrite: bool = ...,
        peer_gone: PeerGonePolicy = ...,
        spin: int = ...,
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def anonymous(
        cls,
        type: PayloadType[V] = ...,
        *,
        capacity: int = ...,
        size: int | None = ...,
        overwrite: bool = ...,
        peer_gone: PeerGonePolicy = ...,
        spin: int = ...,
    ) -> Channel[V]: ...
    @classmethod
    def anonymous(
        cls,
        type: Any = BYTES,
        *,
        capacity: int = 1024,
        size: int | None = None,
        overwrite: bool = False,
        peer_gone: PeerGonePolicy = "raise",
        spin: int = SPIN,
    ) -> Channel[Any]:
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
        check_options(peer_gone, spin)
        codec: Codec[Any] = codec_for(type)
        memory = make_anonymous(shape_for(codec, capacity, size), codec, overwrite=overwrite)
        return cls._opened(memory, None, type, owner=True, peer_gone=peer_gone, spin=spin)

    @overload
    @classmethod
    def from_fd(
        cls,
        fd: int,
        type: np.dtype[Any],
        *,
        peer_gone: PeerGonePolicy = ...,
        spin: int = ...,
    ) -> Channel[npt.NDArray[Any]]: ...
    @overload
    @classmethod
    def from_fd(
        cls,
        fd: int,
        type: PayloadType[V] = ...,
        *,
        peer_gone: PeerGonePolicy = ...,
        spin: int = ...,
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
        """Open a channel whose memory's descriptor came from elsewhere; never owns it.

        The handle takes the descriptor over and closes it. Where this fails, the descriptor is
        still the caller's.

        Args:
            fd: the descriptor, as `memory_fd` gives it.
            type: as in `open`.
            peer_gone: see `create`.
            spin: see `create`.

        Raises:
            InvalidArgument: `fd` is closed, is not a regular file, is a memfd without the seal
                SHRINK, or another process holds a lease on the file.
            AccessDenied: `fd` was opened for reading only, or for writing only.
            IpcError: as `open`.
        """
        check_options(peer_gone, spin)
        name = check_lent(fd)

        def make(lent: Descriptor) -> Channel[Any]:
            memory = duplicate_file(lent.number)
            return cls._opened(memory, name, type, owner=False, peer_gone=peer_gone, spin=spin)

        # The caller's goes with the `Descriptor`, which is dropped once it is not the caller's.
        return handed_over(Descriptor(fd, owned=False), make)

    @classmethod
    def _opened(cls, memory: Descriptor, *args: Any, **options: Any) -> Channel[Any]:
        try:
            return cast("Channel[Any]", construct(cls, memory, *args, **options))
        except BaseException:
            memory.close()
            raise

    # -- lifecycle ---------------------------------------------------------------------------------

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
        return self._descriptor.number

    def _explain_ring(self, result: int, op: str, timeout: float | None) -> IpcError:
        """Called by a native operation that failed."""
        if self._closed:
            result = native.RING_CLOSED
        longest = 0 if self._closed else self.longest
        holder = 0
        if result == native.RING_BUSY:
            pid, token = self._lock_holder(1 if op.startswith("receive") else 2)
            holder = processes.pid_of(token) or pid
        return ring_error(result, op, self._target, timeout, longest=longest, holder=holder)

    def _explain_errno(self, code: int, op: str) -> IpcError:
        """Called by a native operation that got no place among the peers, or no descriptor."""
        return errno_error(code, op, self._target)

    def _undecodable(self, exc: BaseException, raw: object) -> BaseException:
        """Called by a native receive whose codec failed."""
        return undecodable(exc, raw, self._target)

    def _release(self) -> None:
        self._detach()
        self._descriptor.close()

    def _remove(self) -> None:
        if self._name is None:
            message = "an anonymous channel has no name to unlink; it goes with its last holder"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)
        unlink_file(self._name)

    def _still_ours(self) -> bool:
        return self._name is None or is_file(self._name, self._file)

    @property
    def _target(self) -> str:
        return describe(self._name)

    def _size_text(self) -> str:
        return f"{len(self)} of {self.capacity} messages of {self._codec.name}"

    def _reopen_args(self) -> tuple[Any, ...]:
        if is_spawning():
            return (duplicate_for_child(self._descriptor.number), self._payload, *self._options)
        if self._name is None:
            message = "an anonymous channel pickles only into a child that multiprocessing starts"
            raise InvalidArgument(message, errno=errno.EINVAL, op="pickle", target=self._target)
        return (str(self._name), self._payload, *self._options)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        found, payload, peer_gone, spin, owner_uid = args
        if isinstance(found, str):
            opened = cls.open(found, payload, peer_gone=peer_gone, spin=spin, owner_uid=owner_uid)
            return cast("Self", opened)

        def make(fd: int) -> Channel[Any]:
            return cls.from_fd(fd, payload, peer_gone=peer_gone, spin=spin)

        return cast("Self", reopened(found.detach(), make))
