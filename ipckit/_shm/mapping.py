"""Room for shared memory in a file system: allocated for good, or refused with the reason."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.descriptors import identity
from ipckit._core.forks import at_fork
from ipckit._core.limits import described, soft_limit
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from ipckit.errors import IpcError

SHARED: Final = mmap.MAP_SHARED
PRIVATE: Final = mmap.MAP_PRIVATE
READ: Final = mmap.PROT_READ
READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_LARGE: Final = 1 << 24  # below it a look at /proc/meminfo costs more than it tells
MADV_POPULATE_WRITE: Final = 23  # Linux 5.14; Python has no name for it


# Every mapping of a file in this process that may still be looked at, with the file and how far
# into it the mapping reaches: what must not be cut off. Views keep a mapping here after its handle
# was closed.
_LIVE: Final[weakref.WeakKeyDictionary[native.Mapping, tuple[tuple[int, int], int]]] = (
    weakref.WeakKeyDictionary()
)

# Held while a mapping is made, and while a file is cut: nobody maps what is just being cut off.
GUARD: Final = threading.RLock()
at_fork(
    "mappings",
    before=GUARD.acquire,
    after_in_parent=GUARD.release,
    after_in_child=GUARD.release,
)


def mapping_at(address: int) -> native.Mapping | None:
    """The open mapping of a file, or of no file, that starts at an address."""
    known = (reference() for reference in _LIVE.keyrefs())
    return next(
        (each for each in known if each and not each.closed and each.address == address), None
    )


def reach(file: tuple[int, int]) -> int:
    """How far this process's open mappings, and its views of closed ones, reach into a file."""
    # By references: another thread may map something while this looks.
    known = [(each, _LIVE.get(each)) for ref in _LIVE.keyrefs() if (each := ref()) is not None]
    return max(
        (
            noted[1]
            for each, noted in known
            if noted is not None and noted[0] == file and (each.exports or not each.closed)
        ),
        default=0,
    )


def check_memory(size: int, target: str) -> None:
    """Refuse what the machine's memory and swap can't hold.

    posix_fallocate of a memfd goes on until the kernel kills processes for want of memory.

    Raises:
        LimitReached: fewer bytes are available; the message has how many.
    """
    if size < _LARGE:
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
    """Give a file its bytes for good, so that no later touch finds the file system full.

    Raises:
        LimitReached: the file system, a quota or RLIMIT_FSIZE has no room; the message has the
            free space.

    See posix_fallocate(3).
    """
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as exc:
        raise _no_room(exc.errno or errno.EIO, fd, size, target, hint) from None


def _no_room(code: int, fd: int, size: int, target: str, hint: str) -> IpcError:
    error = from_errno(code, op="posix_fallocate", target=target)
    if code in {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}:
        system = os.fstatvfs(fd)
        free = system.f_bavail * system.f_frsize
        error = from_errno(
            errno.ENOSPC if code == errno.EDQUOT else code,
            op="posix_fallocate",
            target=target,
            message=f"no room for {size:,} bytes: {free:,} are free",
            hint=hint,
        )
    elif code == errno.EFBIG:
        limit = soft_limit(resource.RLIMIT_FSIZE)
        error = from_errno(
            errno.ENOSPC,
            op="posix_fallocate",
            target=target,
            message=f"{size:,} bytes exceed RLIMIT_FSIZE ({limit}), or the most of the file system",
        )
    return error


def map_file(
    fd: int,
    size: int,
    protection: int,
    flags: int,
    target: str,
    *,
    offset: int = 0,
    hint: str = "readonly=True asks for less",
) -> native.Mapping:
    """A mapping of a file's bytes, all of which the file has at this moment.

    Args:
        fd: the file; -1 for none.
        size: bytes.
        protection: PROT_READ and PROT_WRITE.
        flags: MAP_SHARED or MAP_PRIVATE.
        target: the object, for messages.
        offset: bytes from the start of the file.
        hint: how the caller of the public method can ask for fewer rights.

    Raises:
        InvalidArgument: the file is shorter.
        AccessDenied: the descriptor does not allow it, or a seal forbids it.
        LimitReached: no address space is left.

    See mmap(2).
    """
    try:
        with GUARD:
            mapping = native.mmap(fd, offset, size, protection, flags)
            _LIVE[mapping] = ((0, 0) if fd < 0 else identity(fd), offset + size)
            return mapping
    except ValueError as exc:
        raise InvalidArgument(str(exc), errno=errno.EINVAL, op="mmap", target=target) from None
    except OSError as exc:
        code = exc.errno or errno.EIO
    message = ""
    if code == errno.EFBIG:
        length = os.fstat(fd).st_size
        message = f"{size:,} bytes from {offset:,} on reach past the end of the file ({length:,})"
        raise InvalidArgument(message, errno=errno.EINVAL, op="mmap", target=target)
    if code == errno.ENOMEM:
        limit = described("vm.max_map_count")
        message = f"no address space for {size:,} bytes, or the process has {limit} mappings"
    elif code in {errno.EACCES, errno.EPERM}:
        message = "the descriptor's mode or a seal forbids such a mapping"
    refused = code in {errno.EACCES, errno.EPERM}
    raise from_errno(code, op="mmap", target=target, message=message, hint=hint if refused else "")


def populate(mapping: native.Mapping) -> None:
    """Enter a new mapping's pages in this process's page table at once.

    They are allocated already, and taking a fault for each costs more than twice as much as
    filling them. Only who makes memory does so: it fills it, whereas others may look at little.

    See madvise(2), MADV_POPULATE_WRITE.
    """
    with suppress(OSError):  # a kernel before 5.14
        native.madvise(mapping, 0, mapping.size, MADV_POPULATE_WRITE)
