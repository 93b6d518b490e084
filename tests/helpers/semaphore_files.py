"""Where the C library keeps POSIX semaphores."""

from __future__ import annotations

from pathlib import Path

import ipckit._native as native
from ipckit._core.files import SHM


def semaphore_file(name: str) -> Path:
    """Return the path of a semaphore's file."""
    return Path(SHM, native.SEM_FILE_PREFIX + name[1:])
