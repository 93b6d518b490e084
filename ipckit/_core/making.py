"""The loop of every `open_or_create`, which other processes may run at the same time."""

from __future__ import annotations

import errno
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

from ipckit.errors import AlreadyExists, NotFound, Removed, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._core.deadline import Deadline

H = TypeVar("H")

# The default timeout of every `open_or_create`, in seconds.
PATIENCE: Final = 1.0


def find_or_make(
    make: Callable[[], H | None],
    find: Callable[[], H],
    deadline: Deadline,
    *,
    op: str,
    target: str,
    removed: str = "unlinked",
) -> H:
    """Create an object, or open the existing one.

    Args:
        make: creates it, or raises AlreadyExists. Removed, or the result None, means that another
            process removed the new object. NotFound is passed on: a directory is missing.
        find: opens it, or raises NotFound or Removed.
        deadline: when to give up. Both functions are called at least twice.
        op: the system call, for the error.
        target: the object, for the error.
        removed: the verb for the removal, for the error.

    Returns:
        The result of `make` or `find`.

    Raises:
        Timeout: other processes created and removed the object until the deadline.
    """
    # Try once more after the deadline: `find` may have removed an object whose creator had died,
    # and then `make` can succeed.
    for _ in chain(deadline.looks(), (None,)):
        try:
            made = make()
        except (AlreadyExists, Removed):
            made = None
        if made is not None:
            return made
        try:
            return find()
        except (NotFound, Removed):
            pass
    message = f"other processes repeatedly created and {removed} it"
    raise Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target)
