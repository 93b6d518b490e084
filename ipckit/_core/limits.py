"""Read limits of the kernel and of this process, for errors and reports that name them."""

from __future__ import annotations

import os
import pwd
import resource
from pathlib import Path
from typing import Final

# mq_open charges this for each message, in addition to its text: the sizes of struct msg_msg and
# struct posix_msg_tree_node on a 64-bit kernel.
_MQ_MESSAGE_OVERHEAD: Final = 48 + 48


def sysctl(name: str) -> int | None:
    """Return the value of a sysctl such as ``kernel.msgmax``; None if it can't be read."""
    path = Path("/proc/sys") / name.replace(".", "/")
    try:
        return int(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def described(name: str) -> str:
    """Return a sysctl with its value: ``kernel.msgmax (8192)``."""
    value = sysctl(name)
    return name if value is None else f"{name} ({value})"


def mqueue_charge(max_messages: int, max_size: int) -> int:
    """Return the bytes that a POSIX queue counts against RLIMIT_MSGQUEUE; see getrlimit(2)."""
    return max_messages * (max_size + _MQ_MESSAGE_OVERHEAD)


def soft_limit(which: int) -> str:
    """Return a soft resource limit as text: its value, or ``unlimited``."""
    soft, _ = resource.getrlimit(which)
    return "unlimited" if soft == resource.RLIM_INFINITY else str(soft)


def descriptors_exhausted() -> bool:
    """Return whether this process has no free descriptor below RLIMIT_NOFILE."""
    try:
        descriptor = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(descriptor)
    return False


def user_name(uid: int) -> str:
    """Return a user for messages: ``amy (uid 1000)``, or ``uid 1000`` if it has no name."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
