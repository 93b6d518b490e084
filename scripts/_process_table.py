"""The records of the demonstration, read from this machine's /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit import Char, Double, Int, Struct, ULong

if TYPE_CHECKING:
    from collections.abc import Iterator

_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD, in the flags of /proc/PID/stat


class Process(Struct):
    """A process; cpu is in seconds, resident in bytes."""

    pid: Int
    comm: Char[16]
    state: Char[4]
    cpu: Double
    resident: ULong


class KernelThread(Struct):
    """A kernel thread, which has no memory of its own; cpu is in seconds."""

    pid: Int
    comm: Char[16]
    state: Char[4]
    cpu: Double


class Summary(Struct):
    """The number of records sent; uptime is in seconds."""

    processes: Int
    threads: Int
    uptime: Double


MESSAGES: Final = {1: Process, 2: KernelThread, 3: Summary}


def sample() -> Iterator[Process | KernelThread]:
    """Yield every process that runs now, except those that exit before they are read."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="surrogateescape")
        except OSError:
            continue
        # The name is in parentheses, and may contain parentheses.
        comm, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        cpu = (int(fields[11]) + int(fields[12])) / ticks
        if int(fields[6]) & _KERNEL_THREAD:
            # Kernel workers have longer names here than a process can have.
            yield KernelThread(int(entry.name), comm[:15], fields[0], cpu)
        else:
            yield Process(int(entry.name), comm[:15], fields[0], cpu, int(fields[21]) * page)
