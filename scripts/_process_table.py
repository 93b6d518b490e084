"""The records of the demonstration, and where they come from: this machine's /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit import Char, Double, Int, Struct, ULong

if TYPE_CHECKING:
    from collections.abc import Iterator

_KERNEL_THREAD: Final = 0x00200000  # PF_KTHREAD of the flags in /proc/PID/stat


class Process(Struct):
    """A process: cpu is in seconds, resident in bytes."""

    pid: Int
    comm: Char[16]
    state: Char[4]
    cpu: Double
    resident: ULong


class KernelThread(Struct):
    """A thread of the kernel, which has no memory of its own; cpu is in seconds."""

    pid: Int
    comm: Char[16]
    state: Char[4]
    cpu: Double


class Summary(Struct):
    """What was sent; uptime is in seconds."""

    processes: Int
    threads: Int
    uptime: Double


MESSAGES: Final = {1: Process, 2: KernelThread, 3: Summary}


def sample() -> Iterator[Process | KernelThread]:
    """Every process of this moment; one that ends meanwhile is left out."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="surrogateescape")
        except OSError:
            continue
        # The name stands in parentheses and may itself hold some.
        comm, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        cpu = (int(fields[11]) + int(fields[12])) / ticks
        if int(fields[6]) & _KERNEL_THREAD:
            # Workers of the kernel carry longer names here than a process may.
            yield KernelThread(int(entry.name), comm[:15], fields[0], cpu)
        else:
            yield Process(int(entry.name), comm[:15], fields[0], cpu, int(fields[21]) * page)
