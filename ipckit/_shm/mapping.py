"""Mapping a file into this process, and what this process has mapped of each file.

Shrinking a file under a mapping is fatal: the next access to a byte that the file no longer has
kills the process with SIGBUS. So this module records, for every live
mapping, which file it maps and how many bytes of that file it needs.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import ipckit._native as native
from ipckit._core.descriptors import identity
from ipckit._core.forks import at_fork
from ipckit._core.limits import described
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from ipckit.errors import IpcError

SHARED: Final = mmap.MAP_SHARED
PRIVATE: Final = mmap.MAP_PRIVATE
READ: Final = mmap.PROT_READ
READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE

_NO_FILE: Final = (0, 0)


class _Extent(NamedTuple):
    """The part of a file that a mapping needs.

    Attributes:
        file: its device and inode; `_NO_FILE` for anonymous memory.
        end: the size that the file must at least have.
    """

    file: tuple[int, int]
    end: int


# Every mapping of this process that may still be accessed. After its handle is closed, a mapping
# stays here while views of it exist.
_LIVE_MAPPINGS: Final[weakref.WeakKeyDictionary[native.Mapping, _Extent]] = (
    weakref.WeakKeyDictionary()
)

# A thread acquires it to map a file and to shrink one, so that no thread maps bytes while another
# thread removes them.
MAPPING_LOCK: Final = threading.RLock()
at_fork(
    "mappings",
    before=MAPPING_LOCK.acquire,
    after_in_parent=MAPPING_LOCK.release,
    after_in_child=MAPPING_LOCK.release,
)


def mapping_at(address: int) -> native.Mapping | None:
    """Return the open mapping that starts at an address; None if there is none."""
    mappings = (reference() for reference in _LIVE_MAPPINGS.keyrefs())
    return next(
        (each for each in mappings if each and not each.closed and each.address == address), None
    )


def size_needed(file: tuple[int, int]) -> int:
    """Return the size that a file must keep for this process's open mappings and for views.

    Args:
        file: its device and inode.
    """
    # By reference: iterating over the dictionary fails if another thread adds a mapping.
    mappings = (reference() for reference in _LIVE_MAPPINGS.keyrefs())
    extents = (
        _LIVE_MAPPINGS.get(each) for each in mappings if each and (each.exports or not each.closed)
    )
    return max((extent.end for extent in extents if extent and extent.file == file), default=0)


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
    """Map bytes of a file; all of them must be inside the file.

    Args:
        fd: the file; -1 for anonymous memory.
        size: bytes.
        protection: `READ` or `READ_WRITE`.
        flags: `SHARED` or `PRIVATE`, with MAP_ANONYMOUS if `fd` is -1.
        target: the object, for messages.
        offset: bytes from the start of the file.
        hint: how the caller of the public method can ask for fewer rights.

    Raises:
        InvalidArgument: the file is shorter.
        AccessDenied: the descriptor's access mode or a seal forbids it.
        LimitReached: no address space is left.

    See mmap(2).
    """
    try:
        with MAPPING_LOCK:
            mapping = native.mmap(fd, offset, size, protection, flags)
            file = _NO_FILE if fd < 0 else identity(fd)
            _LIVE_MAPPINGS[mapping] = _Extent(file, offset + size)
            return mapping
    except ValueError as exc:
        raise InvalidArgument(str(exc), errno=errno.EINVAL, op="mmap", target=target) from None
    except OSError as exc:
        code = exc.errno or errno.EIO
    if code == errno.EFBIG:
        length = os.fstat(fd).st_size
        message = f"{size:,} bytes from {offset:,} on reach past the end of the file ({length:,})"
        raise InvalidArgument(message, errno=errno.EINVAL, op="mmap", target=target)
    raise _mmap_error(code, size, target, hint)


def _mmap_error(code: int, size: int, target: str, hint: str) -> IpcError:
    message = ""
    if code in {errno.EACCES, errno.EPERM}:
        message = "the descriptor's access mode or a seal forbids this mapping"
        return from_errno(code, op="mmap", target=target, message=message, hint=hint)
    if code == errno.ENOMEM:
        limit = described("vm.max_map_count")
        message = f"no address space for {size:,} bytes, or the process has {limit} mappings"
    return from_errno(code, op="mmap", target=target, message=message)


def populate(mapping: native.Mapping) -> None:
    """Enter all pages of a new mapping in this process's page table at once.

    The pages are allocated already. A page fault for each of them takes more than twice as long as
    filling it. Only the creator of the memory does this, because it fills the memory; other
    processes may access only a part of it.

    See madvise(2), MADV_POPULATE_WRITE.
    """
    with suppress(OSError):  # before Linux 5.14
        native.madvise(mapping, 0, mapping.size, native.MADV_POPULATE_WRITE)
