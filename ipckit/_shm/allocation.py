"""Allocation of shared memory: all of it when it is created, or an error that says what is full."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._core.arguments import int_argument
from ipckit._core.limits import soft_limit
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from ipckit.errors import IpcError

# Smaller sizes are not checked: reading /proc/meminfo takes longer than allocating them.
_CHECKED_FROM: Final = 1 << 24
_SIZE_END: Final = 2**63 - 2**20


def checked_size(size: int | None) -> int:
    """Return the size of memory to create, in bytes.

    Raises:
        TypeError: it is missing, or not an integer.
        InvalidArgument: it is below 1, or more than an address space can contain.
    """
    size = int_argument("size", size, "an int (bytes)")
    if not 1 <= size < _SIZE_END:
        message = f"size must be 1 byte or more, not {size}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return size


def check_memory(size: int, target: str) -> None:
    """Refuse a size that exceeds the machine's free memory and swap.

    Without this check, posix_fallocate(3) of a memfd continues until the kernel's OOM killer ends
    processes.

    Raises:
        LimitReached: fewer bytes are available; the message has the number.
    """
    if size < _CHECKED_FROM:
        return
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        facts = {name: int(rest.split()[0]) for name, _, rest in (x.partition(":") for x in lines)}
        free = 1024 * (facts["MemAvailable"] + facts["SwapFree"])
    except (OSError, KeyError, ValueError):
        return
    if size > free:
        message = f"no memory for {size:,} bytes: {free:,} are available"
        raise from_errno(errno.ENOMEM, op="posix_fallocate", target=target, message=message)


def allocate(fd: int, size: int, target: str, hint: str = "") -> None:
    """Allocate the first bytes of a file, so that no later access finds the file system full.

    Args:
        fd: the file.
        size: bytes.
        target: the object, for messages.
        hint: what to do if the file system is full.

    Raises:
        LimitReached: the file system is full, or a quota or RLIMIT_FSIZE forbids it; the message
            has the free space.

    See posix_fallocate(3).
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as exc:
        raise _allocation_error(exc.errno or errno.EIO, fd, size, target, hint) from None


def _allocation_error(code: int, fd: int, size: int, target: str, hint: str) -> IpcError:
    message = ""
    if code in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}:
        system = os.fstatvfs(fd)
        free = system.f_bavail * system.f_frsize
        message = f"no room for {size:,} bytes: {free:,} are free"
        code = errno.ENOSPC if code == errno.EDQUOT else code
    else:
        hint = ""
    if code == errno.EFBIG:
        limit = soft_limit(resource.RLIMIT_FSIZE)
        message = f"{size:,} bytes exceed RLIMIT_FSIZE ({limit}) or the file system's largest file"
        code = errno.ENOSPC
    return from_errno(code, op="posix_fallocate", target=target, message=message, hint=hint)
