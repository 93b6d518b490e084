"""The exceptions of the bindings sysv_ipc and posix_ipc, turned into ipckit's.

The bindings drop the errno of the most frequent failures and raise a class of their own, from which
`errno_of` gets it back. Of some failures of msgget, mq_open and sem_open only a sentence says which
it was. So ipckit makes those calls itself, in the extension.
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
    """The errno behind an exception of sysv_ipc or posix_ipc, for calls that create nothing."""
    if isinstance(exc, (sysv_ipc.PermissionsError, posix_ipc.PermissionsError)):
        return errno.EACCES
    if isinstance(exc, (sysv_ipc.ExistentialError, posix_ipc.ExistentialError)):
        return errno.ENOENT
    if isinstance(exc, MemoryError):
        return errno.ENOMEM
    # A ValueError is about a name or an id that the kernel refuses.
    return (isinstance(exc, OSError) and exc.errno) or errno.EINVAL


def from_binding(exc: BaseException, *, op: str, target: str) -> IpcError:
    """The `IpcError` for an exception of sysv_ipc or posix_ipc.

    Args:
        exc: one of `BINDING_ERRORS`, raised by a call that creates nothing.
        op: the system call.
        target: the object.
    """
    return from_errno(errno_of(exc), op=op, target=target)
