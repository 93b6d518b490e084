"""The memory of a channel: a file under /dev/shm, or a memfd, and the header in it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import inspect
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._core.descriptors import Descriptor, checked_fd, identity, name_descriptors
from ipckit._core.fd_access import check_access, check_seal
from ipckit._core.files import LEASED, SHM, no_proc, open_file, path_of_fd, proc_missing, shm_error
from ipckit._payload.codecs import CtypesCodec, Msgpack, StructCodec
from ipckit._payload.meaning import ctypes_fields
from ipckit._shm.mapping import READ_WRITE, SHARED, allocate, map_file, populate
from ipckit._shm.memfd import Seal, new_memfd
from ipckit.errors import (
    AlreadyExists,
    Corrupt,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    NotFound,
    from_errno,
)
from ipckit.keys import Name

if TYPE_CHECKING:
    from ipckit._core.trust import Trust
    from ipckit._payload.codecs import Codec

_PREFIX: Final = "ipckit."
_FULL: Final = (
    "a container's /dev/shm is often 64 MB: docker run --shm-size=1g, or an emptyDir of medium "
    "Memory in Kubernetes; Channel.anonymous does not count there"
)
_INSTEAD: Final = "Channel.anonymous needs none"
# What open(2) says of O_TMPFILE where the file system, or the kernel, does not know it.
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})
_UNIT: Final = 32
_HEADER: Final = 16
_LARGE: Final = 1024
_LARGE_HEADER: Final = 64
_CAPACITY_MAX: Final = 2**23 - 1
_SIZE_MAX: Final = 2**40 - 1
DEFAULT_SIZE: Final = 1 << 24
_POPULATE_MOST: Final = 1 << 26  # what an opener may never look at is not worth more time than this


class Shape(NamedTuple):
    """How a channel's memory is divided.

    Attributes:
        capacity: messages.
        item_size: bytes of every message, or 0 where they differ.
        longest: bytes of a message at most.
        total: bytes of the memory.
    """

    capacity: int
    item_size: int
    longest: int
    total: int


def _units(length: int) -> int:
    if length < _LARGE:
        return -(-(_HEADER + length) // _UNIT)
    return -(-(_LARGE_HEADER + length) // (2 * _UNIT)) * 2


def shape_for(codec: Codec[Any], capacity: int, size: int | None) -> Shape:
    """How much memory a channel takes.

    Raises:
        TypeError: `capacity` or `size` is not an integer.
        InvalidArgument: one is out of range, or two messages do not fit.
    """
    for name, value, most in (("capacity", capacity, _CAPACITY_MAX), ("size", size, _SIZE_MAX)):
        if value is None and name == "size":
            continue
        if not 1 <= int_argument(name, value) <= most:
            message = f"{name} is {value}; it takes 1 to {most}"
            raise InvalidArgument(message, errno=errno.EINVAL)
    capacity = int_argument("capacity", capacity)
    size = None if size is None else int_argument("size", size)
    item = codec.size or 0
    if size is None and item:
        units, longest = capacity * (_units(item) + 2) + _units(item), item
    else:
        wanted = DEFAULT_SIZE if size is None else size
        # Room for the headers on top, so that the size is what messages may take.
        units, longest = -(-wanted // _UNIT) + 2 * capacity, wanted // 2
    if item > longest:
        message = f"size is {size}; two messages of {item:,} bytes must fit"
        raise InvalidArgument(message, errno=errno.EINVAL)
    total = native.CHANNEL_ARENA_START + (units + 64) * _UNIT
    return Shape(capacity, item, item or longest, total)


def describe(name: Name | None) -> str:
    """A channel's name, for messages."""
    return "anonymous channel" if name is None else f"channel {name[1:]}"


def path_of(name: Name) -> str:
    """The file of a named channel."""
    return f"{SHM}/{_PREFIX}{name[1:]}"


def name_of_path(path: str) -> Name | None:
    """The name of a channel whose file is, or was, at a path; None where it has none."""
    prefix = path_of(Name("-"))[:-1]
    if not path.startswith(prefix) or path.endswith(" (deleted)"):
        return None
    return Name(path.removeprefix(prefix))


def checked_name(name: str) -> Name:
    """A channel's name.

    Raises:
        InvalidArgument: it can't be one.
    """
    wanted = Name(name)
    most = 255 - len(_PREFIX)
    if len(os.fsencode(wanted)) - 1 > most:
        message = f"a channel's name is at most {most} bytes"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="open")
    return wanted


