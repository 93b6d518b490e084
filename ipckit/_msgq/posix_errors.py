"""What a failed mq_open means, said so that a user knows what to do."""

from __future__ import annotations

import errno
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core.limits import (
    described,
    descriptors_exhausted,
    mqueue_charge,
    soft_limit,
    sysctl,
    user_name,
)
from ipckit.errors import (
    AccessDenied,
    AlreadyExists,
    IpcError,
    LimitReached,
    NotFound,
    from_errno,
)

if TYPE_CHECKING:
    from ipckit.keys import Name

_MOUNTED: Final = Path("/dev/mqueue")


def describe(name: Name | None) -> str:
    """A queue's name for messages: ``queue /frames``."""
    return "an unlinked queue" if name is None else f"queue {name}"


def open_error(exc: OSError, name: Name) -> IpcError:
    """Why a queue could not be opened."""
    error = from_errno(exc.errno or errno.EIO, op="mq_open", target=describe(name))
    if isinstance(error, NotFound):
        error.strerror = "no such queue"
        error.hint = f'make it with PosixMessageQueue.create("{name}")'
    elif isinstance(error, AccessDenied):
        error.strerror = f"permission denied{_owner_and_mode(name)}"
        error.hint = "the owner can allow it with a wider mode; readonly or writeonly asks for less"
    elif error.errno == errno.EMFILE:
        _name_descriptors(error)
    return error


def create_error(exc: OSError, name: Name, max_messages: int, max_size: int) -> IpcError:
    """Why a queue could not be made."""
    error = from_errno(exc.errno or errno.EIO, op="mq_open", target=describe(name))
    if isinstance(error, AlreadyExists):
        error.strerror = "the queue exists already"
        error.hint = f'find it with PosixMessageQueue.open("{name}"), or use open_or_create'
    elif error.errno == errno.EMFILE and not descriptors_exhausted():
        charge = mqueue_charge(max_messages, max_size)
        limit = soft_limit(resource.RLIMIT_MSGQUEUE)
        error.strerror = (
            f"the queue counts {charge:,} bytes, and the user's queues together would exceed "
            f"RLIMIT_MSGQUEUE ({limit})"
        )
        error.hint = "make it smaller, unlink others, or raise it with ulimit -q"
    elif error.errno == errno.EMFILE:
        _name_descriptors(error)
    elif error.errno == errno.ENOSPC:
        error.strerror = (
            f"the system has all the queues that {described('fs.mqueue.queues_max')} allows"
        )
        error.hint = "unlink some, or as root raise the sysctl"
    elif error.errno == errno.EINVAL:
        return _too_large(error, max_messages, max_size)
    return error


def _too_large(error: IpcError, max_messages: int, max_size: int) -> IpcError:
    for what, value, limit in (
        ("max_messages", max_messages, "fs.mqueue.msg_max"),
        ("max_size", max_size, "fs.mqueue.msgsize_max"),
    ):
        most = sysctl(limit)
        if most is not None and value > most:
            return LimitReached(
                f"{what} of {value:,} exceeds {limit} ({most})",
                errno=errno.EINVAL,
                op=error.op,
                target=error.target,
                hint=f"as root: sysctl {limit}={value}",
            )
    return error


def _owner_and_mode(name: Name) -> str:
    # A queue that can't be opened can't be asked; its file can, where the file system is mounted.
    try:
        found = _MOUNTED.joinpath(name[1:]).stat()
    except OSError:
        return ""
    return f": the owner is {user_name(found.st_uid)}, the mode {found.st_mode & 0o777:04o}"


def _name_descriptors(error: IpcError) -> None:
    limit = soft_limit(resource.RLIMIT_NOFILE)
    error.strerror = f"the process has all the descriptors that RLIMIT_NOFILE ({limit}) allows"
    error.hint = "close some, or raise it with ulimit -n"
