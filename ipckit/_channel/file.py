"""The file of a channel: /dev/shm/ipckit.NAME, or a memfd."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ipckit._channel.memory import format_memory
from ipckit._channel.names import describe, name_of_path, path_of
from ipckit._channel.results import errno_error
from ipckit._core.descriptors import Descriptor, checked_fd, descriptor_error, identity
from ipckit._core.fd_access import check_access, check_seal
from ipckit._core.files import (
    CHANNEL_PREFIX,
    LEASED,
    SHM,
    no_proc,
    open_file,
    path_of_fd,
    proc_missing,
    shm_error,
)
from ipckit._shm.memfd import Seal, new_memfd
from ipckit.errors import AlreadyExists, Corrupt, InvalidArgument, IpcError, NotFound, from_errno

if TYPE_CHECKING:
    from ipckit._channel.shape import Shape
    from ipckit._core.trust import Trust
    from ipckit._payload.codecs import Codec
    from ipckit.keys import Name

_INSTEAD: Final = "Channel.anonymous does not need it"
# The errors of open(2) if the file system or the kernel does not support O_TMPFILE.
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


# -- create ----------------------------------------------------------------------------------------


def create_file(
    name: Name, shape: Shape, codec: Codec[Any], *, mode: int, overwrite: bool
) -> Descriptor:
    """Create the file of a named channel. It gets its name when it is complete.

    Raises:
        AlreadyExists: there is a channel of that name.
        LimitReached: /dev/shm is full, or RLIMIT_NOFILE is reached.
        NotFound: there is no /dev/shm.
    """
    target = describe(name)
    created, hidden = _hidden_file(name)
    try:
        os.fchmod(created.number, mode)
        format_memory(created.number, shape, codec, overwrite=overwrite, target=target)
        _link(created.number, hidden, path_of(name))
    except FileExistsError:
        created.close()
        message = "the channel already exists"
        hint = f'open it with Channel.open("{name[1:]}", …), or use open_or_create'
        raise AlreadyExists(
            message, errno=errno.EEXIST, op="link", target=target, hint=hint
        ) from None
    except BaseException as exc:
        created.close()
        if isinstance(exc, OSError) and not isinstance(exc, IpcError):
            raise _link_error(exc.errno or errno.EIO, target) from None
        raise
    finally:
        if hidden is not None:
            with suppress(OSError):
                os.unlink(hidden)  # noqa: PTH108 - a path as text, as for the other calls
    return _opened_by_name(created, name)


def _hidden_file(name: Name) -> tuple[Descriptor, str | None]:
    """Create a file in /dev/shm without a name, or with a random one.

    Returns:
        The file, and its path if it has a name.
    """
    target = describe(name)
    try:
        # Without a name at first. So no process sees an incomplete channel, and a crash leaves
        # no file behind.
        fd = os.open(SHM, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        code = exc.errno or errno.EIO
    else:
        return Descriptor(fd), None
    error = shm_error(code, op="open", target=target, creating=True, instead=_INSTEAD)
    if error is None and code in _NO_TMPFILE:
        # The file system can't create a file without a name, so it gets a random one first.
        path = f"{SHM}/.{CHANNEL_PREFIX}{os.urandom(8).hex()}"
        try:
            return Descriptor(open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)), path
        except OSError as exc:
            code = exc.errno or errno.EIO
    raise error or descriptor_error(code, op="open", target=target)


def _link(fd: int, hidden: str | None, path: str) -> None:
    """Link a file to its path, which must not exist."""
    if hidden is not None:
        os.link(hidden, path, follow_symlinks=False)
        return
    directory = Descriptor(os.open(SHM, os.O_PATH | os.O_CLOEXEC))
    try:
        # The directory is passed because Python calls link(2) without it, which does not follow
        # the symbolic link in /proc; with it, Python calls linkat(2).
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=directory.number, follow_symlinks=True)
    finally:
        directory.close()


def _link_error(code: int, target: str) -> IpcError:
    if code == errno.ENOENT and proc_missing():
        return no_proc(op="link", target=target)
    error = shm_error(code, op="link", target=target, creating=True, instead=_INSTEAD)
    return error or descriptor_error(code, op="link", target=target)


def _opened_by_name(created: Descriptor, name: Name) -> Descriptor:
    """Return the file opened by its new name, because /proc shows the path it was opened by.

    `created` is closed then. If the file can't be opened by its name, `created` is returned.
    """
    try:
        found = Descriptor(open_file(path_of(name), os.O_RDWR | os.O_NOFOLLOW))
    except OSError:
        return created  # the mode does not allow it, or another process unlinked the name
    same = identity(created.number) == identity(found.number)
    wrong, right = (created, found) if same else (found, created)
    wrong.close()
    return right


def create_memfd(shape: Shape, codec: Codec[Any], *, overwrite: bool) -> Descriptor:
    """Create the memfd of an anonymous channel, sealed so that no process can truncate it."""
    created = Descriptor(new_memfd("ipckit-channel"))
    try:
        format_memory(created.number, shape, codec, overwrite=overwrite, target=describe(None))
        seals = int(Seal.SHRINK | Seal.GROW | Seal.SEAL)
        fcntl.fcntl(created.number, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        created.close()
        raise
    return created


# -- open ------------------------------------------------------------------------------------------


def open_named_file(name: Name, trust: Trust) -> Descriptor:
    """Open the file of a named channel.

    Args:
        name: the channel's name.
        trust: the users whose channels are accepted.

    Raises:
        NotFound: there is no channel of that name.
        AccessDenied: the file's mode forbids it, or the file belongs to a user who is not trusted.
        WouldBlock: another process holds a lease on the file for seconds.
        Corrupt: the path is not a regular file.
    """
    target = describe(name)
    path = path_of(name)
    try:
        found = Descriptor(open_file(path, os.O_RDWR | os.O_NOFOLLOW))
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
        hint = f'create it with Channel.create("{name[1:]}", …)'
        raise NotFound("no such channel", errno=code, op="open", target=target, hint=hint)
    if code in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        raise Corrupt(f"{path} is not a channel", errno=code, op="open", target=target)
    message = LEASED if code == errno.EAGAIN else ""
    hint = "a channel needs permission to read and to write" if code == errno.EACCES else ""
    raise descriptor_error(code, op="open", target=target, message=message, hint=hint)


def check_passed_fd(fd: int) -> Name | None:
    """Check a descriptor that the caller passed, and return the name of its channel, if any.

    Raises:
        TypeError: `fd` is not an integer.
        InvalidArgument: `fd` is not open, is not a regular file, gives no access to the memory
            (O_PATH), or is a memfd that can be truncated.
        AccessDenied: `fd` was not opened for both reading and writing.
    """
    target = f"the channel of descriptor {checked_fd(fd)}"
    check_access(fd, write=True, target=target)
    check_seal(fd, target)
    return name_of_path(path_of_fd(fd))


def reopen_file(fd: int) -> Descriptor:
    """Open the file of a descriptor again, with a separate open file description.

    The kernel keeps the locks of a peer by the open file description. Opening it again gives no
    permission that `fd` does not have, and does not wait for a lease on the file.

    Raises:
        InvalidArgument: another process holds a lease on the file.
        IpcError: /proc is not mounted, or RLIMIT_NOFILE is reached.
    """
    target = f"the channel of descriptor {fd}"
    try:
        return Descriptor(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except BlockingIOError as exc:
        message = "another process holds a lease on the file"
        raise InvalidArgument(message, errno=exc.errno or 0, op="open", target=target) from None
    except OSError as exc:
        raise errno_error(exc.errno or errno.EIO, "open", target) from None


# -- unlink ----------------------------------------------------------------------------------------


def is_file(name: Name, file: tuple[int, int]) -> bool:
    """Return whether a name leads to the file of that device and inode; True if unknown."""
    try:
        found = os.lstat(path_of(name))
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == file


def unlink_file(name: Name) -> None:
    """Remove a channel's name.

    Raises:
        NotFound: there is no channel of that name.
        AccessDenied: the file belongs to another user.
    """
    try:
        os.unlink(path_of(name))  # noqa: PTH108 - a path as text, as for the other calls
    except OSError as exc:
        code = exc.errno or errno.EIO
        message = "no such channel" if code == errno.ENOENT else ""
        raise from_errno(code, op="unlink", target=describe(name), message=message) from None
