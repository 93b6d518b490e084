"""The exceptions of sysv_ipc and posix_ipc, turned into ipckit's.

Both packages drop the errno of the commonest failures and keep a class and a
sentence; this is the one place that reads them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

import posix_ipc
import sysv_ipc

from ipckit.errors import from_errno

if TYPE_CHECKING:
    from ipckit.errors import IpcError

PEER_ERRORS: Final = (sysv_ipc.Error, posix_ipc.Error, OSError, ValueError, MemoryError)

_ERRNO_OF_OSERROR: Final = {
    "Insufficient space": errno.ENOSPC,
    "system limit for": errno.ENOSPC,
    "process already has": errno.EMFILE,
    "system limit on": errno.ENFILE,
}


def errno_of(exc: BaseException, *, creating: bool = False) -> int:
    """The errno behind an exception of sysv_ipc or posix_ipc.

    Args:
        exc: the exception.
        creating: whether the call was to create the object, so that an existential error
            means that it exists, and not that it is missing.
    """
    if isinstance(exc, (sysv_ipc.PermissionsError, posix_ipc.PermissionsError)):
        return errno.EACCES
    if isinstance(exc, (sysv_ipc.ExistentialError, posix_ipc.ExistentialError)):
        return errno.EEXIST if creating else errno.ENOENT
    if isinstance(exc, MemoryError):
        return errno.ENOMEM
    if isinstance(exc, OSError):
        if exc.errno:
            return exc.errno
        for text, code in _ERRNO_OF_OSERROR.items():
            if text in str(exc):
                return code
    return errno.ENAMETOOLONG if "too long" in str(exc) else errno.EINVAL


def from_peer(
    exc: BaseException,
    *,
    op: str,
    target: str,
    creating: bool = False,
    message: str = "",
    hint: str = "",
) -> IpcError:
    """The `IpcError` for an exception of sysv_ipc or posix_ipc."""
    code = errno_of(exc, creating=creating)
    return from_errno(code, op=op, target=target, message=message, hint=hint)
