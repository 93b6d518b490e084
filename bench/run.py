"""Measure ipckit beside its peers, print a table, and write bench/results/latest.json.

$ make bench
"""

from __future__ import annotations

import json
import os
import platform
from itertools import chain
from pathlib import Path

import msgq
import sem
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
    for row in chain(msgq.rows(), sem.rows()):
        print(row.text(), flush=True)
        rows.append(row.as_json())
    print("share of one core while nothing comes:", flush=True)
    waits: dict[str, float] = {}
    for what, share in msgq.waiting_costs():
        print(f"  {what:<34} {share:8.3%}", flush=True)
        waits[what] = share
    results = Path(__file__).parent / "results" / "latest.json"
    results.parent.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), "rows": rows, "waiting": waits}, indent=1)
    results.write_text(text + "\n")


if __name__ == "__main__":
    main()
