"""How a failed semget or semop becomes an exception that names the operation and the limit."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.handle import closed_handle
from ipckit._core.taken import UNKNOWN, Use, exists, last_users
from ipckit._sem.stat import SETS, semaphore_limits
from ipckit.errors import InvalidArgument, IpcError, LimitReached, from_errno

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._native import SemOp
    from ipckit.keys import Key


def exists_error(key: Key, noun: str = "set", class_name: str = "SysVSemaphoreSet") -> IpcError:
    """Return the error of `create` for a key that a set has already.

    Args:
        key: the key.
        noun: the word for the object that the caller wanted to create.
        class_name: the class whose `create` failed.
    """
    message, hint = exists(noun, class_name, f"{int(key):#x}", _use(key))
    target = SETS.named(None, key)
    return from_errno(errno.EEXIST, op="semget", target=target, message=message, hint=hint)


def _use(key: Key) -> Use:
    """Return whether a process waits on the set of a key, and whether its last users run."""
    try:
        set_id = native.semget(int(key), 0, 0)
        found = SETS.find(set_id)
        if found is None:
            return UNKNOWN
        numbers = range(found.nsems)
        waits = (native.GETNCNT, native.GETZCNT)
        if any(native.sem_get(set_id, index, count) for index in numbers for count in waits):
            return Use(held=True, evidence="a process waits on it")
        return last_users({native.sem_get(set_id, index, native.GETPID) for index in numbers} - {0})
    except OSError:
        return UNKNOWN


def get_error(code: int, key: Key, count: int) -> IpcError:
    """Return the error for a failed semget.

    Args:
        code: the errno.
        key: the key that semget was called with.
        count: the number of semaphores that semget was called with.
    """
    target = SETS.named(None, key)
    message = hint = ""
    if code == errno.ENOENT:
        message = "no such set"
        hint = f"create it with SysVSemaphoreSet.create({key}, values)"
    elif code == errno.EEXIST:
        return exists_error(key)
    elif code == errno.EINVAL:
        message = f"{count} semaphores exceed the {semaphore_limits().semmsl} of a set"
        hint = "as root raise the first number of kernel.sem"
        return LimitReached(message, errno=code, op="semget", target=target, hint=hint)
    elif code == errno.ENOSPC:
        limits = semaphore_limits()
        message = (
            f"the system has reached the limit of {limits.semmni} sets or of {limits.semmns} "
            "semaphores (kernel.sem)"
        )
        hint = "remove unused sets with ipcrm, or as root raise kernel.sem"
    elif code == errno.EACCES:
        message = "permission denied"
    return from_errno(code, op="semget", target=target, message=message, hint=hint)


def op_error(
    set_id: int,
    target: str,
    exc: OSError | ValueError,
    ops: Sequence[SemOp],
    timeout: float | None,
    *,
    closed: bool,
    blocked: str = "",
    expired: str = "",
) -> IpcError:
    """Return the error for a failed semop.

    Args:
        set_id: the set's identifier.
        target: the set, for the message.
        exc: what the native call raised; a ValueError is about an argument.
        ops: the operations of the call.
        timeout: the timeout of the call, in seconds.
        closed: whether the set's handle was closed.
        blocked: the message for WouldBlock, if it is not about `ops`.
        expired: the message for Timeout, if it is not about `ops`.
    """
    if not isinstance(exc, OSError):
        checked_timeout(timeout)
        return InvalidArgument(str(exc), errno=errno.EINVAL, op="semop", target=target)
    if closed:
        return closed_handle("semop", target)
    code = exc.errno or errno.EIO
    if code == errno.EACCES:
        return SETS.denied(set_id, target, op="semop")
    message = hint = ""
    if code == errno.EPERM:
        message = f"{_shown(ops)} would release what only a parent of this process acquired"
        hint = "only the process that acquired it can release it"
    elif code in {errno.EIDRM, errno.EINVAL}:
        code, message = errno.EIDRM, "the set was removed"
        if not ops:
            code, message = errno.EINVAL, "the call has no operations"
    elif code == errno.EAGAIN:
        message = blocked or f"{_shown(ops)} cannot be done now"
    elif code == errno.ETIMEDOUT:
        message = expired or f"{_shown(ops)} could not be done within {timeout} s"
    elif code == errno.E2BIG:
        limit = semaphore_limits().semopm
        message = f"{len(ops)} operations in one call exceed the {limit} of kernel.sem"
        hint = "as root raise the third number of kernel.sem, or split the call"
    elif code == errno.EFBIG:
        message = _out_of_set(set_id, ops)
    elif code == errno.ERANGE:
        message, hint = _out_of_range(set_id, ops)
    return from_errno(code, op="semop", target=target, message=message, hint=hint)


def _shown(ops: Sequence[SemOp]) -> str:
    return repr(ops[0]) if len(ops) == 1 else f"the operations {list(ops)}"


def _out_of_set(set_id: int, ops: Sequence[SemOp]) -> str:
    """Return which operation names a semaphore that the set does not have."""
    found = SETS.find(set_id)  # needs no read permission
    count = 0 if found is None else found.nsems
    for place, op in enumerate(ops):
        if found is not None and op.index >= count:
            return f"operation {place}, {op!r}: the set has semaphores 0 to {count - 1}"
    return "an operation names a semaphore that the set does not have"


def _out_of_range(set_id: int, ops: Sequence[SemOp]) -> tuple[str, str]:
    """Return a message and a hint: which operation exceeds the value's range, or the undo count's.

    semop(2) returns ERANGE for both.
    """
    limits = semaphore_limits()
    try:
        values = native.sem_getall(set_id)
    except OSError:
        return f"a value or this process's undo count would exceed ±{limits.semvmx}", ""
    for place, op in enumerate(ops):
        if op.index < len(values):
            values[op.index] += op.delta
            if values[op.index] > limits.semvmx:
                message = f"operation {place}, {op!r}: the value would be {values[op.index]}"
                return f"{message}, above {limits.semvmx}", ""
    place = next((place for place, op in enumerate(ops) if op.undo), 0)
    message = f"operation {place}, {ops[place]!r}: "
    message += f"this process's undo count would exceed ±{limits.semaem}"
    return message, "pass undo to both acquire and release, in one process"
