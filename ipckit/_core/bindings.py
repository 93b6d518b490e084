"""Map the exceptions of the bindings sysv_ipc and posix_ipc to `IpcError`.

For the most frequent failures, the bindings raise classes without an errno; `errno_of` derives the
errno from the class. For some failures of msgget, mq_open and sem_open, only the text of the
exception differs. So the extension of ipckit makes those calls itself.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import posix_ipc
import sysv_ipc

from ipckit.errors import from_errno

if TYPE_CHECKING:
    from ipckit.errors import IpcError

BINDING_ERRORS: Final = (sysv_ipc.Error, posix_ipc.Error, OSError, ValueError, MemoryError)


def errno_of(exc: BaseException) -> int:
    """Return the errno for an exception of sysv_ipc or posix_ipc; for calls that create nothing."""
    if isinstance(exc, (sysv_ipc.PermissionsError, posix_ipc.PermissionsError)):
        return errno.EACCES
    if isinstance(exc, (sysv_ipc.ExistentialError, posix_ipc.ExistentialError)):
        return errno.ENOENT
    if isinstance(exc, MemoryError):
        return errno.ENOMEM
    # A ValueError is about a name or an id that the kernel refuses.
    return (isinstance(exc, OSError) and exc.errno) or errno.EINVAL


def from_binding(exc: BaseException, *, op: str, target: str) -> IpcError:
    """Create the `IpcError` for an exception of sysv_ipc or posix_ipc.

    Args:
        exc: one of `BINDING_ERRORS`, raised by a call that creates nothing.
        op: the system call.
        target: the object.
    """
    return from_errno(errno_of(exc), op=op, target=target)
