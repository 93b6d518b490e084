"""One owner for each descriptor, so that it is closed exactly once.

Between two calls of close(2) another thread can open a file that gets the same number; the second
call would close that file. So each factory puts the descriptor that it opens into a `Descriptor`,
and passes that to the handle. If a step fails, the factory and the handle close the same
`Descriptor`, and only the first call reaches the kernel.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import TYPE_CHECKING, Any, TypeVar

from ipckit._core.arguments import int_argument
from ipckit._core.limits import soft_limit
from ipckit.errors import InvalidArgument, IpcError, from_errno

if TYPE_CHECKING:
    from collections.abc import Callable

_FD_END = 2**31


class Descriptor:
    """An open descriptor that is closed once: by `close`, or when this object is deleted.

    Args:
        number: the descriptor.
        owned: whether this object closes it; True by default. False for a descriptor that the
            caller lends, which stays open.

    Attributes:
        owned: as the argument; it can be changed.
    """

    __slots__ = ("__weakref__", "_number", "owned")

    def __init__(self, number: int, *, owned: bool = True) -> None:
        self._number = number
        self.owned = owned

    @property
    def number(self) -> int:
        """The descriptor; -1 once it is closed."""
        return self._number

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._number < 0

    def close(self) -> None:
        """Close the descriptor if this object owns it; idempotent, never raises."""
        # The number is cleared first. If a signal handler raises in between, a descriptor is lost;
        # in the other order a second close could close another file.
        number, self._number = self._number, -1
        if self.owned and number >= 0:
            close_quietly(number)

    def __del__(self) -> None:
        # If a signal handler interrupted the constructor, the attributes may be missing.
        if getattr(self, "owned", False):
            self.close()


D = TypeVar("D", bound=Descriptor)
H = TypeVar("H")


def handed_over(lent: D, make: Callable[[D], H]) -> H:
    """Create a handle for a descriptor of the caller, which the handle then owns.

    Args:
        lent: the caller's descriptor, not owned. If this fails, the caller still owns it, open.
        make: creates the handle.
    """
    number = lent.number
    try:
        made = make(lent)
        if lent.closed:
            close_quietly(number)  # a subclass's constructor closed its handle
        else:
            os.set_inheritable(number, False)  # noqa: FBT003 - the library's signature
            lent.owned = True
        return made  # noqa: TRY300 - an exception here too closes the socket
    except BaseException:
        lent.owned = False
        raise


def reopened(duplicate: int, make: Callable[[int], H]) -> H:
    """Create a handle from the descriptor of a pickle, and close the descriptor if this fails.

    Args:
        duplicate: a descriptor that no other code uses.
        make: a class's `from_fd`.
    """
    try:
        return make(duplicate)
    except BaseException:
        close_quietly(duplicate)
        raise


def close_quietly(number: int) -> None:
    """Close a descriptor; ignore errors, such as that it is closed already."""
    try:  # noqa: SIM105 - contextlib.suppress may be gone when the interpreter ends
        os.close(number)
    except OSError:
        pass


def checked_fd(fd: int) -> int:
    """Check the number of a descriptor.

    Raises:
        TypeError: it is not an int.
        InvalidArgument: it is out of range.
    """
    fd = int_argument("fd", fd)
    if not 0 <= fd < _FD_END:
        message = f"a descriptor must be 0 to {_FD_END - 1}, not {fd}"
        raise InvalidArgument(message, errno=errno.EBADF)
    return fd


def identity(fd: int) -> tuple[int, int]:
    """Return the device and inode of a descriptor's file."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def descriptor_error(
    code: int, *, op: str, target: str = "", message: str = "", hint: str = ""
) -> IpcError:
    """Create the error of a call that opens a descriptor. For EMFILE it names the limit.

    Args:
        code: the errno of the call.
        op: the call.
        target: the object.
        message: what is wrong, if the errno is not EMFILE.
        hint: what to do about it, if the errno is not EMFILE.
    """
    if code == errno.EMFILE:
        limit = soft_limit(resource.RLIMIT_NOFILE)
        message = f"the process has all the descriptors that RLIMIT_NOFILE ({limit}) allows"
        hint = "close some descriptors, or raise the limit with ulimit -n"
    return from_errno(code, op=op, target=target, message=message, hint=hint)


def duplicate_for_child(fd: int) -> Any:
    """Return an object whose pickle gives the other process a duplicate of a descriptor."""
    # Imported here: it takes longer than all of ipckit, and few programs pickle a descriptor.
    from multiprocessing import reduction  # noqa: PLC0415

    return reduction.DupFd(fd)


def is_spawning() -> bool:
    """Return whether multiprocessing is pickling objects for a child that it is about to start."""
    from multiprocessing.context import get_spawning_popen  # noqa: PLC0415

    return get_spawning_popen() is not None
