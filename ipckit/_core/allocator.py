"""The allocator of the C library, in a process that copies one long message after another."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# From malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LONGEST: Final = 32 << 20  # the largest value that glibc accepts for M_MMAP_THRESHOLD
_KEPT: Final = 64 << 20
_SET_BY_USER: Final = ("GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def keep_freed_memory() -> None:
    """Let glibc keep up to 64 MiB of memory that the process has freed, for the next messages.

    By default, glibc soon returns the memory of long messages to the kernel. Then each message
    costs page faults, in which the kernel clears the new pages: bridges carry 1 MiB messages 30 %
    slower.

    Call this only in a program, not in a library: it changes the allocator of the whole process. A
    C library without mallopt, such as musl, and an environment that sets glibc's thresholds, are
    left as they are.

    See also: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in os.environ for name in _SET_BY_USER):
        return
    # Both, because setting one ends the automatic adjustment of the other.
    mallopt(_M_MMAP_THRESHOLD, _LONGEST)
    mallopt(_M_TRIM_THRESHOLD, _KEPT)
