"""MemoryHandle: the base of `Channel` and `Topic`, handles of memory that has messages."""

from __future__ import annotations

import errno
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack

import ipckit._native as native
from ipckit._channel.file import (
    check_passed_fd,
    create_file,
    create_memfd,
    is_file,
    open_named_file,
    reopen_file,
    unlink_file,
)
from ipckit._channel.in_place import Loan, View
from ipckit._channel.layout import Layout
from ipckit._channel.memory import map_memory
from ipckit._channel.names import checked_name, describe, path_of
from ipckit._channel.options import check_options
from ipckit._channel.results import RingErrors
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
from ipckit._core.files import unlink_own
from ipckit._core.forks import at_fork
from ipckit._core.handle import Handle, checked_mode
from ipckit._core.making import find_or_make
from ipckit._core.trust import Trust
from ipckit._payload.codecs import BytesCodec, RawCodec, codec_for
from ipckit._payload.types import T
from ipckit.errors import InvalidArgument, NotFound
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._channel.memory import NewMemory
    from ipckit._channel.options import HandleOptions, OpenOptions, PeerGonePolicy
    from ipckit._payload.codec import Codec

H = TypeVar("H")

at_fork("channels", after_in_child=native.channels_forked)


class MemoryHandle(RingErrors, Handle, Generic[T]):
    """A handle of a file or memfd of messages, of which the native base class is the peer."""

    _descriptor: Descriptor

    if TYPE_CHECKING:  # the native base class has them
        _attach: Callable[..., None]
        _set_in_place: Callable[..., None]
        _detach: Callable[[], None]
        _lend: Callable[..., Any]

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
        self._layout = Layout(self._kind, codec)
        self._file = identity(fd)
        struct = self._layout.struct
        # The native code creates bytes and Structs itself, without a call of the codec.
        direct = struct is not None or type(codec) in {BytesCodec, RawCodec}
        decode = None if direct else codec.decode
        wait = peer_gone == "wait"
        mapping = map_memory(self._kind, fd, codec, self._target)
        try:
            self._attach(mapping, fd, owner, struct, codec.encode, decode, spin, wait)
            self._set_in_place(Loan, View, self._layout.plain_unit, self._layout.size)
        except OSError as exc:
            raise self._explain_errno(exc.errno or errno.EIO, "open") from None
        finally:
            mapping.close()  # the native code keeps the memory mapped
        Handle.__init__(self, owner=owner)

    # -- create and open ---------------------------------------------------------------------------

    @classmethod
    def _create(
        cls,
        name: str | None,
        type: Any,
        new: NewMemory,
        *,
        mode: int,
        **options: Unpack[HandleOptions],
    ) -> Self:
        """Create a named object; `new` is its memory."""
        kind = cls._kind
        wanted = Name.random(kind.word) if name is None else checked_name(kind, name)
        made = create_file(new, wanted, mode=checked_mode(mode))
        file = identity(made.number)
        try:
            return cls._opened(made, wanted, type, owner=True, **options)
        except BaseException:
            unlink_own(path_of(kind, wanted), file)
            raise

    @classmethod
    def _open(cls, name: Name, type: Any, trust: Trust, **options: Unpack[OpenOptions]) -> Self:
        """Open a named object."""
        memory = open_named_file(cls._kind, name, trust)
        return cls._opened(memory, name, type, owner=False, **options)

    @classmethod
    def _open_or_create(
        cls,
        name: str,
        type: Any,
        new: NewMemory,
        *,
        mode: int,
        timeout: float | None,
        owner_uid: int | None,
        **options: Unpack[HandleOptions],
    ) -> Self:
        """Open a named object, or create it with the memory `new`."""
        deadline = Deadline(timeout)
        wanted = checked_name(cls._kind, name)
        trust = Trust(owner_uid, checked_mode(mode))
        find = partial(cls._open, wanted, type, trust, owner_uid=owner_uid, **options)
        create = partial(cls._create, name, type, new, mode=mode, **options)
        # Creating an object allocates its memory, so try to open it first.
        make = partial(_found_or_created, find, create)
        return find_or_make(make, find, deadline, op="open", target=describe(cls._kind, wanted))

    @classmethod
    def _create_anonymous(cls, type: Any, new: NewMemory, **options: Unpack[HandleOptions]) -> Self:
        """Create an object without a name; `new` is its memory."""
        return cls._opened(create_memfd(new), None, type, owner=True, **options)

    @classmethod
    def _open_fd(cls, fd: int, type: Any, **options: Unpack[HandleOptions]) -> Self:
        """Open an object by the descriptor of its memory, and take over the descriptor."""
        name = check_passed_fd(cls._kind, fd)
        # `handed_over` makes the Descriptor own `fd` if this succeeds. Nothing keeps the
        # Descriptor, so that closes `fd`; the handle has its own descriptor.
        lent = Descriptor(fd, owned=False)
        return handed_over(lent, partial(cls._open_passed, name, type, **options))

    @classmethod
    def _open_passed(
        cls, name: Name | None, type: Any, passed: Descriptor, **options: Unpack[HandleOptions]
    ) -> Self:
        memory = reopen_file(cls._kind, passed.number)
        return cls._opened(memory, name, type, owner=False, **options)

    @classmethod
    def _opened(cls, memory: Descriptor, *args: Any, **options: Any) -> Self:
        try:
            return construct(cls, memory, *args, **options)
        except BaseException:
            memory.close()
            raise

    # -- in place ----------------------------------------------------------------------------------

    def _loan(
        self, shape: int | tuple[int, ...] | None = None, *, timeout: float | None = None
    ) -> Loan:
        """The general case of `loan`; the native code calls it if `shape` is not an int."""
        loan: Loan = self._lend(Loan, self._layout.bytes_for(shape), timeout)
        if isinstance(shape, tuple):
            loan._shape = shape
        return loan

    # -- lifecycle ---------------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name; None if it is anonymous."""
        return self._name

    @property
    def memory_fd(self) -> int:
        """The descriptor of the memory, which the handle closes; see `from_fd`.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("memory_fd")
        return self._descriptor.number

    def _release(self) -> None:
        self._detach()
        self._descriptor.close()

    @classmethod
    def remove(cls, name: str, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the object that has a name, without opening it.

        Args:
            name: the object's name.
            missing_ok: do nothing if there is no such object; False by default.

        Raises:
            NotFound: there is no object of that name.
            AccessDenied: another user owns it.
            InvalidArgument: `name` is invalid.

        Example:
            >>> from ipckit import Channel, Topic
            >>> Channel.remove("no-such-channel", missing_ok=True)
            >>> Topic.remove("no-such-topic", missing_ok=True)

        See unlink(2).
        """
        try:
            unlink_file(cls._kind, checked_name(cls._kind, name))
        except NotFound:
            if not missing_ok:
                raise

    def _remove(self) -> None:
        if self._name is None:
            message = (
                f"an anonymous {self._kind.word} has no name to unlink; it disappears with its "
                "last user"
            )
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)
        unlink_file(self._kind, self._name)

    def _still_ours(self) -> bool:
        return self._name is None or is_file(self._kind, self._name, self._file)

    @property
    def _target(self) -> str:
        return describe(self._kind, self._name)

    def _reopen_args(self) -> tuple[Any, ...]:
        if is_spawning():
            return (duplicate_for_child(self._descriptor.number), self._payload, *self._options)
        if self._name is None:
            message = (
                f"an anonymous {self._kind.word} can be pickled only for a child that "
                "multiprocessing starts"
            )
            raise InvalidArgument(message, errno=errno.EINVAL, op="pickle", target=self._target)
        return (str(self._name), self._payload, *self._options)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        found, payload, peer_gone, spin, owner_uid = args
        check_options(peer_gone, spin)
        options: HandleOptions = {"peer_gone": peer_gone, "spin": spin}
        if isinstance(found, str):
            name, trust = checked_name(cls._kind, found), Trust(owner_uid)
            return cls._open(name, payload, trust, owner_uid=owner_uid, **options)
        return reopened(found.detach(), lambda fd: cls._open_fd(fd, payload, **options))


def _found_or_created(find: Callable[[], H], create: Callable[[], H]) -> H:
    """Return the result of `find`; of `create` if `find` raises NotFound."""
    try:
        return find()
    except NotFound:
        return create()
