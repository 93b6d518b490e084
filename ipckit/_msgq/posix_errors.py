"""The exceptions for failed calls on POSIX queues, with the facts that help the user."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.handle import closed_handle
from ipckit._core.limits import (
    described,
    descriptors_exhausted,
    mqueue_charge,
    soft_limit,
    sysctl,
    user_name,
)
from ipckit._core.taken import UNKNOWN, Use, exists, fd_use
from ipckit.errors import AccessDenied, InvalidArgument, IpcError, LimitReached, from_errno

if TYPE_CHECKING:
    from ipckit.keys import Name

_MOUNTED: Final = Path("/dev/mqueue")


def describe(name: Name | None) -> str:
    """Return a queue's name for messages: ``queue /frames``."""
    return "an unlinked queue" if name is None else f"queue {name}"


def open_error(exc: OSError, name: Name) -> IpcError:
    """Return the exception for a queue that could not be opened."""
    code = exc.errno or errno.EIO
    message = hint = ""
    if code == errno.ENOENT:
        message = "no such queue"
        hint = f'create it with PosixMessageQueue.create("{name}")'
    elif code == errno.EACCES:
        message = f"permission denied{_owner_and_mode(name)}"
        hint = "the owner can allow it with a wider mode; readonly or writeonly asks for less"
    elif code == errno.EMFILE:
        message, hint = _no_descriptors()
    return from_errno(code, op="mq_open", target=describe(name), message=message, hint=hint)


def _use(name: Name) -> Use:
    """Return whether a process has a queue open."""
    try:
        fd = native.mq_open(name, os.O_RDONLY, 0, 0, 0)
    except OSError:
        return UNKNOWN
    try:
        return fd_use(fd)
    finally:
        os.close(fd)


def create_error(exc: OSError, name: Name, max_messages: int, max_size: int) -> IpcError:
    """Return the exception for a queue that could not be created."""
    code = exc.errno or errno.EIO
    message = hint = ""
    if code == errno.EEXIST:
        message, hint = exists("queue", "PosixMessageQueue", f'"{name}"', _use(name))
    elif code == errno.EMFILE:
        message, hint = _no_memory_or_descriptors(max_messages, max_size)
    elif code == errno.ENOSPC:
        message = f"the system has as many queues as {described('fs.mqueue.queues_max')} allows"
        hint = "unlink some, or as root raise the sysctl"
    elif code == errno.EINVAL:
        for what, value, limit in (
            ("max_messages", max_messages, "fs.mqueue.msg_max"),
            ("max_size", max_size, "fs.mqueue.msgsize_max"),
        ):
            most = sysctl(limit)
            if most is not None and value > most:
                message = f"{what} of {value:,} exceeds {limit} ({most})"
                hint = f"as root: sysctl {limit}={value}"
                return LimitReached(
                    message, errno=code, op="mq_open", target=describe(name), hint=hint
                )
    return from_errno(code, op="mq_open", target=describe(name), message=message, hint=hint)


def call_error(
    op: str,
    target: str,
    exc: OSError | ValueError,
    timeout: float | None,
    *,
    closed: bool,
    access: str,
    max_size: int,
    data: Any = b"",
) -> IpcError:
    """Return the exception for a failed mq_send or mq_receive.

    Args:
        op: ``"mq_send"`` or ``"mq_receive"``.
        target: the queue, for the message.
        exc: the exception of the native call.
        timeout: the caller's timeout.
        closed: whether the handle is closed, which explains any failure.
        access: ``"readonly"``, ``"writeonly"``, or "" for a handle that can do both.
        max_size: the most bytes of one message.
        data: the message's bytes, in any object with a buffer.
    """
    if not isinstance(exc, OSError):
        checked_timeout(timeout)
        return InvalidArgument(str(exc), errno=errno.EINVAL, op=op, target=target)
    if closed:
        return closed_handle(op, target)
    code = exc.errno or errno.EIO
    if code == errno.EBADF and access:
        message = f"the handle was opened {access}"
        return AccessDenied(message, errno=code, op=op, target=target)
    sending = op == "mq_send"
    message = hint = ""
    if code == errno.EAGAIN:
        message = "the queue is full" if sending else "no message waits"
    elif code == errno.ETIMEDOUT and sending:
        message = f"the queue was full for {timeout} s"
    elif code == errno.ETIMEDOUT:
        message = f"no message came within {timeout} s"
    elif code == errno.EMSGSIZE:
        size = memoryview(data).nbytes
        message = f"a message of {size:,} bytes exceeds the queue's max_size ({max_size})"
        hint = f"create the queue with max_size={size} or more"
    return from_errno(code, op=op, target=target, message=message, hint=hint)


def _no_memory_or_descriptors(max_messages: int, max_size: int) -> tuple[str, str]:
    """Return which of its two limits EMFILE stands for, and what helps."""
    if descriptors_exhausted():
        return _no_descriptors()
    charge = mqueue_charge(max_messages, max_size)
    message = (
        f"the queue needs {charge:,} bytes; with them, the user's queues would exceed "
        f"RLIMIT_MSGQUEUE ({soft_limit(resource.RLIMIT_MSGQUEUE)})"
    )
    return message, "create a smaller queue, unlink others, or raise the limit with ulimit -q"


def _no_descriptors() -> tuple[str, str]:
    limit = soft_limit(resource.RLIMIT_NOFILE)
    message = f"the process has all the descriptors that RLIMIT_NOFILE ({limit}) allows"
    return message, "close some, or raise the limit with ulimit -n"


def _owner_and_mode(name: Name) -> str:
    # The queue itself can't be asked without opening it. Its file can, if mqueue is mounted.
    try:
        found = _MOUNTED.joinpath(name[1:]).stat()
    except OSError:
        return ""
    return f": the owner is {user_name(found.st_uid)}, the mode {found.st_mode & 0o777:04o}"
