"""Measure ipckit beside its peers, print a table, and write bench/results/latest.json.

$ make bench
"""

from __future__ import annotations

import json
import os
import platform
from itertools import chain
from pathlib import Path

import aio
import echo
import msgq
import sem
import shm
import unixsock
from harness import HEADING


def machine() -> str:
    """What this was measured on, in one line."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return (
        f"{cpu}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def main() -> None:
    """Measure everything, showing each row as it comes."""
    print(machine())
    print(HEADING, flush=True)
    rows: list[dict[str, object]] = []
    every = (msgq.rows(), shm.rows(), sem.rows(), unixsock.rows(), echo.rows(), aio.rows())
    for row in chain.from_iterable(every):
        print(row.text(), flush=True)
        rows.append(row.as_json())
    print("share of one core while nothing comes:", flush=True)
    waits: dict[str, float] = {}
    for what, share in chain(msgq.waiting_costs(), aio.waiting_costs()):
        print(f"  {what:<34} {share:8.3%}", flush=True)
        waits[what] = share
    print("what a second process's memory grows by, in KiB:", flush=True)
    grown: dict[str, dict[str, int]] = {}
    for what, touched, resident, own in shm.memory_costs():
        print(f"  {what:<46} touched {touched:>6}, mapped {resident:>6}, own {own:>4}", flush=True)
        grown[what] = {"touched": touched, "mapped": resident, "own": own}
    results = Path(__file__).parent / "results" / "latest.json"
    results.parent.mkdir(exist_ok=True)
    figures = {"machine": machine(), "rows": rows, "waiting": waits, "memory_kib": grown}
    text = json.dumps(figures, indent=1)
    results.write_text(text + "\n")


if __name__ == "__main__":
    main()
