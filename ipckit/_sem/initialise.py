"""How a semaphore set gets its initial values, so that no process sees a set without them."""

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

# Seconds. A live creator needs less time between its semget and its semop.
CREATOR_GRACE: Final = 1.0


def checked_values(values: Sequence[int]) -> list[int]:
    """Return the initial values of a set as a list.

    Raises:
        TypeError: `values` is not a sequence of ints.
        InvalidArgument: a value is out of range, or there are no values.
    """
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        message = f"values must be a sequence of ints, not {type(values).__name__}"
        raise TypeError(message)
    highest = semaphore_limits().semvmx
    checked = [int_argument("a semaphore's value", value) for value in values]
    for value in checked:
        if not 0 <= value <= highest:
            message = f"a semaphore's value must be 0 to {highest}, not {value}"
            raise InvalidArgument(message, errno=errno.ERANGE)
    if not checked:
        message = "values must not be empty: a set has 1 semaphore or more"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return checked


def initialise(set_id: int, values: list[int]) -> None:
    """Set the values of a new set by one semop. Only the process that created the set may do so.

    Another process could not distinguish a new set from one whose semaphores are all taken: both
    are zeros. Linux creates semaphores with the value 0. The call therefore does nothing if a
    value is not 0: another program has initialised the set. The semop also sets sem_otime, which
    shows other processes that the set is ready. Zeros add nothing, so any process may set them.

    Args:
        set_id: the set's identifier.
        values: as `checked_values` returns them, one for each semaphore.
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
    # Too many for one semop. The older protocol is SETALL, then a semop that sets sem_otime.
    vector = [SemOp(0, 1), SemOp(0, -1)]
    if values[0] == limits.semvmx:
        vector.reverse()
    try:
        native.sem_setall(set_id, values)
        native.sem_ops(set_id, vector, 0)
    except OSError as exc:
        raise op_error(set_id, target, exc, vector, 0, closed=False) from None


def is_initialised(set_id: int) -> bool:
    """Return whether a process has set the values, by semop, SETVAL or SETALL.

    Raises:
        Removed: the set was removed.
    """
    found = SETS.find(set_id)
    if found is None:
        raise from_errno(errno.EIDRM, op="semctl", target=SETS.named(set_id, None))
    if found.otime:
        return True
    try:
        # SETVAL and SETALL don't set sem_otime, but the semaphore's pid. That is 0 if the process
        # is in another PID namespace.
        return any(native.sem_getall(set_id)) or any(
            native.sem_get(set_id, i, native.GETPID) for i in range(found.nsems)
        )
    except PermissionError:
        return True  # without read permission there is no way to tell
    except OSError as exc:
        raise SETS.error(exc, set_id, SETS.named(set_id, None)) from None


def await_initialised(set_id: int, deadline: Deadline) -> None:
    """Wait until a process has set the values, or until the deadline.

    Raises:
        Removed: the set was removed.
    """
    for _ in deadline.looks():
        if is_initialised(set_id):
            return
