"""Receive a process table from a System V queue by message type, and print it.

$ python scripts/demo_consumer.py 1234        # `make demo` creates the queue and runs this
    PID  COMMAND          ST   CPU s  RESIDENT KiB
   4711  python           R     0.05         12345
...
"""

from __future__ import annotations

import os
from typing import Final

from _common import key_argument, plain_errors, shown
from _process_table import MESSAGES, KernelThread, Process, Summary

from ipckit import SysVMessageQueue

_SHOWN: Final = 15


def main() -> None:
    """Receive processes first, then kernel threads, then the summary that ends the table."""
    processes: list[Process] = []
    threads: list[KernelThread] = []
    key = key_argument((__doc__ or "").partition("\n")[0])
    with plain_errors(), SysVMessageQueue.open(key, MESSAGES) as queue:
        while True:
            # Receive the lowest type first. The summary has the highest type and is sent last, so
            # nothing follows it.
            match queue.receive(-max(MESSAGES)).value:
                case Process() as process:
                    processes.append(process)
                case KernelThread() as thread:
                    threads.append(thread)
                case Summary() as summary:
                    break
        print(f"{'PID':>7}  {'COMMAND':<16} {'ST':<2} {'CPU s':>9}  {'RESIDENT KiB':>12}")
        processes.sort(key=lambda each: each.resident, reverse=True)
        for each in processes[:_SHOWN]:
            size = each.resident // 1024
            comm = shown(each.comm)  # a process can choose any name
            print(f"{each.pid:>7}  {comm:<16} {each.state:<2} {each.cpu:>9.2f}  {size:>12,}")
        busiest = max(threads, key=lambda each: each.cpu, default=None)
        print(f"and {len(processes) - len(processes[:_SHOWN])} smaller processes, ", end="")
        print(f"{len(threads)} kernel threads", end="")
        print(f" (most cpu: {shown(busiest.comm)}, {busiest.cpu:.2f} s)" if busiest else "")
        print(f"consumer {os.getpid()}: received {len(processes) + len(threads)} of ", end="")
        print(f"{summary.processes + summary.threads} records, {summary.uptime:,.0f} s after boot")


if __name__ == "__main__":
    main()
