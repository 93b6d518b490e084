"""The memory of a channel: a file under /dev/shm, or a memfd, and the header in it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import inspect
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ipckit import _native
from ipckit._fd_rights import check_access, check_seal
from ipckit._arguments import int_argument
from ipckit._meaning import ctypes_fields
from ipckit._shm_file import (
    READ_WRITE,
    SHARED,
    allocate,
    identity,
    map_file,
    name_descriptors,
    populate,
)
from ipckit._shm_memfd import Seal, new_memfd
from ipckit.codec import CtypesCodec, Msgpack, StructCodec
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
    from ipckit.codec import Codec

_DIRECTORY: Final = "/dev/shm"  # noqa: S108 - where POSIX shared memory lives
_PREFIX: Final = "ipckit."
_FULL: Final = (
    "a container's /dev/shm is often 64 MB: docker run --shm-size=1g, or an emptyDir of medium "
    "Memory in Kubernetes; Channel.anonymous does not count there"
)
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
    total = _native.CHANNEL_ARENA_START + (units + 64) * _UNIT
    return Shape(capacity, item, item or longest, total)


def describe(name: Name | None) -> str:
    """A channel's name, for messages."""
    return "anonymous channel" if name is None else f"channel {name[1:]}"


def path_of(name: Name) -> str:
    """The file of a named channel."""
    return f"{_DIRECTORY}/{_PREFIX}{name[1:]}"


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
        _native.channel_format(
            mapping,
            shape.capacity,
            shape.item_size,
            shape.longest,
            fingerprint_of(codec),
            int(overwrite),
            os.urandom(16),
            text_of(codec)
            .encode("utf-8", "replace")[: _native.CHANNEL_TYPE_SIZE - 1]
            .decode("utf-8", "ignore"),
        )
    finally:
        mapping.close()


def _link(fd: int, path: str) -> None:
    """Give a file without a name one."""
    directory = os.open(_DIRECTORY, os.O_PATH | os.O_CLOEXEC)
    try:
        # With a directory, because without one Python calls link(2), which follows no link.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def make_file(name: Name, shape: Shape, codec: Codec[Any], *, mode: int, overwrite: bool) -> int:
    """A new named channel's file, which appears under its name complete; its descriptor.

    Raises:
        AlreadyExists: there is a channel of that name.
        LimitReached: /dev/shm has no room, or RLIMIT_NOFILE is used up.
    """
    target = describe(name)
    try:
        # Without a name at first: nobody ever sees half a channel, nor is one left by a crash.
        fd = os.open(_DIRECTORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        code = exc.errno or errno.EIO
        raise name_descriptors(from_errno(code, op="open", target=target)) from None
    try:
        os.fchmod(fd, mode)
        format_memory(fd, shape, codec, overwrite=overwrite, target=target)
        _link(fd, path_of(name))
    except FileExistsError:
        os.close(fd)
        message = "the channel exists already"
        hint = f'find it with Channel.open("{name[1:]}", …), or use open_or_create'
        raise AlreadyExists(
            message, errno=errno.EEXIST, op="link", target=target, hint=hint
        ) from None
    except BaseException as exc:
        os.close(fd)
        if isinstance(exc, OSError) and not isinstance(exc, IpcError):
            raise from_errno(exc.errno or errno.EIO, op="link", target=target) from None
        raise
    return _by_name(fd, name)


def _by_name(fd: int, name: Name) -> int:
    """The file's descriptor, opened by the name that it got: only by such does /proc show it."""
    try:
        found = os.open(path_of(name), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return fd  # the mode does not allow it, or the name is gone already
    wrong = fd if identity(fd) == identity(found) else found
    os.close(wrong)
    return found if wrong == fd else fd


def make_anonymous(shape: Shape, codec: Codec[Any], *, overwrite: bool) -> int:
    """A new anonymous channel's memfd, sealed against being cut."""
    fd = new_memfd("ipckit-channel")
    try:
        format_memory(fd, shape, codec, overwrite=overwrite, target=describe(None))
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, int(Seal.SHRINK | Seal.GROW | Seal.SEAL))
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_file(name: Name) -> int:
    """The descriptor of a named channel.

    Raises:
        NotFound: there is none.
        AccessDenied: its mode forbids it.
        Corrupt: what has that name is no channel.
    """
    target = describe(name)
    try:
        return os.open(path_of(name), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        code = exc.errno or errno.EIO
    if code == errno.ENOENT:
        hint = f'make it with Channel.create("{name[1:]}", …)'
        raise NotFound("no such channel", errno=code, op="open", target=target, hint=hint)
    if code in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        raise Corrupt("what has that name is no channel", errno=code, op="open", target=target)
    hint = "a channel takes the right to read and to write" if code == errno.EACCES else ""
    raise name_descriptors(from_errno(code, op="open", target=target, hint=hint))


def reopened(fd: int) -> tuple[int, Name | None]:
    """A second file description of a channel's memory, and the channel's name.

    The kernel keeps the locks of a peer by file description, so each handle needs its own. This
    gives no right that `fd` does not have, and does not wait for a lease on the file.

    Raises:
        InvalidArgument: `fd` is no file in memory that can be opened, or is a memfd that can be
            cut.
        AccessDenied: `fd` was not opened for reading and writing.
    """
    target = f"the channel of descriptor {fd}"
    check_access(fd, write=True, target=target)
    check_seal(fd, target)
    shown = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - text, not a path to follow
    try:
        fresh = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except BlockingIOError as exc:
        message = "another process holds a lease on the file"
        raise InvalidArgument(message, errno=exc.errno or 0, op="open", target=target) from None
    except OSError as exc:
        code = exc.errno or errno.EIO
        raise name_descriptors(from_errno(code, op="open", target=target)) from None
    return fresh, name_of_path(shown)


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


def map_channel(fd: int, codec: Codec[Any], target: str) -> _native.Mapping:
    """A channel's memory, after a look at whether it is one, and of this type.

    Raises:
        Corrupt: it is none, or of another version.
        LayoutMismatch: its messages are of another type; the message has both.
    """
    size = os.fstat(fd).st_size
    if size < _native.CHANNEL_ARENA_START:
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


def _check_type(mapping: _native.Mapping, codec: Codec[Any], target: str) -> None:
    found, text = _native.channel_type(mapping)
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
