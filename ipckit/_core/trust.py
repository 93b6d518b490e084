"""Trust: `open_or_create` refuses an object of another user, unless the caller accepts that user.

Any user can create an object of any name or key. A user who creates it first, with a mode that lets
others open it, can change its contents. A process that expects its own object would then read what
the other user wrote, and with pickle run that user's code.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit._core.arguments import int_argument
from ipckit._core.limits import user_name
from ipckit.errors import AccessDenied, InvalidArgument

if TYPE_CHECKING:
    from ipckit._core.sysv import Status

_UID_END: Final = 2**32 - 1  # the kernel's value for "no user"
# The owner is trusted, so only the rights of the group and of others are checked.
_OTHERS: Final = 0o077


@dataclass(frozen=True, slots=True)
class Trust:
    """The owner and the mode of objects that a call accepts.

    Args:
        owner_uid: a user whose objects are accepted, besides the caller's effective user and
            root.
        mode: the most rights that the group and others may have; None for any rights.

    Raises:
        TypeError: `owner_uid` is not an int.
        InvalidArgument: `owner_uid` is out of range.
    """

    owner_uid: int | None = None
    mode: int | None = None

    def __post_init__(self) -> None:
        uid = self.owner_uid
        if uid is None:
            return
        uid = int_argument("owner_uid", uid, "an int or None")
        if not 0 <= uid < _UID_END:
            message = f"owner_uid must be 0 to {_UID_END - 1}, not {uid}"
            raise InvalidArgument(message, errno=errno.EINVAL)

    def check_file(self, fd: int, *, op: str, target: str) -> None:
        """Check the owner and the mode of an open file.

        Raises:
            AccessDenied: another user owns it, or its mode gives more rights.
        """
        found = os.fstat(fd)
        self._check((found.st_uid,), found.st_mode, op, target)

    def check_sysv(self, found: Status, *, op: str, target: str) -> None:
        """Check a System V object.

        Raises:
            AccessDenied: another user owns it, or its mode gives more rights.
        """
        # After IPC_SET has changed the owner, the creator still has the owner's rights.
        self._check((found.uid, found.cuid), found.mode, op, target)

    def _check(self, uids: tuple[int, ...], mode: int, op: str, target: str) -> None:
        own = os.geteuid()
        mode &= 0o777
        for who, uid in zip(("owner", "creator"), uids, strict=False):
            if uid not in {own, 0, self.owner_uid}:
                message = f"the {who} is {user_name(uid)}, the mode {mode:04o}, and this process "
                message += f"runs as {user_name(own)}"
                hint = f"pass owner_uid={uid} to accept it, if that user may choose its contents"
                raise AccessDenied(message, errno=errno.EACCES, op=op, target=target, hint=hint)
        if self.mode is not None and mode & ~self.mode & _OTHERS:
            message = f"the owner is {user_name(uids[0])}, the mode {mode:04o}, which gives more "
            message += f"rights than the requested {self.mode:04o}"
            hint = f"pass mode=0o{mode:o} to accept it, if other users may have these rights"
            raise AccessDenied(message, errno=errno.EACCES, op=op, target=target, hint=hint)
