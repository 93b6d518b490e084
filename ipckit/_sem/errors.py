"""What a failed call on a semaphore set means: which operation, and which limit."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import ipckit._native as native
from ipckit._core.deadline import checked_timeout
from ipckit._core.handle import closed_handle
from ipckit._sem.stat import SETS, semaphore_limits
from ipckit.errors import InvalidArgument, IpcError, LimitReached, from_errno

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._native import SemOp
    from ipckit.keys import Key


def get_set(key: Key, count: int, flags: int) -> int:
    """The id that semget gives for a key, or the error that says what to do."""
    try:
        return native.semget(int(key), count, flags)
    except OSError as exc:
        code = exc.errno or errno.EIO
    error = from_errno(code, op="semget", target=SETS.named(None, key))
    limits = semaphore_limits()
    if code == errno.ENOENT:
        error.strerror = "no such set"
        error.hint = f"make it with SysVSemaphoreSet.create({key}, values)"
    elif code == errno.EEXIST:
        error.strerror = "the set exists already"
        error.hint = f"find it with SysVSemaphoreSet.open({key}), or use open_or_create"
    elif code == errno.EINVAL:
        message = f"{count} semaphores exceed the {limits.semmsl} of a set"
        return_hint = "kernel.sem, the first number"
        raise LimitReached(message, errno=code, op="semget", target=error.target, hint=return_hint)
    elif code == errno.ENOSPC:
        error.strerror = (
            f"the system has all the sets ({limits.semmni}) or semaphores ({limits.semmns}) "
            "that kernel.sem allows"
        )
        error.hint = "remove some with ipcrm, or as root raise the sysctl"
    elif code == errno.EACCES:
        error.strerror = "permission denied"
    raise error


def op_error(
    set_id: int,
    target: str,
    exc: OSError | ValueError,
    ops: Sequence[SemOp],
    timeout: float | None,
    *,
    closed: bool,
) -> IpcError:
    """What a failed semop means."""
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
        message = f"{_shown(ops)} releases what only a parent of this process took"
        hint = "only the process that took it can release it"
    elif code in {errno.EIDRM, errno.EINVAL}:
        code, message = errno.EIDRM, "the set was removed"
        if not ops:
            code, message = errno.EINVAL, "the vector has no operations"
    elif code == errno.EAGAIN:
        message = f"{_shown(ops)} can't be done now"
    elif code == errno.ETIMEDOUT:
        message = f"{_shown(ops)} could not be done within {timeout} s"
    elif code == errno.E2BIG:
        limit = semaphore_limits().semopm
        message = f"a vector of {len(ops)} operations exceeds the {limit} of kernel.sem"
        hint = "as root raise the third number of kernel.sem, or split the vector"
    elif code == errno.EFBIG:
        message = _out_of_set(set_id, ops)
    elif code == errno.ERANGE:
        message, hint = _out_of_range(set_id, ops)
    return from_errno(code, op="semop", target=target, message=message, hint=hint)


def _shown(ops: Sequence[SemOp]) -> str:
    return repr(ops[0]) if len(ops) == 1 else f"the vector {list(ops)}"


def _out_of_set(set_id: int, ops: Sequence[SemOp]) -> str:
    found = SETS.find(set_id)  # which takes no right to read
    count = 0 if found is None else found.nsems
    for place, op in enumerate(ops):
        if found is not None and op.index >= count:
            return f"operation {place}, {op!r}: the set has semaphores 0 to {count - 1}"
    return "an operation names a semaphore beyond the set"


def _out_of_range(set_id: int, ops: Sequence[SemOp]) -> tuple[str, str]:
    """Which operation left a range: the value's, or else the process's undo count's."""
    limits = semaphore_limits()
    try:
        values = native.sem_getall(set_id)
    except OSError:
        return f"a value or this process's undo count would leave ±{limits.semvmx}", ""
    for place, op in enumerate(ops):
        if op.index < len(values):
            values[op.index] += op.delta
            if values[op.index] > limits.semvmx:
                message = f"operation {place}, {op!r}: the value would be {values[op.index]}"
                return f"{message}, above {limits.semvmx}", ""
    place = next((place for place, op in enumerate(ops) if op.undo), 0)
    message = (
        f"operation {place}, {ops[place]!r}: this process's undo count would leave ±{limits.semaem}"
    )
    return message, "undo is for locks: acquire and release both with it, in one process"
