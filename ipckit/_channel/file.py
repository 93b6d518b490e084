"""The file of a channel: created, found, checked and unlinked."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._channel.memory import format_memory
from ipckit._channel.names import PREFIX, describe, name_of_path, path_of
from ipckit._core.descriptors import Descriptor, checked_fd, identity, name_descriptors
from ipckit._core.fd_access import check_access, check_seal
from ipckit._core.files import LEASED, SHM, no_proc, open_file, path_of_fd, proc_missing, shm_error
from ipckit._shm.memfd import Seal, new_memfd
from ipckit.errors import AlreadyExists, Corrupt, InvalidArgument, IpcError, NotFound, from_errno

if TYPE_CHECKING:
    from ipckit._channel.shape import Shape
    from ipckit._core.trust import Trust
    from ipckit._payload.codecs import Codec
    from ipckit.keys import Name

_INSTEAD: Final = "Channel.anonymous needs none"
# What open(2) says of O_TMPFILE where the file system, or the kernel, does not know it.
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


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
    error = shm_error(
        code, path_of(name), op="open", target=target, creating=True, instead=_INSTEAD
    )
    if error is None and code in _NO_TMPFILE:
        # Some file systems can't make a file without a name: this one gets a random name first.
        path = f"{SHM}/.{PREFIX}{os.urandom(8).hex()}"
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
            raise _link_error(exc.errno or errno.EIO, path_of(name), target) from None
        raise
    finally:
        if hidden is not None:
            with suppress(OSError):
                os.unlink(hidden)  # noqa: PTH108 - a name, as the other calls take
    return _by_name(made, name)


def _link_error(code: int, path: str, target: str) -> IpcError:
    if code == errno.ENOENT and proc_missing():
        return no_proc(op="link", target=target)
    error = shm_error(code, path, op="link", target=target, creating=True, instead=_INSTEAD)
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
    path = path_of(name)
    error = shm_error(code, path, op="open", target=target, creating=False, instead=_INSTEAD)
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
