"""The shared memory that a process touches, in whole pages: proc(5), clear_refs and smaps."""

from __future__ import annotations

from pathlib import Path

_OWN = Path("/proc/self")


def forget_touched() -> None:
    """Clear the kernel's record of the pages that this process touched."""
    (_OWN / "clear_refs").write_text("1")


def touched() -> int:
    """Return the bytes of shared memory that this process touched since `forget_touched`."""
    total = 0
    shared = False
    for line in (_OWN / "smaps").read_text().splitlines():
        first, second, *_ = line.split()
        if not first.endswith(":"):  # a mapping starts: its addresses and permissions
            shared = second.endswith("s")
        elif shared and first == "Referenced:":
            total += int(second) * 1024
    return total
