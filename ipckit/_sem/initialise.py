"""How a semaphore set gets its values: once, by whoever comes first."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.arguments import int_argument
from ipckit._native import SemOp
from ipckit._sem.errors import op_error
from ipckit._sem.stat import SETS, semaphore_limits
from ipckit.errors import InvalidArgument, WouldBlock, from_errno

if TYPE_CHECKING:
    from ipckit._core.deadline import Deadline

# Longer than a maker that lives needs from semget to semop: seconds.
MAKER_GRACE: Final = 1.0


def checked_values(values: Sequence[int]) -> list[int]:
    """The values of semaphores, or TypeError or InvalidArgument for what can't be theirs."""
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        message = f"values is a sequence of ints, not {type(values).__name__}"
        raise TypeError(message)
    highest = semaphore_limits().semvmx
    checked = [int_argument("a semaphore's value", value) for value in values]
    for value in checked:
        if not 0 <= value <= highest:
            message = f"value {value} is out of range; a semaphore takes 0 to {highest}"
            raise InvalidArgument(message, errno=errno.ERANGE)
    if not checked:
        message = "a set has 1 semaphore or more"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return checked


def initialise(set_id: int, values: list[int]) -> None:
    """Give a fresh set its values by one semop; for the process that made it, and no other.

    A second process could not tell a fresh set from one whose semaphores are all taken: both are
    zeros. Fresh semaphores are 0 on Linux: where one is not, a program of another kind has
    given them values. The semop also sets sem_otime, which tells others. Zeros alone, which add
    nothing, anybody may give.
    """
    target = SETS.named(set_id, None)
    tested = range(len(values)) if any(values) else range(1)
    added = [(index, value) for index, value in enumerate(values) if value]
    limits = semaphore_limits()
    if len(tested) + len(added) <= limits.semopm:
        vector = [SemOp(index, 0, nowait=True) for index in tested]
        vector += [SemOp(index, value) for index, value in added]
        try:
            native.sem_ops(set_id, vector, 0)
        except OSError as exc:
            error = op_error(set_id, target, exc, vector, 0, closed=False)
            if not isinstance(error, WouldBlock):
                raise error from None
        return
    # More than a vector can do: the older protocol, SETALL and then a semop for sem_otime.
    vector = [SemOp(0, 1), SemOp(0, -1)]
    if values[0] == limits.semvmx:
        vector.reverse()
    try:
        native.sem_setall(set_id, values)
        native.sem_ops(set_id, vector, 0)
    except OSError as exc:
        raise op_error(set_id, target, exc, vector, 0, closed=False) from None


def is_initialised(set_id: int) -> bool:
    """Whether anybody has given the set its values: by a semop, or by SETVAL or SETALL."""
    found = SETS.find(set_id)
    if found is None:
        raise from_errno(errno.EIDRM, op="semctl", target=SETS.named(set_id, None))
    if found.otime:
        return True
    try:
        # SETVAL and SETALL leave their pid, but not in sem_otime; and no pid where that is of
        # another PID namespace.
        return any(native.sem_getall(set_id)) or any(
            native.sem_get(set_id, i, native.GETPID) for i in range(found.nsems)
        )
    except PermissionError:
        return True  # without the right to read, nothing more can be known
    except OSError as exc:
        raise SETS.error(exc, set_id, SETS.named(set_id, None)) from None


def await_initialised(set_id: int, deadline: Deadline) -> None:
    """Wait until somebody has given the set its values, or the deadline has passed."""
    for _ in deadline.looks():
        if is_initialised(set_id):
            return