def fingerprint_of(codec: Codec[Any]) -> int:
    """The payload type in 64 bits; never 0."""
    digest = hashlib.blake2b(f"{codec.fingerprint}/{codec.size}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def text_of(codec: Codec[Any]) -> str:
    """The payload type for people: a struct's C declaration, else its name and fields."""
    kind: Any = codec.accepts
    if isinstance(codec, StructCodec):
        return " ".join(kind.c_declaration().split())
    if isinstance(codec, CtypesCodec):
        fields = ", ".join(f"{name}: {hint.__name__}" for name, hint, *_ in ctypes_fields(kind))
        return f"{codec.name}({fields}) of {codec.size} bytes"
    if isinstance(codec, Msgpack):
        hints: dict[str, Any] = {}
        for base in reversed(kind.__mro__):
            hints.update(inspect.get_annotations(base))
        fields = ", ".join(f"{name}: {_plain(hints[name])}" for name in kind.__struct_fields__)
        return f"{codec.name}({fields}) as MessagePack"
    return f"{codec.name}" + (f" of {codec.size} bytes" if codec.size else "")


def _plain(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def format_memory(
    fd: int, shape: Shape, codec: Codec[Any], *, overwrite: bool, target: str
) -> None:
    """Give a new file its bytes and its header.

    Raises:
        LimitReached: there is no room for it.
    """
    allocate(fd, shape.total, target, _FULL)
    mapping = map_file(fd, shape.total, READ_WRITE, SHARED, target)
    try:
        native.channel_format(
            mapping,
            shape.capacity,
            shape.item_size,
            shape.longest,
            fingerprint_of(codec),
            int(overwrite),
            os.urandom(16),
            text_of(codec)
            .encode("utf-8", "replace")[: native.CHANNEL_TYPE_SIZE - 1]
            .decode("utf-8", "ignore"),
        )
    finally:
        mapping.close()


def _new_file(name: Name) -> tuple[Descriptor, str | None]:
    """A new file in /dev/shm that no process can find, and its path if it has one."""
    target = describe(name)
    try:
        # Without a name at first: nobody ever sees half a channel, nor is one left by a crash.
        fd = os.open(SHM, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        code = exc.errno or errno.EIO
    else:
        return Descriptor(fd), None
    error = shm_error(code, op="open", target=target, creating=True, instead=_INSTEAD)
    if error is None and code in _NO_TMPFILE:
        # Some file systems can't make a file without a name: this one gets a random name first.
        path = f"{SHM}/.{_PREFIX}{os.urandom(8).hex()}"
        try:
            return Descriptor(open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)), path
        except OSError as exc:
            code = exc.errno or errno.EIO
    raise error or name_descriptors(from_errno(code, op="open", target=target))


def _link(fd: int, hidden: str | None, path: str) -> None:
    """Give a file its name, which no other file may have."""
    if hidden is not None:
        os.link(hidden, path, follow_symlinks=False)
        return
    directory = Descriptor(os.open(SHM, os.O_PATH | os.O_CLOEXEC))
    try:
        # With a directory, because without one Python calls link(2), which follows no link.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=directory.number, follow_symlinks=True)
    finally:
        directory.close()


def make_file(
    name: Name, shape: Shape, codec: Codec[Any], *, mode: int, overwrite: bool
) -> Descriptor:
    """A new named channel's file, which appears under its name complete.

    Raises:
        AlreadyExists: there is a channel of that name.
        LimitReached: /dev/shm has no room, or RLIMIT_NOFILE is used up.
        NotFound: there is no /dev/shm.
    """
    target = describe(name)
    made, hidden = _new_file(name)
    try:
        os.fchmod(made.number, mode)
        format_memory(made.number, shape, codec, overwrite=overwrite, target=target)
        _link(made.number, hidden, path_of(name))
    except FileExistsError:
        made.close()
        message = "the channel exists already"
        hint = f'find it with Channel.open("{name[1:]}", …), or use open_or_create'
        raise AlreadyExists(
            message, errno=errno.EEXIST, op="link", target=target, hint=hint
        ) from None
    except BaseException as exc:
        made.close()
        if isinstance(exc, OSError) and not isinstance(exc, IpcError):
            raise _link_error(exc.errno or errno.EIO, target) from None
        raise
    finally:
        if hidden is not None:
            with suppress(OSError):
                os.unlink(hidden)  # noqa: PTH108 - a name, as the other calls take
    return _by_name(made, name)


def _link_error(code: int, target: str) -> IpcError:
    if code == errno.ENOENT and proc_missing():
        return no_proc(op="link", target=target)
    error = shm_error(code, op="link", target=target, creating=True, instead=_INSTEAD)
    return error or name_descriptors(from_errno(code, op="link", target=target))


def _by_name(made: Descriptor, name: Name) -> Descriptor:
    """The file, opened by the name that it got: only by such does /proc show it."""
    try:
        found = Descriptor(open_file(path_of(name), os.O_RDWR | os.O_NOFOLLOW))
    except OSError:
        return made  # the mode does not allow it, or the name is gone already
    same = identity(made.number) == identity(found.number)
    wrong, right = (made, found) if same else (found, made)
    wrong.close()
    return right


def make_anonymous(shape: Shape, codec: Codec[Any], *, overwrite: bool) -> Descriptor:
    """A new anonymous channel's memfd, sealed against being cut."""
    made = Descriptor(new_memfd("ipckit-channel"))
    try:
        format_memory(made.number, shape, codec, overwrite=overwrite, target=describe(None))
        seals = int(Seal.SHRINK | Seal.GROW | Seal.SEAL)
        fcntl.fcntl(made.number, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        made.close()
        raise
    return made


def find_file(name: Name, trust: Trust) -> Descriptor:
    """The file of a named channel.

    Args:
        name: the channel's name.
        trust: whose channels are accepted.

    Raises:
        NotFound: there is none.
        AccessDenied: its mode forbids it, or it is not to be trusted.
        WouldBlock: another process holds a lease on it for seconds.
        Corrupt: what has that name is no channel.
    """
    target = describe(name)
    try:
        found = Descriptor(open_file(path_of(name), os.O_RDWR | os.O_NOFOLLOW))
    except OSError as exc:
        code = exc.errno or errno.EIO
    else:
        try:
            trust.check_file(found.number, op="open", target=target)
        except BaseException:
            found.close()
            raise
        return found
    error = shm_error(code, op="open", target=target, creating=False, instead=_INSTEAD)
    if error is not None:
        raise error
    if code == errno.ENOENT:
        hint = f'make it with Channel.create("{name[1:]}", …)'
        raise NotFound("no such channel", errno=code, op="open", target=target, hint=hint)
    if code in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        raise Corrupt("what has that name is no channel", errno=code, op="open", target=target)
    message = LEASED if code == errno.EAGAIN else ""
    hint = "a channel takes the right to read and to write" if code == errno.EACCES else ""
    raise name_descriptors(from_errno(code, op="open", target=target, message=message, hint=hint))


def check_lent(fd: int) -> Name | None:
    """Check a descriptor that came from elsewhere; the name that finds its channel, if one does.

    Raises:
        TypeError: it is not an integer.
        InvalidArgument: it is not open, is open on something else than a file, gives no right to
            the memory (O_PATH), or is a memfd that can be cut.
        AccessDenied: it was not opened to read and to write.
    """
    target = f"the channel of descriptor {checked_fd(fd)}"
    check_access(fd, write=True, target=target)
    check_seal(fd, target)
    return name_of_path(path_of_fd(fd))


def duplicate_file(fd: int) -> Descriptor:
    """The file of a descriptor with a file description of its own, by which the kernel keeps locks.

    This gives no right that `fd` does not have, and does not wait for a lease on the file.

    Raises:
        InvalidArgument: another process holds a lease on the file.
        IpcError: /proc is not mounted, or RLIMIT_NOFILE is used up.
    """
    target = f"the channel of descriptor {fd}"
    try:
        return Descriptor(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except BlockingIOError as exc:
        message = "another process holds a lease on the file"
        raise InvalidArgument(message, errno=exc.errno or 0, op="open", target=target) from None
    except OSError as exc:
        code = exc.errno or errno.EIO
    if code == errno.ENOENT and proc_missing():
        raise no_proc(op="open", target=target)
    raise name_descriptors(from_errno(code, op="open", target=target))


def is_file(name: Name, file: tuple[int, int]) -> bool:
    """Whether a name still leads to a file; also where that can't be known."""
    try:
        found = os.lstat(path_of(name))
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == file


def unlink_file(name: Name) -> None:
    """Take a channel's name away.

    Raises:
        NotFound: it has none any more.
        AccessDenied: it is somebody else's.
    """
    try:
        os.unlink(path_of(name))  # noqa: PTH108 - a name, as the other calls take
    except OSError as exc:
        code = exc.errno or errno.EIO
        message = "no such channel" if code == errno.ENOENT else ""
        raise from_errno(code, op="unlink", target=describe(name), message=message) from None


def map_channel(fd: int, codec: Codec[Any], target: str) -> native.Mapping:
    """A channel's memory, after a look at whether it is one, and of this type.

    Raises:
        Corrupt: it is none, or of another version.
        LayoutMismatch: its messages are of another type; the message has both.
    """
    size = os.fstat(fd).st_size
    if size < native.CHANNEL_ARENA_START:
        message = f"the file has {size:,} bytes, and no channel is so small"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    mapping = map_file(fd, size, READ_WRITE, SHARED, target)
    try:
        _check_type(mapping, codec, target)
        if size <= _POPULATE_MOST:
            populate(mapping)
    except BaseException:
        mapping.close()
        raise
    return mapping


def _check_type(mapping: native.Mapping, codec: Codec[Any], target: str) -> None:
    found, text = native.channel_type(mapping)
    if found is None:
        message = "the file holds no channel of this version"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    if found == fingerprint_of(codec):
        return
    wanted = text_of(codec)
    message = f"the channel's messages are {text}, and {wanted} is wanted"
    if text == wanted[: len(text)]:
        message += "; they look alike, and differ in bytes or in what the bytes mean"
    raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=target)
