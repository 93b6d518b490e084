"""The file of a channel or topic: a name in /dev/shm, or a memfd."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ipckit._channel.memory import format_memory
from ipckit._channel.names import describe, name_of_path, path_of
from ipckit._channel.results import errno_error
from ipckit._core.descriptors import Descriptor, checked_fd, descriptor_error, identity
from ipckit._core.fd_access import check_access, check_seal
from ipckit._core.files import (
    LEASED,
    SHM,
    no_proc,
    open_file,
    path_of_fd,
    proc_missing,
    shm_error,
)
from ipckit._core.taken import exists, file_use
from ipckit._shm.memfd import Seal, new_memfd
from ipckit.errors import AlreadyExists, Corrupt, InvalidArgument, IpcError, NotFound, from_errno

if TYPE_CHECKING:
    from ipckit._channel.kind import Kind
    from ipckit._channel.memory import NewMemory
    from ipckit._core.trust import Trust
    from ipckit.keys import Name

# The errors of open(2) if the file system or the kernel does not support O_TMPFILE.
_NO_TMPFILE: Final = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL})


# -- create ----------------------------------------------------------------------------------------


def create_file(new: NewMemory, name: Name, *, mode: int) -> Descriptor:
    """Create the file of a named channel or topic. It gets its name when it is complete.

    Args:
        new: its memory.
        name: its name.
        mode: the permission bits of the file.

    Raises:
        AlreadyExists: there is an object of that kind and name.
        LimitReached: /dev/shm is full, or RLIMIT_NOFILE is reached.
        NotFound: there is no /dev/shm.
    """
    kind = new.kind
    target = describe(kind, name)
    created, hidden = _hidden_file(kind, name)
    try:
        os.fchmod(created.number, mode)
        format_memory(created.number, new, target)
        _link(created.number, hidden, path_of(kind, name))
    except FileExistsError:
        created.close()
        use = file_use(path_of(kind, name))
        message, hint = exists(kind.word, kind.class_name, f'"{name[1:]}"', use)
        raise AlreadyExists(
            message, errno=errno.EEXIST, op="link", target=target, hint=hint
        ) from None
    except BaseException as exc:
        created.close()
        if isinstance(exc, OSError) and not isinstance(exc, IpcError):
            raise _link_error(kind, exc.errno or errno.EIO, target) from None
        raise
    finally:
        if hidden is not None:
            with suppress(OSError):
                os.unlink(hidden)  # noqa: PTH108 - a path as text, as for the other calls
    return _opened_by_name(created, path_of(kind, name))


def _hidden_file(kind: Kind, name: Name) -> tuple[Descriptor, str | None]:
    """Create a file in /dev/shm without a name, or with a random one.

    Returns:
        The file, and its path if it has a name.
    """
    target = describe(kind, name)
    try:
        # Without a name at first. So no process sees an incomplete file, and a crash leaves
        # nothing behind.
        fd = os.open(SHM, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        code = exc.errno or errno.EIO
    else:
        return Descriptor(fd), None
    error = _shm_error(kind, code, "open", target, creating=True)
    if error is None and code in _NO_TMPFILE:
        # The file system can't create a file without a name, so it gets a random one first.
        path = f"{SHM}/.{kind.prefix}{os.urandom(8).hex()}"
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


def _link_error(kind: Kind, code: int, target: str) -> IpcError:
    if code == errno.ENOENT and proc_missing():
        return no_proc(op="link", target=target)
    error = _shm_error(kind, code, "link", target, creating=True)
    return error or descriptor_error(code, op="link", target=target)


def _shm_error(kind: Kind, code: int, op: str, target: str, *, creating: bool) -> IpcError | None:
    """Return the error if a call failed because of the directory /dev/shm; else None."""
    instead = f"{kind.class_name}.anonymous does not need it"
    return shm_error(code, op=op, target=target, creating=creating, instead=instead)


def _opened_by_name(created: Descriptor, path: str) -> Descriptor:
    """Return the file opened by its new path, because /proc shows the path it was opened by.

    `created` is closed then. If the file can't be opened by its path, `created` is returned.
    """
    try:
        found = Descriptor(open_file(path, os.O_RDWR | os.O_NOFOLLOW))
    except OSError:
        return created  # the mode does not allow it, or another process unlinked the name
    same = identity(created.number) == identity(found.number)
    wrong, right = (created, found) if same else (found, created)
    wrong.close()
    return right


def create_memfd(new: NewMemory) -> Descriptor:
    """Create the memfd of an anonymous object, sealed so that no process can truncate it."""
    created = Descriptor(new_memfd(f"ipckit-{new.kind.word}"))
    try:
        format_memory(created.number, new, describe(new.kind, None))
        seals = int(Seal.SHRINK | Seal.GROW | Seal.SEAL)
        fcntl.fcntl(created.number, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        created.close()
        raise
    return created


# -- open ------------------------------------------------------------------------------------------


def open_named_file(kind: Kind, name: Name, trust: Trust) -> Descriptor:
    """Open the file of a named channel or topic.

    Args:
        kind: whether it is a channel or a topic.
        name: its name.
        trust: the users whose objects are accepted.

    Raises:
        NotFound: there is no object of that kind and name.
        AccessDenied: the file's mode forbids it, or the file belongs to a user who is not trusted.
        WouldBlock: another process holds a lease on the file for seconds.
        Corrupt: the path is not a regular file.
    """
    target = describe(kind, name)
    path = path_of(kind, name)
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
    error = _shm_error(kind, code, "open", target, creating=False)
    if error is not None:
        raise error
    if code == errno.ENOENT:
        hint = f'create it with {kind.class_name}.create("{name[1:]}", …)'
        raise NotFound(f"no such {kind.word}", errno=code, op="open", target=target, hint=hint)
    if code in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
        raise Corrupt(f"{path} is not a {kind.word}", errno=code, op="open", target=target)
    message = LEASED if code == errno.EAGAIN else ""
    hint = f"a {kind.word} needs permission to read and to write" if code == errno.EACCES else ""
    raise descriptor_error(code, op="open", target=target, message=message, hint=hint)


def check_passed_fd(kind: Kind, fd: int) -> Name | None:
    """Check a descriptor that the caller passed, and return the name of its object, if any.

    Raises:
        TypeError: `fd` is not an integer.
        InvalidArgument: `fd` is not open, is not a regular file, gives no access to the memory
            (O_PATH), or is a memfd that can be truncated.
        AccessDenied: `fd` was not opened for both reading and writing.
    """
    target = f"the {kind.word} of descriptor {checked_fd(fd)}"
    check_access(fd, write=True, target=target)
    check_seal(fd, target)
    return name_of_path(kind, path_of_fd(fd))


def reopen_file(kind: Kind, fd: int) -> Descriptor:
    """Open the file of a descriptor again, with a separate open file description.

    The kernel keeps the locks of a peer by the open file description. Opening it again gives no
    permission that `fd` does not have, and does not wait for a lease on the file.

    Raises:
        InvalidArgument: another process holds a lease on the file.
        IpcError: /proc is not mounted, or RLIMIT_NOFILE is reached.
    """
    target = f"the {kind.word} of descriptor {fd}"
    try:
        return Descriptor(os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except BlockingIOError as exc:
        message = "another process holds a lease on the file"
        raise InvalidArgument(message, errno=exc.errno or 0, op="open", target=target) from None
    except OSError as exc:
        raise errno_error(kind, exc.errno or errno.EIO, "open", target) from None


# -- unlink ----------------------------------------------------------------------------------------


def is_file(kind: Kind, name: Name, file: tuple[int, int]) -> bool:
    """Return whether a name leads to the file of that device and inode; True if unknown."""
    try:
        found = os.lstat(path_of(kind, name))
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == file


def unlink_file(kind: Kind, name: Name) -> None:
    """Remove the name of a channel or topic.

    Raises:
        NotFound: there is no object of that kind and name.
        AccessDenied: the file belongs to another user.
    """
    try:
        os.unlink(path_of(kind, name))  # noqa: PTH108 - a path as text, as for the other calls
    except OSError as exc:
        code = exc.errno or errno.EIO
        message = f"no such {kind.word}" if code == errno.ENOENT else ""
        raise from_errno(code, op="unlink", target=describe(kind, name), message=message) from None
