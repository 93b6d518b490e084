"""`open_or_create`: find an object, or make it, while other processes make and remove it too."""

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
    """Make an object, or find the one that is there.

    Args:
        make: makes it, or raises AlreadyExists. Removed, or None as its result, says that another
            process removed the object meanwhile. NotFound is an error: there is no place for it.
        find: finds it, or raises NotFound or Removed.
        deadline: when to give up. Both are tried twice at least.
        op: the system call, for the error.
        target: the object, for the error.
        removed: what others do to it, for the error.

    Raises:
        Timeout: other processes made and removed it until the deadline.
    """
    # Once more after the deadline: what `find` removed, because its maker died, is to be made.
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
