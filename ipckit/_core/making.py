"""`open_or_create`: open or create an object that other processes create and remove too."""

from __future__ import annotations

import errno
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

from ipckit.errors import AlreadyExists, NotFound, Removed, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._core.deadline import Deadline

H = TypeVar("H")

# The default of every `open_or_create`: seconds.
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
        make: creates the object, or raises AlreadyExists. It raises Removed or returns None if
            another process removed the new object at once. NotFound is an error: the directory for
            the object is missing.
        find: opens the object, or raises NotFound or Removed.
        deadline: when to give up. Both functions are called at least twice.
        op: the system call, for the error.
        target: the object, for the error.
        removed: what other processes do to the object, for the error.

    Raises:
        Timeout: other processes created and removed the object until the deadline.
    """
    # One more round after the deadline, because `find` may have removed the object of a process
    # that died while it created it.
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
    message = f"it keeps being made and {removed}"
    raise Timeout(message, errno=errno.ETIMEDOUT, op=op, target=target)
